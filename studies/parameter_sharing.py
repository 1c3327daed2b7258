"""A convolution against layers that share no parameters, by the number of training images."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from statistics import median

import torch
import torch.nn.functional as F
from endings import held_out
from leads import ahead, all_above, by_seed, differences, minus, told
from seeing import few_images, held_out_images, logits, taken, trained_on
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study
from torch import Tensor, nn

from glassrun.look.sharing_study import KINDS, made, moved
from glassrun.look.stored import select
from glassrun.run import Run

CLAIM = Claim(
    name="parameter_sharing",
    exhibit="parameter-sharing",
    text="With few training images, a convolution is more accurate on held-out images than layers of as many units "
    "that share no parameters, locally or fully connected.",
    source='LeCun 1989, "Generalization and Network Design Strategies", section 4; Goodfellow et al. 2016, section 9.2',
)
SIZES: tuple[int | None, ...] = (100, 300, 1000, None)  # None: all
LAYERS, SIZE = "layers", "training images"
ACCURACY, MOVED, GAP = "held-out accuracy", "accuracy, moved by a pixel", "gap to training accuracy"
PARAMETERS = "parameters"
STEP_TIME, INFERENCE_TIME = "training step, in the convolution's", "inference, in the convolution's"
_REPEATS = 31
_TIMED = 64  # images


def trial(layers: str, size: int | None) -> Trial:
    overrides = {
        "model": {"import": "image_variants:sharing_network", "layers": layers},
        "optimizer": {"kind": "adam", "lr": 2e-3},
        "batch.shards": 1,
        "train.steps": 300,
    }
    return Trial(
        {LAYERS: layers, SIZE: "all" if size is None else size}, "digits-cnn", overrides, prepare=few_images(size)
    )


def measure(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:
    assert run is not None, "every trial trains"
    count, asked = len(run.dataset.splits["train"]), trial.setting[SIZE]
    if asked != "all" and count < float(asked):  # more than there are: the same as all
        return
    training, accuracy = trained_on(run).accuracy, held_out(run, "accuracy")
    moved_accuracy, parameters = None, None
    if run.status == "complete":
        parameters = sum(parameter.numel() for parameter in run.model.parameters())
        images, labels = held_out_images(run)
        found = [logits(run.model, moved(images, *shift)).argmax(-1) for shift in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        moved_accuracy = sum(float((after == labels).double().mean()) for after in found) / len(found)
    values: dict[str, float | None] = {
        ACCURACY: accuracy,
        MOVED: moved_accuracy,
        GAP: minus(training, accuracy),
        PARAMETERS: parameters,
    }
    if asked == "all":
        step, inference = times(str(trial.setting[LAYERS]), run, seed)
        # Data of just as many images as another setting asks for have been measured there.
        values = ({} if count in SIZES else values) | {STEP_TIME: step, INFERENCE_TIME: inference}
    yield {SIZE: count}, values


def times(layers: str, run: Run, seed: int) -> tuple[float, float]:
    """Of a training step and of inference on a batch, in units of the convolution's.

    Both networks take turns, and medians are taken, so that what else the machine does counts for both alike.
    """
    images, labels = taken(run.dataset.splits["train"], _TIMED)
    facts = run.dataset.facts
    shape = facts["in_channels"], facts["image_height"], facts["image_width"]
    models = [made(kind, shape, facts["num_classes"], seed) for kind in (layers, "convolution")]
    optimizers = [torch.optim.Adam(model.parameters(), lr=1e-4) for model in models]
    training: list[list[float]] = [[], []]
    inference: list[list[float]] = [[], []]
    for _ in range(_REPEATS):
        for place, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            training[place].append(_seconds_of_step(model, optimizer, images, labels))
            inference[place].append(_seconds_of_inference(model, images))
    (own_step, step), (own_inference, once) = (map(median, found) for found in (training, inference))
    return own_step / step, own_inference / once


def _seconds_of_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """Forward, backward and update."""
    begin = time.perf_counter()
    F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    seconds = time.perf_counter() - begin
    optimizer.zero_grad()
    return seconds


@torch.no_grad()
def _seconds_of_inference(model: nn.Module, images: Tensor) -> float:
    begin = time.perf_counter()
    model(images)
    return time.perf_counter() - begin


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """Supported where the convolution is more accurate than both others in every seed, with the fewest images.

    The accuracy is that on held-out images as they are. What it is on moved ones, and with the most images, is told
    and decides nothing; nor do times.
    """
    sizes = sorted({float(found.setting[SIZE]) for found in measurements})
    least, most = sizes[0], sizes[-1]
    others = [kind for kind in KINDS if kind != "convolution"]

    def leads(value: str, size: float) -> list[list[float | None]]:
        first = {LAYERS: "convolution", SIZE: size}
        return [differences(measurements, value, first, {LAYERS: kind, SIZE: size}) for kind in others]

    def words(value: str, size: float) -> str:
        found = zip(others, leads(value, size), strict=True)
        return " and ".join(f"{ahead(values, scale=100)} over {kind}" for kind, values in found)

    gaps = ", ".join(
        f"{told(list(by_seed(measurements, GAP, {LAYERS: kind, SIZE: least}).values()), scale=100)} ({kind})"
        for kind in KINDS
    )
    return Verdict(
        all(map(all_above, leads(ACCURACY, least))),
        f"with {least:g} images the convolution leads by {words(ACCURACY, least)} points of accuracy, with {most:g} by "
        f"{words(ACCURACY, most)}; on images moved by a pixel with {least:g} by {words(MOVED, least)}; the gap between "
        f"training and held-out accuracy with {least:g} is {gaps}; {_costs(measurements)}",
    )


def _costs(measurements: Sequence[Measurement]) -> str:
    """Parameters, and times beside the convolution's."""

    def of(kind: str, value: str) -> list[float | None]:
        return select(measurements, value, {LAYERS: kind})

    parts = []
    for kind in KINDS:
        known = [number for number in of(kind, PARAMETERS) if number is not None]
        count = f"{known[0]:,.0f} parameters" if known else "parameters not known"
        parts.append(f"{kind} {count}, a step {told(of(kind, STEP_TIME))}, inference {told(of(kind, INFERENCE_TIME))}")
    return "in times of the convolution's: " + "; ".join(parts)


if __name__ == "__main__":
    run_study(
        CLAIM,
        [trial(layers, size) for size in SIZES for layers in KINDS],
        measure,
        judge,
        [
            *(Panel(value, SIZE, LAYERS, log_x=True, percent=True) for value in (ACCURACY, MOVED, GAP)),
            Panel(PARAMETERS, LAYERS, log_y=True),
            *(Panel(value, LAYERS) for value in (STEP_TIME, INFERENCE_TIME)),
        ],
        trained="Two layers of 16 maps, each with max pooling, and a linear classifier, on the digits, 300 steps. "
        "How far times can be trusted is seen in those of the convolution, which is timed against itself",
    )
