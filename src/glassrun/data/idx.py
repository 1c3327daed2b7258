"""idx files, the format of MNIST and of the sets that followed it (LeCun, Cortes & Burges 1998).

Big-endian: two zero bytes, a byte for the type (8: unsigned bytes), one for the number of dimensions, four bytes for
each dimension, then the values.
"""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glassrun.data import compressed
from glassrun.data.folders import entries
from glassrun.errors import DataError

_UNSIGNED_BYTE = 8
_MOST_DIMENSIONS = 64  # of a NumPy array
_NAME = re.compile(r"(?P<set>.*?)(?P<part>train|t10k|test)[-_.]images[-_.]idx\d[-_.]ubyte(\.gz)?", re.IGNORECASE)


def images_and_labels(images: Path, labels: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """UInt8[images, channels, height, width] and their labels UInt8[images].

    Images of three dimensions are grey; of four, the channels (1 or 3) come last or second.

    Raises:
        DataError: a file is missing, damaged or of another form, or they do not fit each other.
    """
    pixels, numbers = read(images), read(labels)
    if numbers.ndim != 1:
        raise DataError(f"{labels}: expected labels in one dimension, found {numbers.ndim}")
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.ndim == 4 and pixels.shape[-1] in (1, 3):
        pixels = pixels.transpose(0, 3, 1, 2)
    elif pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        raise DataError(
            f"{images}: expected images × height × width, perhaps with 1 or 3 channels, found dimensions {pixels.shape}"
        )
    if len(pixels) != len(numbers):
        raise DataError(
            f"{images} holds {len(pixels)} images, but {labels} {len(numbers)} labels: they must be as many"
        )
    return np.ascontiguousarray(pixels), numbers


def read(path: Path) -> NDArray[np.uint8]:
    """One idx file of unsigned bytes, of any dimensions.

    Raises:
        DataError: it is missing, damaged or of another form; the message says what was expected.
    """
    data = compressed.read(path)
    if len(data) < 4 or data[0] or data[1]:
        raise DataError(
            f"{path}: expected an idx file, which starts with two zero bytes, found {data[:4].hex() or 'none'}"
        )
    kind, dimensions = data[2], data[3]
    if kind != _UNSIGNED_BYTE:
        raise DataError(f"{path}: expected an idx file of unsigned bytes (type 8), found type {kind}")
    start = 4 + 4 * dimensions
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise DataError(f"{path}: an idx header of {dimensions} dimensions: expected 1 to {_MOST_DIMENSIONS}")
    if len(data) < start:
        raise DataError(f"{path}: its idx header of {dimensions} dimensions is cut off")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", dimensions, offset=4))
    if len(data) - start != prod(shape):
        raise DataError(
            f"{path}: its header promises {' × '.join(map(str, shape))} = {prod(shape):,} values, "
            f"found {len(data) - start:,}: the file is {'cut off' if len(data) - start < prod(shape) else 'too long'}"
        )
    if prod(shape) == 0:
        raise DataError(f"{path}: it is empty: its header says {' × '.join(map(str, shape))}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def pairs_in(folder: Path) -> dict[str, tuple[Path, Path]]:
    """The images and labels of a folder by part, train and test, found by their usual names.

    Usual are `train-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`, with dots for hyphens, `.gz`, or a set's name before.

    Raises:
        DataError: labels are missing, or there are several sets in the folder.
    """
    found: dict[str, tuple[Path, Path]] = {}
    for path in entries(folder):
        match = _NAME.fullmatch(path.name)
        if not match or (path.suffix == ".gz" and path.with_suffix("").exists()):
            continue
        part = "train" if match["part"].lower() == "train" else "test"
        if part in found:
            raise DataError(
                f"{folder}: expected one set of idx files, found {found[part][0].name} and {path.name}: "
                "name the two files you want: data.path=IMAGES,LABELS"
            )
        found[part] = path, _labels_beside(path)
    return found


def _labels_beside(images: Path) -> Path:
    name = re.sub(r"images([-_.])idx\d", r"labels\g<1>idx1", images.name, flags=re.IGNORECASE)
    for candidate in (
        images.with_name(name),
        images.with_name(name.removesuffix(".gz")),
        images.with_name(f"{name}.gz"),
    ):
        if candidate.exists():
            return candidate
    raise DataError(f"{images}: expected its labels beside it in {name}, found nothing")
