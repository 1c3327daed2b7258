"""A worker's part in a run that nobody records: the same arithmetic, no fingerprint, no folder. For `recording.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from glassrun import config
from glassrun.record.fingerprint import Fixed
from glassrun.train.journal import Silent
from glassrun.train.loading import Slices
from glassrun.train.loop import Outcome, Trainer
from glassrun.train.state import load_data, prepare, set_numerics
from glassrun.train.workers import Workers


class Unrecorded(Trainer):
    """The loop without what only the ledger needs, and without the comparison of the workers."""

    def _own_prints(self, words: Fixed, present: list[bool]) -> list[int]:
        del words, present
        return []

    def train_step(self, slices: Slices, following: Slices | Exception | None = None) -> Outcome:
        """The counts go alone: there are no fingerprints to go with."""
        del following
        return super().train_step(slices)

    def _told(self, *own: Sequence[int]) -> list[list[list[int]]]:
        return [[[]] for _ in own]

    def _all_prints(
        self, groups: Sequence[Sequence[Tensor | None]], prints: Sequence[Sequence[int]]
    ) -> list[list[int | None]]:
        del prints
        return [[None] * len(tensors) for tensors in groups]

    def _held(self, buffers: str) -> list[int]:
        del buffers
        return []

    def _batch_prints(self, batches: list[dict[str, Tensor]]) -> list[int]:
        return [0] * len(batches)


def run(job: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Train, and leave nothing."""
    recipe = config.validate(job["config"], "recipe")
    set_numerics(recipe.numerics)
    state = prepare(recipe, load_data(recipe))
    trainer = Unrecorded(state, Workers.join(job["rank"], job["world_size"], job["store"]))
    if not job["rank"]:
        tell({"event": "begin", "step": 0, "steps": recipe.train.steps})
    trainer.run(Silent(), recipe.train.steps)
    return {}
