"""A task: the meeting point of batch and model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from glassrun.errors import ModelError

Batch = dict[str, Tensor]


class Task(Protocol):
    """What the trainer asks of a task. A task of the user's is a class with these methods, made from the data set.

    All methods are pure: what they return depends on their arguments alone. It may have `facts`, whole numbers by name
    that the model is given in the place of the data's (see `tasks.registry.facts_of`).
    """

    def collate(self, examples: Sequence[Any]) -> Batch:
        """The examples of one slice as named tensors, the model's inputs among them."""
        ...

    def count(self, batch: Batch) -> int:
        """How many losses the sum has: tokens or examples."""
        ...

    def tokens(self, batch: Batch) -> int:
        """How many tokens the model reads or writes, padding left out; 0 where there are none."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The *sum* of the losses over a slice: Float[]. The trainer divides it by the count of the whole batch."""
        ...

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        """Sums over a slice, from which `metrics` follow; the same names for every slice."""
        ...

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The metrics of an evaluation, from the sums over all its slices."""
        ...


def logits_of(output: Any) -> Tensor:
    """A model's logits: its output, or the output's `.logits`.

    Raises:
        ModelError: it is neither a tensor nor an object with logits.
    """
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"expected the model to return logits (a tensor, or an object with .logits), found {type(output).__name__}"
        )
    return logits


def check_classes(logits: Tensor, classes: int, what: str) -> None:
    """Raise a ModelError unless the last axis of the logits is one per class."""
    if logits.shape[-1] != classes:
        raise ModelError(
            f"the model gives {logits.shape[-1]} logits, but there are {classes} {what}: "
            "the factory must take that number from the data (it is passed by name) and use it for its last layer"
        )


def scalar(value: Tensor) -> float:
    """A sum as a Python float, exactly."""
    return float(value.detach().to(torch.float64).item())
