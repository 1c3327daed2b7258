"""What `diff` found: the verdict as values, and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from glassrun.replay.causes import Cause
from glassrun.replay.operations import Divergence
from glassrun.replay.records import Difference, Extent


@dataclass(frozen=True)
class Verdict:
    """Whether two runs are the same, else where they part and why.

    Arguments:
        a, b: the folders.
        compared: how many steps and evaluations both have.
        difference: the first recorded difference; None for identical runs.
        reproduced: whether a rerun of the step gave the recorded bits, for A and for B; None where none was made.
        divergence: the first operation that differs, where reruns could show it.
        between: what was traced to find it: "A and B", or one of them twice.
        starts: what of the step's start differs: parameters, buffers, optimizer state, tensors of the batch.
        examples: how the batches differ, by example.
        causes: everything that differs between the runs and was, or could not be, tested.
        notes: what else to know.
    """

    a: str
    b: str
    compared: Extent
    difference: Difference | None = None
    reproduced: tuple[bool | None, bool | None] = (None, None)
    divergence: Divergence | None = None
    between: str = "A and B"
    starts: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def identical(self) -> bool:
        return self.difference is None

    def __bool__(self) -> bool:
        return self.identical

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def with_causes(self, causes: Sequence[Cause]) -> Verdict:
        """The same with its causes, confirmed ones first."""
        order = ("confirmed", "suspected", "excluded")
        return replace(self, causes=tuple(sorted(causes, key=lambda cause: order.index(cause.status))))

    def as_plain(self) -> dict[str, Any]:
        """As `diff --json` gives it."""
        found, operation = self.difference, self.divergence.operation if self.divergence else None
        return {
            "identical": self.identical,
            "a": self.a,
            "b": self.b,
            "steps_compared": self.compared.steps,
            "evaluations_compared": self.compared.evaluations,
            "step": found.step if found else None,
            "phase": found.phase if found else None,
            "field": found.field if found else None,
            "values": [_plain(found.a), _plain(found.b)] if found else None,
            "split": found.split if found else None,
            "tensors": list(found.tensors) if found else [],
            "starts": list(self.starts),
            "examples": list(self.examples),
            "module": operation.module or None if operation else None,
            "op": operation.name if operation else None,
            "source_line": operation.line or None if operation else None,
            "backward": operation.backward if operation else None,
            "how": self.divergence.what if self.divergence else None,
            "reproduced": list(self.reproduced),
            "causes": [cause.as_plain() for cause in self.causes],
            "notes": list(self.notes),
        }


def _lines(verdict: Verdict) -> list[str]:
    compared, found = verdict.compared, verdict.difference
    everything = f"{_count(compared.steps, 'step')} and {_count(compared.evaluations, 'evaluation')}"
    notes = [f"note: {note}" for note in verdict.notes]
    if found is None:
        return [f"identical: {everything} have the same bits in both runs", *notes]
    where = f"step {found.step}, phase {found.phase}"
    if found.split:
        where += f", split {found.split}"
    lines = [
        f"different: {where}: {found.field} is {_plain(found.a)} in A, {_plain(found.b)} in B",
        f"  A           {verdict.a}",
        f"  B           {verdict.b}",
    ]
    if found.step > 1:
        lines.append(f"  before      steps 1 to {found.step - 1} have the same bits")
    lines += _rows("tensors", found.tensors) + _rows("starts from", verdict.starts) + _rows("batch", verdict.examples)
    lines += _operation(verdict)
    for letter, reproduced in zip("AB", verdict.reproduced, strict=True):
        if reproduced is False:
            lines.append(f"  rerun       run {letter}'s step does not come out here as it was recorded")
    for cause in verdict.causes:
        if cause.status != "excluded":
            values = f": {cause.a} in A, {cause.b} in B" if cause.a or cause.b else ""
            lines.append(f"cause {cause.status}: {cause.kind}: {cause.what}{values}")
            lines.append(f"  because     {cause.because}")
    excluded = [cause for cause in verdict.causes if cause.status == "excluded"]
    if excluded:
        shown = ", ".join(f"{cause.kind} {cause.what}" for cause in excluded[:8])
        more = f" and {len(excluded) - 8} more" if len(excluded) > 8 else ""
        lines.append(f"excluded: {shown}{more}")
    if not verdict.causes:
        lines.append("cause unknown: nothing that is recorded differs between the two runs")
    return lines + notes


def _operation(verdict: Verdict) -> list[str]:
    """The operation in words."""
    found = verdict.divergence
    if found is None:
        return []
    operation = found.operation
    where = f" in {operation.module}" if operation.module else ""
    line = f"{'backward of ' if operation.backward else ''}{operation.line}" if operation.line else ""
    first, second = verdict.between.split(" and ")
    explained = {
        "output": f"its {len(operation.inputs)} inputs agree to the bit, its output {found.place + 1} differs",
        "input": f"its input {found.place + 1} differs, and no operation before it made it: it enters from outside",
        "scalar": f"a number that enters from outside differs: {_scalars(found)}",
        "random state": "its inputs agree, the random state that it draws from differs",
        "operation": f"{first} calls {_called(found.a)}, {second} {_called(found.b)}",
    }[found.what]
    rows = [f"  operation   {operation.name}{where}", f"              {explained}"]
    if verdict.between != "A and B":
        rows.append(f"              seen between {first} and {second}")
    return [*rows, f"  line        {line}"] if line else rows


def _called(operation: Any) -> str:
    return f"{operation.name} at {operation.line}" if operation else "nothing more"


def _scalars(found: Divergence) -> str:
    """The first two that differ, as numbers."""
    assert found.a is not None, "both have the operation"
    assert found.b is not None, "both have the operation"
    for x, y in zip(found.a.scalars.split(), found.b.scalars.split(), strict=False):
        if x != y:
            return f"{_number(x)} and {_number(y)}"
    return f"{found.a.scalars} and {found.b.scalars}"


def _number(text: str) -> str:
    try:
        return repr(float.fromhex(text)) if "0x" in text else text
    except ValueError:
        return text


def _rows(name: str, values: Sequence[str]) -> list[str]:
    if not values:
        return []
    more = [f"and {len(values) - 4} more"] if len(values) > 4 else []
    return [f"  {name if place == 0 else '':<12}{value}" for place, value in enumerate([*values[:4], *more])]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and value - value != 0 else value
