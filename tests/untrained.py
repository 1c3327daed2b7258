"""A run that was never trained, for what looks into models: everything but the training is real."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from glassrun import config
from glassrun.config import Recipe
from glassrun.data.manifest import manifest_digest
from glassrun.train.state import load_data, prepare
from support import Made


class Untrained:
    """What a `Run` shows of a recipe before its first step."""

    path = Path("untrained")
    metrics: tuple[dict[str, Any], ...] = ()
    ledger: tuple[Any, ...] = ()

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    @classmethod
    def of(cls, recipe: str | Made, name: str = "", **overrides: Any) -> Any:
        """Of a shipped recipe, or of one that the tests make; typed as `Any`, for it stands where a `Run` does."""
        return cls(config.load(recipe if isinstance(recipe, str) else recipe.recipe(name), overrides))

    @cached_property
    def dataset(self) -> Any:
        return load_data(self.recipe)

    @cached_property
    def model(self) -> Any:
        return prepare(self.recipe, self.dataset).model.eval()

    @property
    def folder(self) -> Any:
        manifest = self.dataset.manifest
        header = {"encoding": self.dataset.encoding.to_plain(), "data": manifest}
        return SimpleNamespace(header=header | {"data_digest": manifest_digest(manifest)})
