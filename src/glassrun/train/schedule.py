"""Learning-rate schedules: pure functions of the step, which counts from 1.

All begin with a straight line over the warmup (Goyal et al. 2017, section 2.2) that reaches the peak at its last step.
With s the step, w the warmup steps and n all steps:

    s ≤ w:  initial + (peak − initial) · s / w

So the first step already moves: its rate is one warmup step above the initial one. What follows is each one's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from glassrun.config import Recipe


def warmup_cosine(
    step: int, *, peak_lr: float, steps: int, warmup_steps: int, initial_lr: float = 0.0, final_lr: float = 0.0
) -> float:
    """Warmup, then cosine decay (Loshchilov & Hutter 2017, equation 5; one cycle).

        s > w:  final + (peak − final) · (1 + cos(π · (s − w) / (n − w))) / 2

    >>> [round(warmup_cosine(s, peak_lr=1.0, steps=6, warmup_steps=2), 3) for s in range(1, 7)]
    [0.5, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    if step <= warmup_steps:
        return _warmup(step, peak_lr, warmup_steps, initial_lr)
    return _cosine((step - warmup_steps) / (steps - warmup_steps), peak_lr, final_lr)


def warmup_constant(step: int, *, peak_lr: float, warmup_steps: int, initial_lr: float = 0.0) -> float:
    """Warmup, then the peak rate to the end.

    >>> [warmup_constant(s, peak_lr=1.0, warmup_steps=2, initial_lr=0.5) for s in range(1, 5)]
    [0.75, 1.0, 1.0, 1.0]
    """
    if step <= warmup_steps:
        return _warmup(step, peak_lr, warmup_steps, initial_lr)
    return peak_lr


def linear(
    step: int, *, peak_lr: float, steps: int, warmup_steps: int, initial_lr: float = 0.0, final_lr: float = 0.0
) -> float:
    """Warmup, then a straight line down, as BERT was trained (Devlin et al. 2019, appendix A.2).

        s > w:  peak + (final − peak) · (s − w) / (n − w)

    >>> [linear(s, peak_lr=1.0, steps=6, warmup_steps=2) for s in range(1, 7)]
    [0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    if step <= warmup_steps:
        return _warmup(step, peak_lr, warmup_steps, initial_lr)
    return _linear((step - warmup_steps) / (steps - warmup_steps), peak_lr, final_lr)


def polynomial(
    step: int,
    *,
    peak_lr: float,
    steps: int,
    warmup_steps: int,
    power: float,
    initial_lr: float = 0.0,
    final_lr: float = 0.0,
) -> float:
    """Warmup, then a power of what is left of the run (the "poly" policy; Chen et al. 2018, section 4).

        s > w:  final + (peak − final) · (1 − (s − w) / (n − w))^power

    >>> [polynomial(s, peak_lr=1.0, steps=6, warmup_steps=2, power=2) for s in range(1, 7)]
    [0.5, 1.0, 0.5625, 0.25, 0.0625, 0.0]
    """
    if step <= warmup_steps:
        return _warmup(step, peak_lr, warmup_steps, initial_lr)
    left = (steps - step) / (steps - warmup_steps)
    return float(final_lr + (peak_lr - final_lr) * left**power)


def inverse_square_root(step: int, *, peak_lr: float, warmup_steps: int, initial_lr: float = 0.0) -> float:
    """Warmup, then one over the root of the step, whenever the run may end.

        s > w:  peak · √(w / s)

    A warmup that an epoch's few steps round to none counts as one step.

    >>> [inverse_square_root(s, peak_lr=1.0, warmup_steps=4) for s in (1, 2, 4, 16, 64)]
    [0.25, 0.5, 1.0, 0.5, 0.25]
    """
    if step <= warmup_steps:
        return _warmup(step, peak_lr, warmup_steps, initial_lr)
    return peak_lr * math.sqrt(max(warmup_steps, 1) / step)


def noam(step: int, *, peak_lr: float, warmup_steps: int, d_model: int, initial_lr: float = 0.0) -> float:
    """The rate of the Transformer's paper (Vaswani et al. 2017, equation 3), with `peak_lr` as a factor before it.

        factor · d_model^-½ · min(s^-½, s · w^-1½)

    It is `inverse_square_root` with the peak factor / √(d_model · w), at step w. An `initial_lr` is ours; the paper has
    none.

    >>> [noam(s, peak_lr=1.0, warmup_steps=4, d_model=25) for s in (2, 4, 16)]
    [0.05, 0.1, 0.05]
    """
    peak = peak_lr / math.sqrt(d_model * max(warmup_steps, 1))
    return inverse_square_root(step, peak_lr=peak, warmup_steps=warmup_steps, initial_lr=initial_lr)


def one_cycle(
    step: int,
    *,
    peak_lr: float,
    steps: int,
    warmup_steps: int,
    initial_lr: float = 0.0,
    final_lr: float = 0.0,
    anneal: str = "cosine",
    three_phase: bool = False,
) -> float:
    """Up to the peak and down again (Smith & Topin 2018, section 3); the rate alone, not the momentum.

    The way up and each way down have the form of `anneal`: half a cosine, or the paper's straight line. In three
    phases, as in the paper, the way down takes as many steps as the way up, to the initial rate, and what is left of
    the run goes from there to the final one; in two, it goes from the peak to the final rate at once.

    `torch.optim.lr_scheduler.OneCycleLR` with total_steps n + 1 and pct_start (w + 1) / (n + 1) gives the same, with a
    first step more, whose rate is the initial one.

    >>> [one_cycle(s, peak_lr=1.0, steps=6, warmup_steps=2, anneal="linear") for s in range(1, 7)]
    [0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    between = _BETWEEN[anneal]
    joints = [(0, initial_lr), (warmup_steps, peak_lr)]
    if three_phase and 2 * warmup_steps < steps:
        joints.append((2 * warmup_steps, initial_lr))
    joints.append((max(steps, joints[-1][0]), final_lr))
    for (start, first), (stop, last) in pairwise(joints):
        if step < stop:
            return between((step - start) / (stop - start), first, last)
        if step == stop:
            return last  # exactly, where the line above may round
    return final_lr


def warmup_stable_decay(
    step: int,
    *,
    peak_lr: float,
    steps: int,
    warmup_steps: int,
    decay_steps: int,
    decay: str = "linear",
    initial_lr: float = 0.0,
    final_lr: float = 0.0,
) -> float:
    """Warmup, the peak rate, and a decay over the last steps (Hu et al. 2024, section 4; Hägele et al. 2024).

    With p = (s − (n − decay_steps)) / decay_steps, from the decay's start on:

        linear:  peak + (final − peak) · p
        cosine:  final + (peak − final) · (1 + cos(π · p)) / 2
        1-sqrt:  peak + (final − peak) · √p

    A run that is too short for both begins to decay where the warmup ends.

    >>> [warmup_stable_decay(s, peak_lr=1.0, steps=6, warmup_steps=2, decay_steps=2) for s in range(1, 7)]
    [0.5, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    start = max(warmup_steps, steps - decay_steps)
    if step <= start:
        return warmup_constant(step, peak_lr=peak_lr, warmup_steps=warmup_steps, initial_lr=initial_lr)
    return _BETWEEN[decay]((step - start) / (steps - start), peak_lr, final_lr)


def cosine_restarts(
    step: int,
    *,
    peak_lr: float,
    warmup_steps: int,
    cycle_steps: int,
    cycle_factor: int = 1,
    initial_lr: float = 0.0,
    final_lr: float = 0.0,
) -> float:
    """Warmup, then cosine decay with warm restarts (SGDR; Loshchilov & Hutter 2017, equation 5).

        s > w:  final + (peak − final) · (1 + cos(π · t / T)) / 2

    with T the steps of the cycle that s lies in (cycle_steps, then each cycle_factor times the one before: the paper's
    T_0 and T_mult) and t = 1 … T the step within it. So a cycle's last step has the final rate, and the next begins one
    step below the peak; in the paper and in torch's `CosineAnnealingWarmRestarts` t goes from 0 to T − 1.

    >>> [round(cosine_restarts(s, peak_lr=1.0, warmup_steps=1, cycle_steps=2, cycle_factor=2), 3) for s in range(1, 8)]
    [1.0, 0.5, 0.0, 0.854, 0.5, 0.146, 0.0]
    """
    if step <= warmup_steps:
        return _warmup(step, peak_lr, warmup_steps, initial_lr)
    place, length = step - warmup_steps, cycle_steps
    if cycle_factor == 1:
        place = (place - 1) % length + 1
    while place > length:
        place, length = place - length, length * cycle_factor
    return _cosine(place / length, peak_lr, final_lr)


def _warmup(step: int, peak_lr: float, warmup_steps: int, initial_lr: float) -> float:
    if step == warmup_steps:
        return peak_lr  # exactly, where the line below may round
    return initial_lr + (peak_lr - initial_lr) * step / warmup_steps


def _linear(progress: float, first: float, last: float) -> float:
    return last + (first - last) * (1 - progress)


def _cosine(progress: float, first: float, last: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2


def _one_minus_root(progress: float, first: float, last: float) -> float:
    return last + (first - last) * (1 - math.sqrt(progress))


_BETWEEN: dict[str, Callable[[float, float, float], float]] = {
    "linear": _linear,
    "cosine": _cosine,
    "1-sqrt": _one_minus_root,
}
_SCHEDULES: dict[str, Callable[..., float]] = {
    "warmup-cosine": warmup_cosine,
    "constant": warmup_constant,
    "linear": linear,
    "polynomial": polynomial,
    "inverse-square-root": inverse_square_root,
    "noam": noam,
    "one-cycle": one_cycle,
    "warmup-stable-decay": warmup_stable_decay,
    "cosine-restarts": cosine_restarts,
}
# These do not know where the run ends.
_ENDLESS = ("constant", "inverse-square-root", "noam", "cosine-restarts")


def warmup_steps(recipe: Recipe, training_examples: int) -> int:
    """The warmup of a recipe in steps; an epoch is as many steps as it takes to see `training_examples`.

    A run that is shorter than its warmup ends before the peak.
    """
    schedule = recipe.schedule
    if schedule.warmup_epochs is not None:
        return round(schedule.warmup_epochs * training_examples / recipe.batch.size)
    return schedule.warmup_steps or 0


def learning_rate(recipe: Recipe, step: int, training_examples: int) -> float:
    """The learning rate of a step of a recipe."""
    own = recipe.schedule.model_dump(exclude={"kind", "warmup_steps", "warmup_epochs"})
    if recipe.schedule.kind not in _ENDLESS:
        own["steps"] = recipe.train.steps
    return _SCHEDULES[recipe.schedule.kind](
        step, peak_lr=recipe.optimizer.lr, warmup_steps=warmup_steps(recipe, training_examples), **own
    )
