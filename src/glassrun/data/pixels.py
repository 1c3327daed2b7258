"""Splits of images that lie in memory as one array, and what is common to all sources of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from glassrun.data.encoding import ImageEncoding, border_mean, ink_box
from glassrun.data.splits import content_key, digest_of_keys

_MOST_FOR_STATISTICS = 10_000  # images from which mean and standard deviation are taken, the first of the split


class Pixels(Protocol):
    """Images by index: UInt8[channels, height, width] each."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> NDArray[np.uint8]: ...


@dataclass
class LabelledImages:
    """A split of images.

    Arguments:
        pixels: all images of the source.
        all_keys: of all images (see `image_key`).
        labels: of all images: Int64[images] for classes, Float32[images, outputs] for labels or numbers.
        indices: those of this split, in its order.
        classes: the names of classes, labels or numbers.
        encoding: what normalises pixels; set when the training split is known.
    """

    pixels: Pixels
    all_keys: Sequence[bytes]
    labels: NDArray[np.int64] | NDArray[np.float32]
    indices: NDArray[np.int64]
    classes: tuple[str, ...]
    encoding: ImageEncoding | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def key(self, index: int) -> bytes:
        return self.all_keys[int(self.indices[index])]

    def raw(self, index: int) -> NDArray[np.uint8]:
        """The image before normalisation: UInt8[channels, height, width]."""
        return self.pixels[int(self.indices[index])]

    def example(self, index: int, epoch: int) -> Mapping[str, Any]:  # noqa: ARG002 - the same in every epoch
        assert self.encoding is not None, "set by `encoded`"
        label = self.labels[self.indices[index]]
        return {"image": self.encoding.normalise(self.raw(index)), "label": int(label) if label.ndim == 0 else label}

    def keys(self) -> list[bytes]:
        return [self.all_keys[index] for index in self.indices.tolist()]

    def digest(self) -> str:
        return digest_of_keys(self.keys())


def image_key(pixels: NDArray[np.uint8], content: str) -> bytes:
    """What an image is: its pixels and its class's name, so that adding classes changes no key, or its labels."""
    return content_key(content.encode(), str(pixels.shape).encode(), np.ascontiguousarray(pixels).tobytes())


def encoded(
    splits: Mapping[str, LabelledImages],
    levels: int,
    target: Literal["class", "labels", "numbers"] = "class",
    scales: Sequence[tuple[float, float]] = (),
) -> ImageEncoding:
    """Normalise all splits by the mean and standard deviation of the training images; returns the encoding.

    Arguments:
        splits: the training split among them.
        levels: the largest value of a pixel.
        target: what is said of an image.
        scales: mean and standard deviation of each number over the training images.
    """
    train = splits["train"]
    chosen = [train.raw(index) for index in range(min(len(train), _MOST_FOR_STATISTICS))]
    mean, std = _statistics(chosen, levels)
    channels, height, width = chosen[0].shape
    dark = sum(border_mean(image) < float(image.mean()) for image in chosen) * 2 > len(chosen)
    ink = _mean_ink(chosen) if channels == 1 else 1.0
    encoding = ImageEncoding(
        train.classes,
        channels,
        height,
        width,
        levels,
        mean,
        std,
        dark_border=dark,
        ink=ink,
        target=target,
        number_means=tuple(mean for mean, _ in scales),
        number_stds=tuple(std for _, std in scales),
    )
    for split in splits.values():
        split.encoding = encoding
    return encoding


def facts(encoding: ImageEncoding) -> dict[str, int]:
    """What a model of images must know; `num_classes` is the number of logits also where they are labels or numbers."""
    return {
        "in_channels": encoding.channels,
        "image_height": encoding.height,
        "image_width": encoding.width,
        "num_classes": len(encoding.classes),
    }


def preprocessing(encoding: ImageEncoding) -> list[dict[str, Any]]:
    """The steps from pixels to the model's input, and what it is to give where that is no class, for the manifest."""
    steps: list[dict[str, Any]] = [
        {
            "step": "normalise",
            "levels": encoding.levels,
            "mean": list(encoding.mean),
            "std": list(encoding.std),
        }
    ]
    if encoding.target == "labels":
        steps.append({"step": "labels", "names": list(encoding.classes)})
    elif encoding.target == "numbers":
        mean, std = list(encoding.number_means), list(encoding.number_stds)
        steps.append({"step": "numbers", "names": list(encoding.classes), "mean": mean, "std": std})
    return steps


def _mean_ink(images: Sequence[NDArray[np.uint8]]) -> float:
    """The mean length of the drawn part's longer side, as a share of the image's longer side."""
    boxes = [ink_box(image) for image in images]
    longest = max(images[0].shape[1:])
    total = sum(max(bottom - top, right - left) for top, bottom, left, right in boxes)
    return float(total / (len(boxes) * longest))


def _statistics(images: Sequence[NDArray[np.uint8]], levels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel in units of the largest value, from sums of integers: exact."""
    channels = images[0].shape[0]
    count = sum(image[0].size for image in images)
    means, deviations = [], []
    for channel in range(channels):
        total = sum(int(image[channel].sum(dtype=np.int64)) for image in images)
        squares = sum(int((image[channel].astype(np.int64) ** 2).sum()) for image in images)
        mean = total / count
        variance = (squares * count - total * total) / (count * count)
        means.append(mean / levels)
        deviations.append(variance**0.5 / levels or 1.0)  # a channel that is one colour stays as it is
    return tuple(means), tuple(deviations)
