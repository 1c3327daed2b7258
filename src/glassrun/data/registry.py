"""Source name to loader; the one place where names of data sources are turned into code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glassrun.data import augment, dates, digits, hub, images, pairs, sentences, text
from glassrun.data.recorded import Recorded
from glassrun.data.source import Dataset
from glassrun.sections.data import Data

LOADERS: dict[str, Callable[[Any, int, Recorded | None], Dataset]] = {
    "dates": lambda section, seed, _: dates.load(section, seed),
    "digits": lambda section, _, __: digits.load(section),
    "hub": hub.load,
    "images": lambda section, _, __: images.load(section),
    "pairs": lambda section, _, recorded: pairs.load(section, recorded),
    "python-topics": text.load_python_topics,
    "sentences": lambda section, seed, _: sentences.load(section, seed),
    "text": text.load,
}


def load(section: Data, seed: int, recorded: Recorded | None = None) -> Dataset:
    """The data that a recipe's section names.

    Arguments:
        section: of the recipe.
        seed: of the run; dates and sentences are made from it, a text's windows are cut and images augmented by it.
        recorded: what the run says of its data, if it has begun: its tokenizers are taken and none is trained.

    Raises:
        DataError: the data are missing, empty, damaged or of another form.
    """
    dataset = LOADERS[section.source](section, seed, recorded)  # type: ignore[attr-defined]
    steps = getattr(section, "augment", ())
    return augment.augmented(dataset, steps, seed) if steps else dataset
