"""Augmentation: training images that are other in each epoch, each a pure function of (seed, epoch, example).

The operations work on normalised images, Float32[channels, height, width]. What comes in from outside an image is
black, which has another value in each channel: `ground`, Float32[channels, 1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassrun.data.encoding import ImageEncoding
from glassrun.data.source import Dataset, Split
from glassrun.errors import ConfigError
from glassrun.keys import derive
from glassrun.sections.augment import Augmentation, Crop, Cutout, Flip, Mixup, Shift

Image = NDArray[np.float32]
MIXED = "mixed"  # the field of an example that is to be mixed with the next: its own share


def flip(image: Image) -> Image:
    """Left and right exchanged.

    >>> flip(np.array([[[1, 2, 3]]], dtype=np.float32)).tolist()
    [[[3.0, 2.0, 1.0]]]
    """
    return image[:, :, ::-1]


def shift(image: Image, down: int, right: int, ground: Image) -> Image:
    """Moved by so many rows and columns, up and left where negative.

    >>> shift(np.array([[[1, 2, 3]]], dtype=np.float32), 0, 1, np.zeros((1, 1, 1), dtype=np.float32)).tolist()
    [[[0.0, 1.0, 2.0]]]
    """
    _, height, width = image.shape
    down, right = min(max(down, -height), height), min(max(right, -width), width)
    moved = np.broadcast_to(ground, image.shape).astype(np.float32)
    moved[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = image[
        :, max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
    ]
    return moved


def crop_reflected(image: Image, padding: int, top: int, left: int) -> Image:
    """The window of the image's own size that begins at (top, left) of the image with `padding` mirrored pixels around.

    >>> crop_reflected(np.array([[[1, 2, 3]] * 3], dtype=np.float32), 1, 0, 0)[0].tolist()
    [[2.0, 1.0, 2.0], [2.0, 1.0, 2.0], [2.0, 1.0, 2.0]]
    """
    _, height, width = image.shape
    around = np.pad(image, ((0, 0), (padding, padding), (padding, padding)), mode="reflect")
    return around[:, top : top + height, left : left + width]


def cutout(image: Image, size: int, row: int, column: int) -> Image:
    """A square around a pixel set to zero, the mean colour; what lies outside the image is cut off.

    DeVries & Taylor 2017, section 3. The square reaches from (row − size // 2, column − size // 2) over `size` pixels.

    >>> cutout(np.ones((1, 3, 3), dtype=np.float32), 2, 0, 1)[0].tolist()
    [[0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    top, left = row - size // 2, column - size // 2
    cut = image.copy()
    cut[:, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0.0
    return cut


def mixup(
    images: Image, labels: NDArray[np.int64], shares: NDArray[np.float32], classes: int
) -> tuple[Image, NDArray[np.float32]]:
    """Each example mixed with the next of the slice, the last with the first (Zhang et al. 2018, equation 1).

        x̃ᵢ = λᵢ xᵢ + (1 − λᵢ) xᵢ₊₁        ỹᵢ = λᵢ yᵢ + (1 − λᵢ) yᵢ₊₁

    The paper draws one λ a batch and the partner from a permutation; here each example has its own, and the order of
    the examples is random already.

    Arguments:
        images: Float32[examples, channels, height, width].
        labels: Int64[examples].
        shares: the λ, Float32[examples].
        classes: how many there are.

    Returns:
        Images of the same shape, and Float32[examples, classes].
    """
    own = shares[:, None]
    hot = np.eye(classes, dtype=np.float32)[labels]
    pixels = own[..., None, None]
    mixed = pixels * images + (1 - pixels) * np.roll(images, -1, axis=0)
    return mixed, own * hot + (1 - own) * np.roll(hot, -1, axis=0)


@dataclass(frozen=True)
class Augmented:
    """A split of images that are augmented; keys and digest are those of the images as they are."""

    split: Split
    steps: Sequence[Augmentation]
    seed: int
    ground: Image

    def __len__(self) -> int:
        return len(self.split)

    def key(self, index: int) -> bytes:
        return self.split.key(index)

    def keys(self) -> list[bytes]:
        return self.split.keys()

    def digest(self) -> str:
        return self.split.digest()

    def example(self, index: int, epoch: int) -> Mapping[str, Any]:
        """The example as step after step of the list makes it, each from its own key."""
        example = dict(self.split.example(index, epoch))
        for place, step in enumerate(self.steps):
            drawn = np.random.default_rng(derive(self.seed, "augment", epoch, index, place))
            example |= _APPLY[type(step)](step, example["image"], drawn, self.ground)
        return example


def augmented(dataset: Dataset, steps: Sequence[Augmentation], seed: int) -> Dataset:
    """The same data, with the training images augmented and the manifest saying so.

    Raises:
        ConfigError: a step does not fit the size of the images.
    """
    encoding = dataset.encoding
    assert isinstance(encoding, ImageEncoding), "only sources of images have the field"
    _check(steps, encoding.height, encoding.width)
    ground = encoding.normalise(np.zeros((encoding.channels, 1, 1), dtype=np.uint8))
    described = [{"step": "augment", "split": "train", **step.plain()} for step in steps]
    return replace(
        dataset,
        splits={**dataset.splits, "train": Augmented(dataset.splits["train"], steps, seed, ground)},
        manifest={**dataset.manifest, "preprocessing": [*dataset.manifest["preprocessing"], *described]},
    )


def _check(steps: Sequence[Augmentation], height: int, width: int) -> None:
    """A step that would leave nothing of an image, or could not be made."""
    for place, step in enumerate(steps):
        where = f"data.augment.{place}: the images have {height} × {width} pixels"
        if isinstance(step, Shift) and (step.rows >= height or step.columns >= width):
            raise ConfigError(f"{where}, of which a shift by {step.rows} rows and {step.columns} columns leaves none")
        if isinstance(step, Crop) and step.padding >= min(height, width):
            raise ConfigError(f"{where}: padding must be less than that, found {step.padding}")
        if isinstance(step, Cutout) and step.size >= 2 * max(height, width):
            raise ConfigError(f"{where}, and a square of {step.size} always covers all of them")


def _flip(step: Flip, image: Image, drawn: np.random.Generator, ground: Image) -> dict[str, Any]:  # noqa: ARG001
    return {"image": flip(image)} if drawn.random() < step.probability else {}


def _shift(step: Shift, image: Image, drawn: np.random.Generator, ground: Image) -> dict[str, Any]:
    down, right = (int(drawn.integers(-most, most, endpoint=True)) for most in (step.rows, step.columns))
    return {"image": shift(image, down, right, ground)}


def _crop(step: Crop, image: Image, drawn: np.random.Generator, ground: Image) -> dict[str, Any]:
    top, left = (int(drawn.integers(2 * step.padding, endpoint=True)) for _ in range(2))
    if step.mode == "reflect":
        return {"image": crop_reflected(image, step.padding, top, left)}
    return {"image": shift(image, step.padding - top, step.padding - left, ground)}


def _cutout(step: Cutout, image: Image, drawn: np.random.Generator, ground: Image) -> dict[str, Any]:  # noqa: ARG001
    row, column = (int(drawn.integers(size)) for size in image.shape[1:])
    return {"image": cutout(image, step.size, row, column)}


def _mixup(step: Mixup, image: Image, drawn: np.random.Generator, ground: Image) -> dict[str, Any]:  # noqa: ARG001
    return {MIXED: drawn.beta(step.alpha, step.alpha)}


_APPLY: dict[type[Augmentation], Callable[[Any, Image, np.random.Generator, Image], dict[str, Any]]] = {
    Flip: _flip,
    Shift: _shift,
    Crop: _crop,
    Cutout: _cutout,
    Mixup: _mixup,
}
