"""The photograph that filters are shown on: scikit-learn's, or the user's."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glassrun.data.pictures import read, scaled
from glassrun.errors import DataError, MissingDependency
from glassrun.look.exhibits.base import Material

_SMALLEST, _LARGEST = 32, 640  # pixels of a side


@dataclass(frozen=True)
class Photograph:
    """A picture.

    Attributes:
        name: of its file.
        color: Float32[3, height, width], from 0 to 1.
        grey: Float32[1, height, width].
    """

    name: str
    color: NDArray[np.float32]
    grey: NDArray[np.float32]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.grey.shape[1], self.grey.shape[2]

    def pixels(self, channels: int) -> NDArray[np.float32]:
        """In grey or in colour, as a model takes it."""
        return self.grey if channels == 1 else self.color


def photograph(material: Material, *, largest: int = _LARGEST) -> Photograph:
    """The user's picture, else scikit-learn's `china.jpg`.

    Arguments:
        material: its `image` is the user's.
        largest: pixels of the longer side; a larger picture is scaled down.

    Raises:
        DataError: the file is missing, broken, no picture, too small, or shows a single colour.
        MissingDependency: there is no scikit-learn to take a picture from, or no Pillow to read it.
    """
    path = material.image or _china()
    color, grey = (_read(path, channels, largest) for channels in (3, 1))
    if float(grey.max()) == float(grey.min()):
        raise DataError(
            f"{path}: expected a picture of something, found a single colour: every filter of an edge gives 0"
        )
    return Photograph(path.name, color, grey)


def _read(path: Path, channels: int, largest: int) -> NDArray[np.float32]:
    pixels = read(path, channels)
    height, width = pixels.shape[1:]
    if min(height, width) < _SMALLEST:
        raise DataError(
            f"{path}: expected a picture of at least {_SMALLEST} × {_SMALLEST} pixels, found {height} × {width}: the "
            "filters' windows would cover most of it"
        )
    if (share := largest / max(height, width)) < 1:
        pixels = scaled(pixels, max(round(height * share), _SMALLEST), max(round(width * share), _SMALLEST))
    return (pixels / np.float32(255)).astype(np.float32)


def _china() -> Path:
    # Found, not imported, which would take seconds.
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise MissingDependency("scikit-learn", "the photograph", extra="recipes")
    return Path(package.origin).parent / "datasets" / "images" / "china.jpg"
