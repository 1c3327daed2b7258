"""Learning-rate schedules: pure functions of the step, which counts from 1."""

from __future__ import annotations

import math

from glassrun.config import Recipe


def warmup_cosine(
    step: int, *, peak_lr: float, steps: int, warmup_steps: int, initial_lr: float = 0.0, final_lr: float = 0.0
) -> float:
    """Linear warmup (Goyal et al. 2017, section 2.2), then cosine decay (Loshchilov & Hutter 2017, equation 5).

    With s the step, w the warmup steps and n all steps:

        s ≤ w:  initial + (peak − initial) · s / w
        s > w:  final + (peak − final) · (1 + cos(π · (s − w) / (n − w))) / 2

    So the rate at step w is the peak and at step n the final one. We take one cycle, and differ in that the first
    step already moves: its rate is one warmup step above the initial one.

    >>> [round(warmup_cosine(s, peak_lr=1.0, steps=6, warmup_steps=2), 3) for s in range(1, 7)]
    [0.5, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    if step < warmup_steps:
        return initial_lr + (peak_lr - initial_lr) * step / warmup_steps
    if step == warmup_steps:
        return peak_lr  # exactly, where the line above may round
    progress = (step - warmup_steps) / (steps - warmup_steps)
    return final_lr + (peak_lr - final_lr) * (1 + math.cos(math.pi * progress)) / 2


def warmup_constant(step: int, *, peak_lr: float, warmup_steps: int, initial_lr: float = 0.0) -> float:
    """Linear warmup, then the peak rate to the end.

    >>> [warmup_constant(s, peak_lr=1.0, warmup_steps=2, initial_lr=0.5) for s in range(1, 5)]
    [0.75, 1.0, 1.0, 1.0]
    """
    if step < warmup_steps:
        return initial_lr + (peak_lr - initial_lr) * step / warmup_steps
    return peak_lr


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
    schedule, peak = recipe.schedule, recipe.optimizer.lr
    warmup = warmup_steps(recipe, training_examples)
    kind: str = schedule.kind
    if kind == "warmup-cosine":
        return warmup_cosine(
            step,
            peak_lr=peak,
            steps=recipe.train.steps,
            warmup_steps=warmup,
            initial_lr=schedule.initial_lr,
            final_lr=schedule.final_lr,
        )
    return warmup_constant(step, peak_lr=peak, warmup_steps=warmup, initial_lr=schedule.initial_lr)
