"""Help for tests that run the loop's arithmetic in their own process."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from glassrun import config
from glassrun.train.loop import Outcome, Trainer
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
