"""Source name to loader; the one place where names of data sources are turned into code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glassrun.config import Data
from glassrun.data import augment, dates, digits, images, pairs, text
from glassrun.data.source import Dataset

LOADERS: dict[str, Callable[[Any, int], Dataset]] = {
    "dates": dates.load,
    "digits": lambda section, _: digits.load(section),
    "images": lambda section, _: images.load(section),
    "pairs": lambda section, _: pairs.load(section),
    "python-topics": text.load_python_topics,
    "text": text.load,
}


def load(section: Data, seed: int) -> Dataset:
    """The data that a recipe's section names.

    Arguments:
        section: of the recipe.
        seed: of the run; dates are made from it, a text's windows are cut by it, and images are augmented by it.

    Raises:
        DataError: the data are missing, empty, damaged or of another form.
    """
    dataset = LOADERS[section.source](section, seed)  # type: ignore[attr-defined]
    steps = getattr(section, "augment", ())
    return augment.augmented(dataset, steps, seed) if steps else dataset
