"""The handwritten digits that ship in scikit-learn.

1,797 images of 8 × 8 with 17 levels of grey: the test part of the UCI set "Optical recognition of handwritten digits"
(Alpaydin & Kaynak 1998).
"""

from __future__ import annotations

import numpy as np

from glassrun.data.manifest import manifest
from glassrun.data.pixels import LabelledImages, encoded, facts, image_key, preprocessing
from glassrun.data.source import Dataset
from glassrun.data.splits import by_hash
from glassrun.errors import MissingDependency
from glassrun.sections.data import DigitsData

_LEVELS = 16


def load(section: DigitsData) -> Dataset:
    """The digits, split by a hash of each image."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingDependency("scikit-learn", "the digits recipe", extra="recipes") from None
    found = load_digits()
    pixels = np.ascontiguousarray(found.images.astype(np.uint8)[:, None])
    labels = found.target.astype(np.int64)
    classes = tuple(str(digit) for digit in range(10))
    keys = [image_key(image, classes[label]) for image, label in zip(pixels, labels, strict=True)]
    splits = {name: LabelledImages(pixels, keys, labels, indices, classes) for name, indices in by_hash(keys).items()}
    encoding = encoded(splits, _LEVELS)
    described = manifest(
        section.source,
        splits=splits,
        rule="hash of the image and its class, 80/10/10",
        preprocessing=preprocessing(encoding),
        versions={"scikit-learn": _version()},
    )
    return Dataset(splits, described, facts(encoding), encoding)


def _version() -> str:
    from importlib.metadata import version

    return version("scikit-learn")
