"""The `schedule` section: one class a kind; the formulas are in `train.schedule`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from glassrun.sections.base import Count, NonNegative, Positive, Section


class Schedule(Section):
    """What every schedule has: a straight line from `initial_lr` up to the optimizer's rate."""

    kind: str
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    warmup_epochs: Annotated[float, Field(ge=0, le=1e6)] | None = None
    initial_lr: NonNegative = 0.0

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        if self.warmup_steps is not None and self.warmup_epochs is not None:
            raise ValueError("warmup_steps and warmup_epochs are both given; give one")
        return self

    def _needs_a_warmup(self, why: str) -> None:
        if not self.warmup_steps and not self.warmup_epochs:
            raise ValueError(f"{self.kind} needs a warmup: {why}. Give warmup_steps or warmup_epochs, above 0")


class WarmupCosine(Schedule):
    """Then half a cosine down to `final_lr`."""

    kind: Literal["warmup-cosine"] = "warmup-cosine"
    final_lr: NonNegative = 0.0


class Constant(Schedule):
    """Then the optimizer's rate to the end."""

    kind: Literal["constant"]


class Linear(Schedule):
    """Then a straight line down to `final_lr`."""

    kind: Literal["linear"]
    final_lr: NonNegative = 0.0


class Polynomial(Schedule):
    """Then down to `final_lr` as a power of what is left of the run."""

    kind: Literal["polynomial"]
    power: Positive = 2.0
    final_lr: NonNegative = 0.0


class InverseSquareRoot(Schedule):
    """Then down with one over the root of the step."""

    kind: Literal["inverse-square-root"]

    @model_validator(mode="after")
    def _has_a_unit(self) -> Self:
        self._needs_a_warmup("what follows is counted in warmups")
        return self


class Noam(Schedule):
    """The rate of the Transformer's paper; the optimizer's `lr` is a factor before it."""

    kind: Literal["noam"]
    d_model: Count

    @model_validator(mode="after")
    def _has_a_unit(self) -> Self:
        self._needs_a_warmup("the formula is counted in warmups")
        return self


class OneCycle(Schedule):
    """Up to the optimizer's rate and down to `final_lr`; in three phases, first down to `initial_lr`."""

    kind: Literal["one-cycle"]
    final_lr: NonNegative = 0.0
    anneal: Literal["cosine", "linear"] = "cosine"
    three_phase: bool = False

    @model_validator(mode="after")
    def _has_a_way_up(self) -> Self:
        self._needs_a_warmup("it is the cycle's way up")
        if self.three_phase and self.final_lr >= self.initial_lr:
            raise ValueError(
                f"three_phase falls to initial_lr and then to final_lr, but they are {self.initial_lr} and "
                f"{self.final_lr}: give an initial_lr above final_lr"
            )
        return self


class WarmupStableDecay(Schedule):
    """Then the optimizer's rate, and over the last `decay_steps` down to `final_lr`."""

    kind: Literal["warmup-stable-decay"]
    decay_steps: Count
    decay: Literal["linear", "cosine", "1-sqrt"] = "linear"
    final_lr: NonNegative = 0.0


class CosineRestarts(Schedule):
    """Then half a cosine down to `final_lr` again and again, the first in `cycle_steps`, each `cycle_factor` longer."""

    kind: Literal["cosine-restarts"]
    cycle_steps: Count
    cycle_factor: Count = 1
    final_lr: NonNegative = 0.0


SCHEDULES: dict[str, type[Schedule]] = {
    "warmup-cosine": WarmupCosine,
    "constant": Constant,
    "linear": Linear,
    "polynomial": Polynomial,
    "inverse-square-root": InverseSquareRoot,
    "noam": Noam,
    "one-cycle": OneCycle,
    "warmup-stable-decay": WarmupStableDecay,
    "cosine-restarts": CosineRestarts,
}
