"""Picture files as arrays, with Pillow behind a defence: a file is a stranger's until it is decoded."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassrun.data.compressed import what_is_at
from glassrun.errors import DataError, MissingDependency

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
# The formats behind those suffixes; Pillow knows others, some of which start outside programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_MOST_PIXELS = 64_000_000


@dataclass(frozen=True)
class Held:
    """A picture file that lies in memory; `name` says in errors where it came from."""

    name: str
    data: bytes

    def __str__(self) -> str:
        return self.name


def read(path: Path | Held, channels: int) -> NDArray[np.uint8]:
    """A picture's pixels from 0 to 255: UInt8[channels, height, width].

    Arguments:
        path: PNG, JPEG, BMP, GIF (its first frame), WebP, TIFF, PGM or PPM. What is transparent lies on white.
        channels: 1 for grey, 3 for red, green and blue; the picture is converted to that.

    Raises:
        DataError: it is missing, damaged, too large or no picture.
        MissingDependency: Pillow is not installed.
    """
    picture = _opened(path)
    if picture.mode.startswith("I"):
        pixels = np.repeat(_upper_bits(picture, path)[..., None], channels, axis=-1)
    else:
        if "A" in picture.mode or "transparency" in picture.info:
            from PIL import Image

            ground = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(ground, picture.convert("RGBA"))
        pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1))


def _upper_bits(picture: Any, path: Path | Held) -> NDArray[np.uint8]:
    """The upper eight of sixteen bits of grey: UInt8[height, width]. (Pillow's own conversion clips.)"""
    pixels = np.asarray(picture, dtype=np.int64)
    if pixels.min() < 0 or pixels.max() >= 2**16:
        raise DataError(f"{path}: expected at most 16 bits a pixel, found values from {pixels.min()} to {pixels.max()}")
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        pixels = np.where(pixels == transparent, 2**16 - 1, pixels)
    return (pixels >> 8).astype(np.uint8)


def size_and_channels(path: Path | Held) -> tuple[int, int, int]:
    """(height, width, channels) of a picture file, all of it decoded, so that damage is found now.

    Raises:
        DataError: as for `read`.
    """
    picture = _opened(path)
    grey = picture.mode in ("1", "L", "LA") or picture.mode.startswith("I")
    return picture.height, picture.width, 1 if grey else 3


def scaled(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Pixels scaled to another size: by averaging areas where they shrink, else by bilinear interpolation."""
    from PIL import Image

    if pixels.shape[1:] == (height, width):
        return pixels
    smaller = height <= pixels.shape[1] and width <= pixels.shape[2]
    method = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR
    planes = [np.asarray(Image.fromarray(plane).resize((width, height), method)) for plane in pixels]
    return np.stack(planes)


def _opened(path: Path | Held) -> Any:
    """The picture, a PIL.Image.Image, decoded; its file is closed."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise MissingDependency("pillow", "reading pictures", extra="recipes") from None
    if isinstance(path, Path) and (found := what_is_at(path)) != "a file":
        raise DataError(f"{path}: expected a picture file, found {found}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Pillow finds odd but can read
            data = path.read_bytes() if isinstance(path, Path) else path.data
            picture = Image.open(io.BytesIO(data), formats=_FORMATS)
            if picture.width * picture.height > _MOST_PIXELS:
                raise DataError(
                    f"{path}: expected at most {_MOST_PIXELS:,} pixels, found {picture.width} × {picture.height}"
                )
            picture.load()
    except UnidentifiedImageError:  # Pillow's own words name the stream that it read from
        raise DataError(f"{path}: expected a picture ({', '.join(_FORMATS)}), found none of these forms") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: expected a picture ({', '.join(_FORMATS)}), found damage or another form: {error}"
        ) from None
    if picture.mode == "F":
        raise DataError(f"{path}: expected whole numbers as pixels, found fractions; save it with 8 or 16 bits")
    return picture
