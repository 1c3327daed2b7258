"""What a run came to: its training loss at the end, and how it does on what it was not trained on."""

from __future__ import annotations

from math import isfinite
from statistics import fmean

from glassrun.run import Run

_LAST = 20  # steps whose mean is the final training loss: a single batch says little


def final_loss(run: Run) -> float | None:
    """The mean training loss of the last steps; None where the run stopped, as its loss was not finite."""
    losses = [line.step.loss for line in run.ledger[-_LAST:]]
    return fmean(losses) if run.status == "complete" and all(map(isfinite, losses)) else None


def held_out(run: Run, metric: str) -> float | None:
    """A mean over examples after the last step, over all that were not trained on: validation and test together.

    Nothing is chosen by the validation split in these studies, so it is as good as the other. None where the run
    stopped, or a number is missing.
    """
    parts = [line for line in run.metrics if line["step"] == run.recipe.train.steps]
    if run.status != "complete" or not parts or any(part[metric] is None for part in parts):
        return None
    return sum(float(part[metric]) * int(part["examples"]) for part in parts) / sum(
        int(part["examples"]) for part in parts
    )
