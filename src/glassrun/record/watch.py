"""Sees what the steps of optimizers use, at the moment they begin: gradients and learning rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import _disable_current_modes

from glassrun.record.readings import Reading, Readings, number, square_sum

Note = Callable[[str, str], None]


@dataclass
class Seen:
    """What was seen since the last time: gradients by parameter, learning rates by the identity of `param_groups`."""

    gradients: dict[Tensor, tuple[Reading, Tensor] | None] = field(default_factory=dict)
    rates: dict[int, Reading] = field(default_factory=dict)
    steps: Counter[int] = field(default_factory=Counter)

    def rate(self, optimizers: Sequence[Any]) -> Reading | None:
        """The learning rate that the first of these used, or holds where it did not step; of any, where none is given.

        What wraps an optimizer shares its `param_groups`.
        """
        if not optimizers:
            return next(iter(self.rates.values()), None)
        groups = optimizers[0].param_groups
        if id(groups) in self.rates:
            return self.rates[id(groups)]
        rate = groups[0].get("lr") if groups else None
        return None if rate is None else number(rate)


class Watch:
    """Hears of every step of every optimizer in this process, from `open` to `close`.

    The hook runs when `optimizer.step` begins: after the loop has unscaled and clipped, before the update, and whatever
    `zero_grad` does later. Where the step gets a closure, that is after the closure's first call.
    """

    def __init__(self, readings: Readings, note: Note) -> None:
        self._readings, self._note = readings, note
        self._handle: Any = None
        self._seen = Seen()
        self.before: dict[Tensor, Reading] | None = {}  # parameters before their first update, until `take`

    def open(self) -> None:
        # A compiled step is cut here: no graph can hold what reads bytes.
        hook = torch.compiler.disable(self._before_step)  # type: ignore[no-untyped-call]
        self._handle = register_optimizer_step_pre_hook(hook)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.remove()

    @property
    def waiting(self) -> bool:
        """Whether a step was seen that nobody took."""
        return bool(self._seen.steps)

    def take(self) -> Seen:
        """What was seen since the last call."""
        seen, self._seen = self._seen, Seen()
        return seen

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = args[1] if len(args) > 1 else kwargs.get("closure")
        if not callable(given):
            self._read(optimizer)
            return None
        closure = _Once(given, lambda: self._read(optimizer), self._note)
        if len(args) > 1:
            return (args[0], closure, *args[2:]), kwargs
        return args, kwargs | {"closure": closure}

    def _read(self, optimizer: Optimizer) -> None:
        with _disable_current_modes():  # what traces the loop's operations is not to see ours
            self._read_undisturbed(optimizer)

    @torch.no_grad()
    def _read_undisturbed(self, optimizer: Optimizer) -> None:
        self._seen.steps[id(optimizer)] += 1
        self._say_what_is_unusual(optimizer)
        groups = optimizer.param_groups
        rate = groups[0].get("lr") if groups else None
        if rate is not None:
            self._seen.rates[id(groups)] = number(rate)
        parameters: list[Tensor] = [parameter for group in groups for parameter in group["params"]]
        self._read_before(parameters)
        present = [parameter for parameter in parameters if parameter.grad is not None]
        gradients = [parameter.grad for parameter in present if parameter.grad is not None]
        prints = self._readings.fingerprints(gradients)
        for parameter, gradient, value in zip(present, gradients, prints, strict=True):
            self._seen.gradients[parameter] = value, square_sum(gradient)
        for parameter in parameters:
            if parameter.grad is None:
                self._seen.gradients[parameter] = None

    def _read_before(self, parameters: Sequence[Tensor]) -> None:
        if self.before is None:
            return
        new = [parameter for parameter in parameters if parameter not in self.before]
        self.before |= zip(new, self._readings.fingerprints(new), strict=True)

    def _say_what_is_unusual(self, optimizer: Optimizer) -> None:
        name = type(optimizer).__name__
        if self._seen.steps[id(optimizer)] > 1:
            self._note(
                "several steps",
                f"{name} stepped more than once between two calls of run.step: a line holds the gradients of the last",
            )
        if getattr(optimizer, "grad_scale", None) is not None:
            self._note(
                "scaled",
                f"a GradScaler hands {name} scaled gradients, which it unscales itself: the scaled ones are recorded. "
                "Call scaler.unscale_(optimizer) before scaler.step(optimizer) to record the unscaled ones",
            )
        if not optimizer.param_groups or "lr" not in optimizer.param_groups[0]:
            self._note("no lr", f"{name} has no learning rate (`lr`): nan is recorded")


class _Once:
    """A closure that tells when its first call is done."""

    def __init__(self, closure: Callable[[], Any], tell: Callable[[], None], note: Note) -> None:
        self._closure, self._tell, self._note = closure, tell, note
        self._calls = 0

    def __call__(self) -> Any:
        result = self._closure()
        self._calls += 1
        if self._calls == 1:
            self._tell()
        elif self._calls == 2:
            self._note("closure", "an optimizer called its closure more than once a step: the first call is recorded")
        return result
