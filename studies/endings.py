"""What a run came to: its training loss at the end, and how it does on what it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from statistics import fmean

from glassrun.run import Run

_LAST = 20  # steps whose mean is the final training loss: a single batch says little


def final_loss(run: Run) -> float | None:
    """The mean training loss of the last steps; None where the run stopped, as its loss was not finite."""
    losses = [line.step.loss for line in run.ledger[-_LAST:]]
    return fmean(losses) if run.status == "complete" and all(map(isfinite, losses)) else None


def held_out(run: Run, metric: str) -> float | None:
    """A metric after the last step, on the test split where there is one, else on the validation split."""
    last = {line["split"]: line for line in run.metrics if line["step"] == len(run.ledger)}
    found: Mapping[str, float | None] = last.get("test") or last.get("validation") or {}
    return found.get(metric)
