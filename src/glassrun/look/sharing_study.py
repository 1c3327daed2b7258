"""Three small networks that differ in one thing: whether places share parameters, and whether each sees all places."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from glassrun.keys import derive
from glassrun.nn.initialisation import Draw, initialise, norm_or_bias, normal
from glassrun.nn.locally_connected import LocallyConnected
from glassrun.threads import one_thread

KINDS = ("convolution", "locally connected", "fully connected")
CHANNELS = 16
_KERNEL_SIZE = 3
_BATCH = 50
_LEARNING_RATE = 2e-3
_ONE_PIXEL = ((1, 0), (-1, 0), (0, 1), (0, -1))
_TIMED_STEPS = 15


@dataclass(frozen=True)
class Examples:
    """Images Float[images, channels, height, width] and their classes Int64[images]."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Study:
    """What was found.

    Attributes:
        sizes: how many images were trained on.
        accuracies: by test and kind of layer, Float[seeds, sizes], from 0 to 1.
        parameters: of both layers of that kind, without the classifier, which is the same for all.
        times: seconds of a training step in units of the convolution's, measured on this machine.
    """

    sizes: tuple[int, ...]
    accuracies: Mapping[str, Mapping[str, NDArray[np.float64]]]
    parameters: Mapping[str, int]
    times: Mapping[str, float]


class SmallNetwork(nn.Module):
    """Two layers of one kind, each with a ReLU and max pooling over 2 × 2, and a linear classifier.

    Arguments:
        kind: one of `KINDS`. A convolution of 3 × 3 has one kernel for all places, a locally connected layer a kernel
            for each place, and a fully connected one sees all places at once. All make as many maps of the same size.
        shape: of an image, (channels, height, width).
        classes: how many.
    """

    def __init__(self, kind: str, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.layers = nn.ModuleList(
            [_layer(kind, channels, (height, width)), _layer(kind, CHANNELS, (height // 2, width // 2))]
        )
        self.classify = nn.Linear(CHANNELS * (height // 4) * (width // 4), classes)

    def forward(self, image: Tensor) -> Tensor:
        """The logits of every class: Float[batch, classes]."""
        maps = image
        for layer in self.layers:
            maps = F.max_pool2d(F.relu(layer(maps)), 2)
        logits: Tensor = self.classify(maps.flatten(1))
        return logits

    def start(self, name: str, parameter: nn.Parameter) -> Draw | float:
        """Normal with variance 2 / fan_in (He et al. 2015); biases 0."""
        if name.endswith("bias"):
            return norm_or_bias(name)
        fan_in = parameter[0, 0].numel() if parameter.ndim == 5 else parameter[0].numel()
        return normal((2.0 / fan_in) ** 0.5)


def _layer(kind: str, channels: int, size: tuple[int, int]) -> nn.Module:
    padding = _KERNEL_SIZE // 2
    if kind == "convolution":
        return nn.Conv2d(channels, CHANNELS, _KERNEL_SIZE, padding=padding)
    if kind == "locally connected":
        return LocallyConnected(channels, CHANNELS, size, _KERNEL_SIZE, padding=padding)
    places = size[0] * size[1]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * places, CHANNELS * places), nn.Unflatten(1, (CHANNELS, *size))
    )


def made(kind: str, shape: tuple[int, int, int], classes: int, seed: int) -> SmallNetwork:
    """A network whose start follows from the seed and the names of its parameters."""
    with torch.random.fork_rng(devices=[]):  # torch's layers draw a start of their own, which is replaced
        model = SmallNetwork(kind, shape, classes)
    initialise(model, seed, model.start)
    return model


def train(model: nn.Module, examples: Examples, *, steps: int, seed: int) -> None:
    """Adam on batches that are drawn with replacement by the seed; the model is changed in place."""
    optimizer = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
    for step in range(steps):
        generator = torch.Generator().manual_seed(derive(seed, "batch", step))
        chosen = torch.randint(len(examples.labels), (_BATCH,), generator=generator)
        loss = F.cross_entropy(model(examples.images[chosen]), examples.labels[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, examples: Examples, shifts: Sequence[tuple[int, int]] = ((0, 0),)) -> float:
    """The share of images that are told right, over all shifts (rows down, columns right; see `moved`)."""
    right = [model(moved(examples.images, *shift)).argmax(-1) == examples.labels for shift in shifts]
    return float(torch.stack(right).double().mean())


def moved(images: Tensor, rows: int, columns: int) -> Tensor:
    """Images moved down and right, or up and left below zero; what is new has the value of the first pixel."""
    height, width = images.shape[-2:]
    out = images[..., :1, :1].expand_as(images).clone()
    down, right = max(rows, 0), max(columns, 0)
    up, left = max(-rows, 0), max(-columns, 0)
    out[..., down : height - up, right : width - left] = images[..., up : height - down, left : width - right]
    return out


def study(
    training: Examples,
    test: Examples,
    *,
    sizes: Sequence[int],
    seeds: Sequence[int],
    steps: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Study:
    """Train every kind on every number of images with every seed, and test it on images as they are and moved a pixel.

    Arguments:
        training: of which the first so many, in an order that follows from the seed, are trained on.
        test: held out.
        sizes, seeds, steps: of the trainings.
        tell: called with what goes on.
    """
    tests = {"test images": ((0, 0),), "test images, moved by a pixel": _ONE_PIXEL}
    found = {name: {kind: np.zeros((len(seeds), len(sizes))) for kind in KINDS} for name in tests}
    channels, height, width = training.images.shape[1:]
    classes = int(training.labels.max()) + 1
    parameters, times = {}, {}
    with one_thread():
        for kind in KINDS:
            tell(f"training {len(sizes) * len(seeds)} networks of {kind} layers")
            for (row, seed), (column, size) in ((s, z) for s in enumerate(seeds) for z in enumerate(sizes)):
                model = made(kind, (channels, height, width), classes, seed)
                train(model, _some(training, size, seed), steps=steps, seed=seed)
                for name, shifts in tests.items():
                    found[name][kind][row, column] = accuracy(model, test, shifts)
            parameters[kind] = sum(parameter.numel() for parameter in model.layers.parameters())
            times[kind] = _seconds(model, training)
    ratios = {kind: seconds / times["convolution"] for kind, seconds in times.items()}
    return Study(tuple(sizes), found, parameters, ratios)


def _some(examples: Examples, count: int, seed: int) -> Examples:
    generator = torch.Generator().manual_seed(derive(seed, "training images"))
    chosen = torch.randperm(len(examples.labels), generator=generator)[:count]
    return Examples(examples.images[chosen], examples.labels[chosen])


def _seconds(model: nn.Module, examples: Examples) -> float:
    """The median time of a forward and a backward pass of one batch; the parameters stay."""
    times = []
    for _ in range(_TIMED_STEPS):
        begin = time.perf_counter()
        loss = F.cross_entropy(model(examples.images[:_BATCH]), examples.labels[:_BATCH])
        loss.backward()  # type: ignore[no-untyped-call]
        times.append(time.perf_counter() - begin)
    return median(times)
