"""Help for tests that run the loop's arithmetic in their own process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from glassrun import config
from glassrun.run import Run
from glassrun.train import writer
from glassrun.train.loop import Outcome, Trainer
from glassrun.train.opening import EITHER, open_folder
from glassrun.train.state import State, load_data, prepare, start
from support import Made


def state_of(made: Made, name: str, module: nn.Module | None = None, /, **overrides: Any) -> State:
    """The state of a small recipe before its first step, with this module as its model if one is given."""
    recipe = config.load(made.recipe(name, **overrides))
    state = prepare(recipe, load_data(recipe))
    return state if module is None else start(recipe, state.dataset, state.task, module.train())


def step(trainer: Trainer, number: int) -> Outcome:
    """One step."""
    return trainer.train_step(trainer.batches.slices(trainer.batches.examples(number)))


def watched(trainer: Trainer) -> list[list[Tensor | None]]:
    """A list that fills with the gradients of each slice as they go into the tree."""
    found: list[list[Tensor | None]] = []
    add = trainer.tree.add

    def adding(tensors: list[Tensor | None]) -> None:
        found.append([None if tensor is None else tensor.clone() for tensor in tensors])
        add(tensors)

    trainer.tree.add = adding  # type: ignore[method-assign, assignment]
    return found


def trained(
    recipe: str | Mapping[str, Any],
    out: Path,
    tell: Callable[[dict[str, Any]], None] = lambda _: None,
    **overrides: Any,
) -> Run:
    """A run as a single worker makes it, or what is left to do of one; no process has to start and import torch.

    Arguments:
        recipe: small, as `Made.recipe` gives it, or a shipped one's name.
        out: the run's folder.
        tell: called with each event; what it raises ends the run there.
        overrides: of the recipe, with two underscores for the dot, as `record__snapshots=3`.
    """
    checked = config.load(recipe, {name.replace("__", "."): value for name, value in overrides.items()})
    job = {"rank": 0, "world_size": 1, "store": None, "begin": EITHER, "out": str(out), "import_path": []}
    folder = open_folder(job, checked)
    try:
        writer.train(folder, checked, job, tell)
    finally:
        folder.unlock()
    return Run(out)
