"""How pictures and texts become a model's input and back; kept in the run, so that predicting needs no data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassrun.data import tokenizers
from glassrun.data.tokenizers import BEGIN, END, Tokenizer
from glassrun.errors import DataError


@dataclass(frozen=True)
class ImageEncoding:
    """Images as normalised channels.

    Arguments:
        classes: their names, by label.
        channels, height, width: of an image.
        levels: the largest value of a pixel.
        mean, std: of each channel over the training images, in units of the largest value.
        dark_border: whether the training images are bright on a dark ground.
    """

    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    levels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dark_border: bool

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(pixel / levels − mean) / std: UInt8[channels, height, width] to Float32 of the same shape."""
        if self.channels == 1:
            return self._table[0][pixels]  # type: ignore[no-any-return]
        return np.stack([table[channel] for table, channel in zip(self._table, pixels, strict=True)])

    def encode(self, path: Path) -> NDArray[np.float32]:
        """A picture of any size: Float32[channels, height, width].

        It is scaled to the size of the training images. Where those are grey and bright on a dark ground, and the
        picture's border is brighter than the picture as a whole, it is inverted first: so ink on paper can be read.

        Raises:
            DataError: it is missing or no image.
        """
        from glassrun.data.pictures import read, scaled

        pixels = scaled(read(path, self.channels), self.height, self.width)
        if self.channels == 1 and self.dark_border and border_mean(pixels) > float(pixels.mean()):
            pixels = 255 - pixels
        return self.normalise(np.round(pixels / (255 / self.levels)).astype(np.uint8))

    @cached_property
    def _table(self) -> NDArray[np.float32]:
        """The normalised value of every pixel value: Float32[channels, levels + 1]."""
        values = np.arange(self.levels + 1, dtype=np.float64) / self.levels
        mean, std = np.array(self.mean)[:, None], np.array(self.std)[:, None]
        return ((values - mean) / std).astype(np.float32)  # type: ignore[no-any-return]

    def to_plain(self) -> dict[str, Any]:
        names = ("channels", "height", "width", "levels", "dark_border")
        lists = {"classes": list(self.classes), "mean": list(self.mean), "std": list(self.std)}
        return {"kind": "image", **{name: getattr(self, name) for name in names}, **lists}


@dataclass(frozen=True)
class TextEncoding:
    """A text as tokens, seen `context` at a time."""

    tokenizer: Tokenizer
    context: int

    def to_plain(self) -> dict[str, Any]:
        return {"kind": "text", "tokenizer": self.tokenizer.to_plain(), "context": self.context}


@dataclass(frozen=True)
class PairEncoding:
    """A text and its translation as tokens: the source with an end, the target with a begin and an end."""

    source: Tokenizer
    target: Tokenizer
    max_length: int

    def encode_source(self, text: str) -> NDArray[np.int64]:
        """The source's tokens.

        Raises:
            DataError: it is empty or longer than the model can read.
        """
        tokens = np.append(self.source.encode(text).astype(np.int64), END)
        if not text or len(tokens) > self.max_length:
            raise DataError(
                f"expected a text of 1 to {self.max_length - 1} tokens, found {len(tokens) - 1}: the model was trained "
                "on no longer one"
            )
        return tokens

    def encode_target(self, text: str) -> NDArray[np.int64]:
        """The target's tokens."""
        return np.concatenate([[BEGIN], self.target.encode(text).astype(np.int64), [END]])

    def to_plain(self) -> dict[str, Any]:
        sides = {"source": self.source.to_plain(), "target": self.target.to_plain()}
        return {"kind": "pair", **sides, "max_length": self.max_length}


Encoding = ImageEncoding | TextEncoding | PairEncoding


def from_plain(values: dict[str, Any]) -> Encoding:
    """The encoding that `to_plain` described."""
    rest = {name: value for name, value in values.items() if name != "kind"}
    if values["kind"] == "image":
        lists = {name: tuple(rest[name]) for name in ("classes", "mean", "std")}
        return ImageEncoding(**(rest | lists))
    if values["kind"] == "text":
        return TextEncoding(tokenizers.from_plain(rest["tokenizer"]), rest["context"])
    return PairEncoding(
        tokenizers.from_plain(rest["source"]), tokenizers.from_plain(rest["target"]), rest["max_length"]
    )


def border_mean(pixels: NDArray[Any]) -> float:
    """The mean of an image's outermost pixels: of UInt8[channels, height, width]."""
    inner = pixels[:, 1:-1, 1:-1]
    count = pixels.size - inner.size
    return (float(pixels.sum()) - float(inner.sum())) / count
