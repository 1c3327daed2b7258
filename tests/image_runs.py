"""Help for tests of what is shown of image models: a run whose model is as it begins, so that nothing is trained."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from glassrun import config
from glassrun.data import digits
from glassrun.data.source import Dataset
from glassrun.models.registry import build
from glassrun.sections.data import DigitsData

MODELS: dict[str, dict[str, Any]] = {
    "cnn": {"kind": "cnn", "channels": [4, 6], "convolutions": 1, "hidden": 12},
    "vgg": {"kind": "vgg", "channels": [4, 6], "convolutions": [2, 1], "hidden": 12},
    "resnet": {"kind": "resnet", "stem": "cifar", "stem_channels": 4, "channels": [4, 6], "blocks": [2, 2]},
    "convnext": {"kind": "convnext", "patch_size": 2, "channels": [4, 6], "blocks": [2, 2]},
}


@cache
def the_digits() -> Dataset:
    """scikit-learn's, loaded once."""
    return digits.load(DigitsData(source="digits"))


def run_of(model: dict[str, Any], *, dataset: Dataset | None = None) -> Any:
    """What an exhibit asks of a run."""
    recipe = config.load(
        {"name": "of-a-test", "task": "classify", "data": {"source": "digits"}, "seed": 3, "model": model}
    )
    data = dataset or the_digits()
    built = build(recipe.model, data.facts, recipe.seed).eval()
    return SimpleNamespace(recipe=recipe, dataset=data, model=built, path=Path("runs/of-a-test"))
