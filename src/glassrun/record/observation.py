"""What is read of one step of a loop that is not ours, and what several ranks make of it together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum, isfinite
from typing import Any

from torch import Tensor

from glassrun.errors import Diverged, ModelError
from glassrun.exact import bits, exact_sum, from_bits
from glassrun.record import batch as batches
from glassrun.record.fingerprint import combine, stored_name
from glassrun.record.ledger import Step
from glassrun.record.named import Named
from glassrun.record.ranks import Ranks
from glassrun.record.readings import Reading, Readings, number, resolve
from glassrun.record.watch import Seen

Prints = dict[str, int | None]
"""Fingerprints by stored name; None for an absent gradient."""


@dataclass(frozen=True)
class Observation:
    """A step as it was read; `parameters` are those that are trained, `frozen` those that are not."""

    parameters: Prints
    frozen: Prints
    buffers: Prints
    gradients: Prints
    batch: int
    loss: float
    learning_rate: float
    gradient_norm: float
    examples: int
    tokens: int
    epoch: int
    unread: tuple[str, ...]

    @property
    def combined(self) -> list[str]:
        """One fingerprint each for gradients, parameters and buffers; what is not trained counts as a buffer."""
        return [combine(group.items()) for group in (self.gradients, self.parameters, self.buffers | self.frozen)]

    @property
    def names(self) -> list[str]:
        """What the values of `ledger.tensors` are of: every parameter, then every gradient."""
        stored = [*self.parameters, *self.frozen]
        return [f"{what} {name}" for what in ("parameter", "gradient") for name in stored]

    def row(self, names: Sequence[str]) -> list[int | None]:
        """The values for these names; None for what is not there."""
        found = {f"parameter {name}": value for name, value in (self.parameters | self.frozen).items()}
        found |= {f"gradient {name}": value for name, value in self.gradients.items()}
        return [found.get(name) for name in names]

    def step(self, number: int) -> Step:
        """The fields of the ledger."""
        gradients, parameters, buffers = self.combined
        return Step(
            step=number,
            epoch=self.epoch,
            examples=self.examples,
            tokens=self.tokens,
            loss=self.loss,
            learning_rate=self.learning_rate,
            gradient_norm=self.gradient_norm,
            batch=f"{self.batch:016x}",
            gradients=gradients,
            parameters=parameters,
            buffers=buffers,
        )


def observe(
    found: Named,
    seen: Seen,
    readings: Readings,
    *,
    rate: Reading | None,
    loss: Tensor | float | None,
    batch: Any,
    examples: int | None,
    tokens: int,
    epoch: int,
) -> Observation:
    """Read a step off its tensors; what lies on another device comes with one copy."""
    stored = found.stored_parameters
    parameters = list(found.parameters.values())
    gradients = [seen.gradients.get(parameter) for parameter in parameters]
    leaves = batches.read(batch, readings.fingerprints)
    of_state, of_gradients, squares, of_leaves, numbers = resolve(
        readings.fingerprints([*parameters, *found.buffers.values()]),
        [gradient and gradient[0] for gradient in gradients],
        [number(gradient[1]) for gradient in gradients if gradient is not None],
        [reading for _, reading in leaves.entries],
        [_loss(loss), rate],
    )
    trained = [parameter.requires_grad for parameter in parameters]
    of_parameters = list(zip(stored, of_state, trained, strict=False))
    names = [stored_name(name, buffer) for name, buffer in found.buffers.items()]
    entries = zip([name for name, _ in leaves.entries], of_leaves, strict=True)
    return Observation(
        parameters={name: value for name, value, trained in of_parameters if trained},
        frozen={name: value for name, value, trained in of_parameters if not trained},
        buffers=dict(zip(names, of_state[len(parameters) :], strict=True)),
        gradients={name: value for name, value, trained in zip(stored, of_gradients, trained, strict=True) if trained},
        batch=int(combine(entries), 16),
        loss=_number(numbers[0]),
        learning_rate=_number(numbers[1]),
        gradient_norm=_root([_number(value) for value in squares]),
        examples=leaves.examples if examples is None else examples,
        tokens=tokens,
        epoch=epoch,
        unread=tuple(leaves.unread),
    )


def agree(own: Observation, ranks: Ranks, step: int) -> tuple[Observation, str]:
    """The step of all ranks together: the mean loss, all batches in the order of the ranks, examples and tokens added.

    Returns:
        The observation, and the first buffer that is not the same on all ranks, with its rank; empty where all are.

    Raises:
        Diverged: gradients or parameters are not the same on all ranks.
    """
    if ranks.world_size == 1:
        return own, ""
    names = [f"gradient {name}" for name in own.gradients]
    names += [f"parameter {name}" for name in own.parameters]
    names += [f"buffer {name}" for name in own.buffers | own.frozen]
    prints = [int(value, 16) for value in own.combined]
    form = int(combine((name, 0) for name in names), 16)
    everyone = ranks.gather([form, bits(own.loss), own.batch, own.examples, own.tokens, *prints])
    if any(part[0] != form for part in everyone):
        raise Diverged(f"step {step}: the ranks do not hold parameters and buffers of the same names and shapes")
    differs = ""
    if any(part[5:] != prints for part in everyone):
        differs = _first_that_differs(own, ranks, names)
        if not differs.startswith("buffer "):
            raise Diverged(
                f"step {step}: {differs}: all ranks must compute the same gradients and update. Look for a parameter "
                "that is changed outside the optimizer, a rank that skips a backward, or a model that is not wrapped "
                "for parallel training"
            )
    combined = replace(
        own,
        loss=exact_sum([from_bits(part[1]) for part in everyone]) / ranks.world_size,
        batch=int(combine((f"rank {rank}", part[2]) for rank, part in enumerate(everyone)), 16),
        examples=sum(part[3] for part in everyone),
        tokens=sum(part[4] for part in everyone),
    )
    return combined, differs


def _first_that_differs(own: Observation, ranks: Ranks, names: list[str]) -> str:
    """In words: the first tensor, in the order of `names`, that a rank has other than rank 0, and that rank."""
    values = [*own.gradients.values(), *own.parameters.values(), *(own.buffers | own.frozen).values()]
    everyone = ranks.gather([x for value in values for x in (0 if value is None else 1, value or 0)])
    for place, name in enumerate(names):
        for rank, part in enumerate(everyone):
            if part[2 * place : 2 * place + 2] != everyone[0][2 * place : 2 * place + 2]:
                return f"{name} on rank {rank} is not the one on rank 0"
    raise AssertionError("fingerprints that are combined to different values differ somewhere")


def _loss(loss: Tensor | float | None) -> Reading | None:
    if loss is None:
        return None
    if isinstance(loss, Tensor) and loss.numel() != 1:
        raise ModelError(f"run.step: expected loss to be a single number, found a tensor of shape {list(loss.shape)}")
    try:
        return number(loss)
    except (TypeError, ValueError):
        raise ModelError(f"run.step: expected loss to be a single number, found a {type(loss)}") from None


def _number(value: int | None) -> float:
    return float("nan") if value is None else from_bits(value)


def _root(squares: list[float]) -> float:
    """√Σ; NaN where there is none: no gradient was seen."""
    if not squares:
        return float("nan")
    return math.sqrt(fsum(squares)) if all(map(isfinite, squares)) else sum(squares)
