"""Picture files as arrays, with Pillow behind a defence: a file is a stranger's until it is decoded."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glassrun.errors import DataError, MissingDependency

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
# The formats behind those suffixes; Pillow knows others, some of which start outside programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_MOST_PIXELS = 64_000_000


def read(path: Path, channels: int) -> NDArray[np.uint8]:
    """A picture's pixels from 0 to 255: UInt8[channels, height, width].

    Arguments:
        path: PNG, JPEG, BMP, GIF (its first frame), WebP, TIFF, PGM or PPM. What is transparent lies on white.
        channels: 1 for grey, 3 for red, green and blue; the picture is converted to that.

    Raises:
        DataError: it is missing, damaged, too large or no picture.
        MissingDependency: Pillow is not installed.
    """
    with _opened(path) as picture:
        if "A" in picture.mode or "transparency" in picture.info:
            from PIL import Image

            ground = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(ground, picture.convert("RGBA"))
        if picture.mode.startswith("I;16"):
            pixels = (np.asarray(picture, dtype=np.uint16) >> 8).astype(np.uint8)[..., None]
            pixels = np.repeat(pixels, channels, axis=-1)
        else:
            pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1))


def size_and_channels(path: Path) -> tuple[int, int, int]:
    """(height, width, channels) of a picture file, all of it decoded, so that damage is found now.

    Raises:
        DataError: as for `read`.
    """
    with _opened(path) as picture:
        grey = picture.mode in ("1", "L", "LA", "I", "F") or picture.mode.startswith("I;16")
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


def _opened(path: Path):  # type: ignore[no-untyped-def]  # PIL.Image.Image, which may not be installed
    try:
        from PIL import Image
    except ImportError:
        raise MissingDependency("pillow", "reading pictures", extra="recipes") from None
    if not path.is_file():
        raise DataError(f"{path}: expected a picture file, found {'a folder' if path.is_dir() else 'nothing'}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Pillow finds odd but can read
            picture = Image.open(path, formats=_FORMATS)
            if picture.width * picture.height > _MOST_PIXELS:
                raise DataError(
                    f"{path}: expected at most {_MOST_PIXELS:,} pixels, found {picture.width} × {picture.height}"
                )
            picture.load()
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: expected a picture ({', '.join(_FORMATS)}), found damage or another form: {error}"
        ) from None
    return picture
