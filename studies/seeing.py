"""What a network says of images: held-out ones, those it was trained on, and some of a few."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from image_variants import cross_entropy_and_accuracy
from numpy.typing import NDArray
from torch import Tensor, nn

from glassrun import config
from glassrun.config import Recipe
from glassrun.data.pixels import LabelledImages
from glassrun.errors import ConfigError
from glassrun.keys import derive
from glassrun.run import Run
from glassrun.tasks.base import logits_of
from glassrun.train.state import load_data, seed_of

_BATCH = 256
MOST = 2000  # images of a part that a study looks at itself


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy and accuracy over some images; None where there is no number."""

    loss: float | None
    accuracy: float | None


def trained_on(run: Run) -> Score:
    """On training images, in evaluation mode, without augmentation."""
    if run.status != "complete":
        return Score(None, None)
    images, labels = taken(run.dataset.splits["train"], MOST)
    loss, accuracy = cross_entropy_and_accuracy(logits(run.model, images), labels)
    return Score(loss if np.isfinite(loss) else None, accuracy)


def shares(run: Run) -> Tensor:
    """The share of each class among the training images: Float[classes]."""
    split = run.dataset.splits["train"]
    labels = torch.from_numpy(split.labels[split.indices])
    return torch.bincount(labels, minlength=len(split.classes)).double() / len(labels)


def held_out_images(run: Run, most: int = MOST) -> tuple[Tensor, Tensor]:
    """Normalised images Float[images, channels, height, width] that were not trained on, and their classes."""
    splits = [split for name, split in run.dataset.splits.items() if name != "train"]
    total = sum(map(len, splits))
    # Of each part its share, so that at most so many come out.
    parts = [taken(split, max(1, len(split) * min(most, total) // total)) for split in splits]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def taken(split: LabelledImages, most: int) -> tuple[Tensor, Tensor]:
    """Images of a split, spread evenly over it (a folder is in the order of its classes), and their classes."""
    count = min(most, len(split))
    examples = [split.example(place * len(split) // count, 0) for place in range(count)]
    images = torch.from_numpy(np.stack([example["image"] for example in examples]))
    return images, torch.tensor([example["label"] for example in examples])


@torch.no_grad()
def logits(model: nn.Module, images: Tensor, forward: Callable[[Tensor], Any] | None = None) -> Tensor:
    """Of all images: Float[images, classes]; by `forward` in place of the model where it is given."""
    called = forward or model
    return torch.cat([logits_of(called(images[at : at + _BATCH])) for at in range(0, len(images), _BATCH)])


# --- fewer training images -------------------------------------------------------------------------------------------


def few_images(count: int | None) -> Callable[[Recipe, Path], Recipe]:
    """For `Trial.prepare`: the recipe on that many of its training images, or all; the held-out ones stay the same.

    Which ones follows from the recipe's seed alone, so that networks can be compared by seed. Every class has one at
    least. The images are written as idx files.

    Arguments:
        count: of training images; None for all. A data set that has fewer is taken as it is.
    """

    def prepare(recipe: Recipe, place: Path) -> Recipe:
        dataset = load_data(recipe)
        if dataset.encoding.target != "class" or dataset.facts["num_classes"] > 256:
            raise ConfigError(f"recipe {recipe.name}: images are chosen by their classes; expected at most 256 of them")
        place.mkdir(parents=True, exist_ok=True)
        data: dict[str, Any] = {"source": "images", "augment": recipe.plain()["data"].get("augment", [])}
        for name, split in dataset.splits.items():
            labels = split.labels[split.indices]
            chosen = range(len(split))
            if name == "train" and count is not None:
                chosen = _some(labels, count, derive(seed_of(recipe), "training images"))
            paths = [place / f"{name}-{kind}" for kind in ("images", "labels")]
            write_idx(paths[0], np.stack([split.raw(index) for index in chosen]))
            write_idx(paths[1], labels[list(chosen)].astype(np.uint8))
            data["path" if name == "train" else name] = ",".join(map(str, paths))
        return config.validate(recipe.plain() | {"data": data}, recipe.name)

    return prepare


def _some(labels: NDArray[np.int64], count: int, seed: int) -> Sequence[int]:
    """So many places in a random order, the first of every class among them."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist()
    first = list({int(labels[index]): index for index in reversed(order)}.values())
    others = [index for index in order if index not in set(first)]
    return sorted([*first, *others][: max(count, len(first))])


def write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    """An idx file of unsigned bytes (see `glassrun.data.idx`); grey images lose their axis of channels."""
    if values.ndim == 4 and values.shape[1] == 1:
        values = values[:, 0]
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(header + np.ascontiguousarray(values).tobytes())
