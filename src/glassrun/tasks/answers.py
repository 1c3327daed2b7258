"""What a task of the user's answers, checked, so that a slip is told as one and not as a crash of ours."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from operator import index
from typing import Any

import torch
from torch import Tensor

from glassrun.errors import ModelError
from glassrun.tasks.base import Batch

_TAKEN = ("step", "split", "examples", "checksum")  # in a line of metrics.jsonl


def checked_batch(found: Any) -> Batch:
    """What `collate` returned: named tensors."""
    if not isinstance(found, Mapping) or not found:
        raise ModelError(f"the task's collate: expected a mapping of names to tensors, found {_kind(found)}")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ModelError(f"the task's collate: expected tensors by name, found {name!r}: {_kind(value)}")
        if value.device.type != "cpu" or value.layout != torch.strided:
            raise ModelError(f"the task's collate: {name}: expected a dense tensor on the CPU, found {value.device}")
    return dict(found)


def checked_count(found: Any, method: str) -> int:
    """What `count` or `tokens` returned: a whole number, not negative."""
    try:
        number = index(found)
    except TypeError as error:
        raise ModelError(f"the task's count and tokens must be whole numbers: {method}: {error}") from None
    if number < 0:
        raise ModelError(f"the task's {method}: expected a number that is not negative, found {number}")
    return number


def checked_facts(found: Any) -> dict[str, int]:
    """What a task has as `facts`: whole numbers by name."""
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and isinstance(value, int) for name, value in found.items()
    ):
        raise ModelError(f"the task's facts: expected a mapping of names to whole numbers, found {_kind(found)}")
    return dict(found)


def checked_loss(found: Any) -> Tensor:
    """What `loss` returned: the sum over the slice, with a graph behind it."""
    if not isinstance(found, Tensor):
        raise ModelError(f"the task's loss: expected a tensor, the sum over the slice, found {_kind(found)}")
    if found.numel() != 1 or not found.is_floating_point() or not found.requires_grad:
        raise ModelError(
            "the task's loss: expected one floating number that the parameters take part in, found "
            f"{str(found.dtype).removeprefix('torch.')} {list(found.shape)}"
            + ("" if found.requires_grad else " without a gradient")
        )
    return found if found.ndim == 0 else found.reshape(())


def checked_sums(found: Any, known: list[str] | None) -> dict[str, float]:
    """What `evaluate` returned: numbers by name, the same names for every slice."""
    sums = _numbers(found, "evaluate")
    if known is not None and list(sums) != known:
        raise ModelError(f"the task's evaluate: expected the names {known} as for the slice before, found {list(sums)}")
    return sums


def checked_metrics(found: Any) -> dict[str, float]:
    """What `metrics` returned: numbers by names that a line of `metrics.jsonl` has not taken."""
    metrics = _numbers(found, "metrics")
    taken = [name for name in metrics if name in _TAKEN or name.endswith("_hex")]
    if taken:
        raise ModelError(
            f"the task's metrics: the name {taken[0]!r} is taken: step, split, examples, checksum and names that end "
            "in _hex have a meaning of their own in metrics.jsonl. Take another"
        )
    return metrics


def _numbers(found: Any, method: str) -> dict[str, float]:
    if not isinstance(found, Mapping):
        raise ModelError(f"the task's {method}: expected a mapping of names to numbers, found {_kind(found)}")
    for name, value in found.items():
        single = isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()
        if not isinstance(name, str) or not (isinstance(value, Real) or single):
            raise ModelError(f"the task's {method}: expected numbers by name, found {name!r}: {_kind(value)}")
    return {name: float(value) for name, value in found.items()}


def _kind(value: Any) -> str:
    return f"a tensor of the shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
