"""How pictures and texts become a model's input and back; kept in the run, so that predicting needs no data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from glassrun.data import tokenizing
from glassrun.data.tokenizers import BEGIN, END, Tokenizer
from glassrun.errors import DataError

_WIDE_MARGIN = 0.85  # a picture whose drawn part is shorter than this share of the usual length is cropped


@dataclass(frozen=True)
class ImageEncoding:
    """Images as normalised channels.

    Arguments:
        classes: their names, by label; of labels and numbers, theirs.
        channels, height, width: of an image.
        levels: the largest value of a pixel.
        mean, std: of each channel over the training images, in units of the largest value.
        dark_border: whether the training images are bright on a dark ground.
        ink: how much of a training image the drawn part covers: the longer side of its box, as a share of the image's.
        target: what is said of an image: one class, any number of labels, or numbers.
        number_means, number_stds: of each number over the training images; the model learns (number − mean) / std.
    """

    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    levels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dark_border: bool
    ink: float
    target: Literal["class", "labels", "numbers"] = "class"
    number_means: tuple[float, ...] = ()
    number_stds: tuple[float, ...] = ()

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(pixel / levels − mean) / std: UInt8[channels, height, width] to Float32 of the same shape."""
        if self.channels == 1:
            return self._table[0][pixels]  # type: ignore[no-any-return]
        return np.stack([table[channel] for table, channel in zip(self._table, pixels, strict=True)])

    def encode(self, path: Path) -> NDArray[np.float32]:
        """A picture of any size: Float32[channels, height, width].

        It is scaled to the size of the training images. Where those are grey and bright on a dark ground, a picture
        whose border is brighter than the picture as a whole is inverted first, and one with a wider margin than theirs
        is cropped: so ink on paper can be read.

        Raises:
            DataError: it is missing or no image.
        """
        from glassrun.data.pictures import read, scaled

        pixels = read(path, self.channels)
        if self.channels == 1 and self.dark_border:
            if border_mean(pixels) > float(pixels.mean()):
                pixels = 255 - pixels
            pixels = self._framed(pixels)
        pixels = scaled(pixels, self.height, self.width)
        return self.normalise(np.round(pixels / (255 / self.levels)).astype(np.uint8))

    def in_units(self, outputs: Sequence[float]) -> list[float]:
        """A model's outputs as the numbers that they stand for."""
        scales = zip(outputs, self.number_means, self.number_stds, strict=True)
        return [output * std + mean for output, mean, std in scales]

    def _framed(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The square around the drawn part of which that covers as much as in the training images."""
        top, bottom, left, right = ink_box(pixels)
        side = max(bottom - top, right - left)
        if self.height != self.width or side > _WIDE_MARGIN * self.ink * max(pixels.shape[1:]):
            return pixels
        frame = max(round(side / self.ink), side, 1)
        square = np.zeros((1, frame, frame), dtype=np.uint8)
        row, column = (frame - (bottom - top)) // 2, (frame - (right - left)) // 2
        square[:, row : row + bottom - top, column : column + right - left] = pixels[:, top:bottom, left:right]
        return square

    @cached_property
    def _table(self) -> NDArray[np.float32]:
        """The normalised value of every pixel value: Float32[channels, levels + 1]."""
        values = np.arange(self.levels + 1, dtype=np.float64) / self.levels
        mean, std = np.array(self.mean)[:, None], np.array(self.std)[:, None]
        return ((values - mean) / std).astype(np.float32)  # type: ignore[no-any-return]

    def to_plain(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {"kind": "image", **plain}


@dataclass(frozen=True)
class TextEncoding:
    """A text as tokens, seen `context` at a time."""

    tokenizer: Tokenizer
    context: int

    def to_plain(self) -> dict[str, Any]:
        return {"kind": "text", "tokenizer": self.tokenizer.to_plain(), "context": self.context}


@dataclass(frozen=True)
class PairEncoding:
    """A text and its translation as tokens: the source with an end, the target with a begin and an end.

    Arguments:
        source, target: the tokenizers.
        max_length: the most tokens of a side.
        lowercase: whether the model knows lower case alone.
    """

    source: Tokenizer
    target: Tokenizer
    max_length: int
    lowercase: bool = False

    def encode_source(self, text: str) -> NDArray[np.int64]:
        """The source's tokens.

        Raises:
            DataError: it is empty or longer than the model can read.
        """
        tokens = np.append(self.source.encode(self._cased(text)).astype(np.int64), END)
        if not text or len(tokens) > self.max_length:
            raise DataError(
                f"expected a text of 1 to {self.max_length - 1} tokens, found {len(tokens) - 1}: the model was trained "
                "on no longer one"
            )
        return tokens

    def encode_target(self, text: str) -> NDArray[np.int64]:
        """The target's tokens."""
        return np.concatenate([[BEGIN], self.target.encode(self._cased(text)).astype(np.int64), [END]])

    def to_plain(self) -> dict[str, Any]:
        sides = {"source": self.source.to_plain(), "target": self.target.to_plain()}
        return {"kind": "pair", **sides, "max_length": self.max_length, "lowercase": self.lowercase}

    def _cased(self, text: str) -> str:
        return text.lower() if self.lowercase else text


Encoding = ImageEncoding | TextEncoding | PairEncoding


def from_plain(values: dict[str, Any]) -> Encoding:
    """The encoding that `to_plain` described."""
    rest = {name: value for name, value in values.items() if name != "kind"}
    if values["kind"] == "image":
        fitting: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in rest.items()}
        return ImageEncoding(**fitting)
    if values["kind"] == "text":
        return TextEncoding(tokenizing.from_plain(rest["tokenizer"]), rest["context"])
    return PairEncoding(
        tokenizing.from_plain(rest["source"]),
        tokenizing.from_plain(rest["target"]),
        rest["max_length"],
        rest["lowercase"],
    )


def ink_box(pixels: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of what is brighter than a quarter of the brightest: of UInt8[1, height, width]."""
    drawn = pixels[0] > pixels.max() / 4
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    if not len(rows):
        return 0, pixels.shape[1], 0, pixels.shape[2]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def border_mean(pixels: NDArray[Any]) -> float:
    """The mean of an image's outermost pixels: of UInt8[channels, height, width]."""
    inner = pixels[:, 1:-1, 1:-1]
    count = pixels.size - inner.size
    return (float(pixels.sum()) - float(inner.sum())) / count
