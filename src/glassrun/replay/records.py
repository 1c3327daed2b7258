"""Where two runs part, from what they recorded alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from glassrun.record.ledger import Line, first_phase
from glassrun.record.run_folder import RunFolder

Evaluations = dict[tuple[int, str], dict[str, Any]]


class Record:
    """What one run recorded, all of it checked when this is made.

    Raises:
        RunFolderError: the folder is damaged.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.lines: list[Line] = folder.lines()
        self.evaluations: Evaluations = {(int(v["step"]), str(v["split"])): v for v in folder.metrics()}
        self.names, self.rows = folder.tensors()

    @property
    def initial(self) -> dict[str, str]:
        """Fingerprints of parameters and buffers before the first step."""
        return dict(self.folder.header.get("initial", {}))


@dataclass(frozen=True)
class Difference:
    """The first recorded value that is not the same in two runs.

    Arguments:
        step: whose it is.
        phase: batch, forward, backward, optimizer, buffers, evaluation, or environment (the runs began with other
            parameters or buffers, before any step).
        field: name of the value.
        a, b: it, in each run.
        split: what was evaluated, for an evaluation.
        tensors: the gradients, else the parameters, whose recorded fingerprints differ at that step.
    """

    step: int
    phase: str
    field: str
    a: Any
    b: Any
    split: str | None = None
    tensors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Extent:
    """How much of two runs was compared."""

    steps: int
    evaluations: int


def extent(a: Record, b: Record) -> Extent:
    """The steps and evaluations that both runs have."""
    return Extent(min(len(a.lines), len(b.lines)), len(a.evaluations.keys() & b.evaluations.keys()))


def first_difference(a: Record, b: Record) -> Difference | None:
    """The first recorded difference, in the order in which a run makes its values; None where there is none."""
    step = _step(a, b)
    evaluation = _evaluation(a, b)
    if step is None or (evaluation is not None and evaluation.step < step.step):
        return evaluation
    return step


def _step(a: Record, b: Record) -> Difference | None:
    for x, y in zip(a.lines, b.lines, strict=False):
        found = first_phase(x.step, y.step)
        if found is None:
            continue
        phase, field = found
        number = x.step.step
        if number == 1 and phase != "batch" and a.initial != b.initial:
            field = next(name for name in ("parameters", "buffers") if a.initial[name] != b.initial[name])
            return Difference(1, "environment", f"initial {field}", a.initial[field], b.initial[field])
        values = getattr(x.step, field), getattr(y.step, field)
        return Difference(number, phase, field, *values, tensors=_tensors(a, b, number, phase))
    return None


def _tensors(a: Record, b: Record, step: int, phase: str) -> tuple[str, ...]:
    """The tensors that differ at a step, by name without dtype and shape; of those that the phase makes."""
    made = {"backward": "gradient", "optimizer": "parameter"}.get(phase)
    rows = a.rows.get(step), b.rows.get(step)
    if made is None or rows[0] is None or rows[1] is None:
        return ()
    values = dict(zip(a.names, rows[0], strict=True)), dict(zip(b.names, rows[1], strict=True))
    names = [name for name in a.names if name.startswith(f"{made} ")]
    return tuple(name.split()[1] for name in names if name not in values[1] or values[0][name] != values[1][name])


def _evaluation(a: Record, b: Record) -> Difference | None:
    for step, split in a.evaluations:
        x, y = a.evaluations[step, split], b.evaluations.get((step, split))
        if y is None:
            continue  # how often a run evaluates is free
        for name in x:
            exact = f"{name}_hex"
            if exact in x and x[exact] != y.get(exact):
                return Difference(step, "evaluation", name, x[name], y.get(name), split)
        if x["examples"] != y["examples"]:
            return Difference(step, "evaluation", "examples", x["examples"], y["examples"], split)
    return None
