"""Two runs: are they the same, and if not, from which step, in which operation, and why."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from glassrun.record.run_folder import RunFolder
from glassrun.record.run_json import RECORDED
from glassrun.replay.causes import Cause, Change, suspects
from glassrun.replay.operations import Divergence, first_divergence
from glassrun.replay.recorded import RecordedSide
from glassrun.replay.records import Record, extent, first_difference
from glassrun.replay.reruns import Outcome, Side, Target, same
from glassrun.replay.trained import TrainedSide
from glassrun.replay.verdict import Verdict

Hear = Callable[[dict[str, Any]], None]

_MOST_TESTS = 8  # suspects that are tested one by one; each takes a few seconds
_AT_ONCE = 2  # reruns beside each other


def diff(a: RunFolder, b: RunFolder, *, import_path: Sequence[str] = (), hear: Hear | None = None) -> Verdict:
    """Compare two runs to the bit; where they part, name the operation and test the causes.

    First from the records alone. Then the step in question is run again for each run, in a process of its own and under
    a trace. Nothing is said of an operation unless both reruns gave their recorded bits; else each that did not is run
    once more, and if the two differ, the operation that does not repeat is named. At last each suspect is exchanged
    alone in run A's step.

    Arguments:
        a, b: the runs; neither is changed.
        import_path: folders of the user's modules, beside those that the runs recorded.
        hear: called with an event ("event": "note" or "rerun") as it goes.

    Raises:
        RunFolderError: a run is damaged.
    """
    tell = hear or (lambda _: None)
    records = Record(a), Record(b)
    difference = first_difference(*records)
    verdict = Verdict(str(a.path), str(b.path), extent(*records), difference, notes=_notes(*records))
    if difference is None:
        return replace(verdict, notes=(*verdict.notes, *_without_effect(a, b)))
    target = Target(difference.step, difference.split)
    with tempfile.TemporaryDirectory(prefix="glassrun-diff-") as scratch:
        sides = [
            _side(name, record, target, Path(scratch), list(import_path))
            for name, record in zip("AB", records, strict=True)
        ]
        tell({"event": "note", "text": f"step {difference.step}: running it again for both, traced"})
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            first = list(pool.map(lambda side: side.rerun(tell, traced=True), sides))
        verdict = _with_reruns(verdict, sides, first)
        return _with_causes(verdict, sides, first, tell)


def _side(name: str, record: Record, target: Target, scratch: Path, import_path: list[str]) -> Side:
    if record.folder.header["kind"] == RECORDED:
        return RecordedSide(name, record, target, scratch, import_path)
    return TrainedSide(name, record, target, scratch, import_path)


def _notes(a: Record, b: Record) -> tuple[str, ...]:
    found = []
    for name, record in (("A", a), ("B", b)):
        planned = None if record.folder.header["kind"] == RECORDED else record.folder.recipe.train.steps
        if planned is not None and len(record.lines) < planned:
            found.append(f"run {name} has {len(record.lines)} of {planned} steps ({record.folder.status})")
    if len(a.lines) != len(b.lines):
        found.append(f"A has {len(a.lines)} steps, B {len(b.lines)}: what only one of them has is not compared")
    return tuple(found)


def _without_effect(a: RunFolder, b: RunFolder) -> list[str]:
    """What differs between the records of two runs with the same bits."""
    found = suspects(a, b)
    shown = "; ".join(f"{cause.kind} {cause.what} ({cause.a} in A, {cause.b} in B)" for cause in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return [f"the runs differ in {shown}{more}, which moved no bit that was compared"] if found else []


# --- the operation ---------------------------------------------------------------------------------------------------


def _with_reruns(verdict: Verdict, sides: Sequence[Side], first: Sequence[Outcome]) -> Verdict:
    """What the reruns of the two steps show."""
    reproduced = tuple(
        None if outcome.problem else same(outcome.found, side.expected)
        for side, outcome in zip(sides, first, strict=True)
    )
    notes = [f"run {side.name}: {text}" for side, outcome in zip(sides, first, strict=True) for text in outcome.notes]
    for side, outcome in zip(sides, first, strict=True):
        if outcome.problem:
            notes.append(f"run {side.name}'s step cannot be run again: {outcome.problem}")
        if outcome.data not in (None, side.record.folder.header.get("data_digest")):
            notes.append(f"run {side.name}: the data are no longer those that it was recorded on")
        elif not outcome.problem and same(outcome.found, _other(side, sides).expected):
            notes.append(
                f"run {side.name}'s step run again now gives the other run's bits: something that no record holds, "
                "such as a file that the program reads, has changed since"
            )
        if outcome.left is not None:
            notes.append(f"run {side.name}: step {outcome.left}, before the one in question, is other than recorded")
    verdict = replace(verdict, reproduced=(reproduced[0], reproduced[1]), notes=(*verdict.notes, *notes))
    if not all(reproduced):
        return verdict
    return replace(
        verdict,
        divergence=first_divergence(first[0].trace, first[1].trace),
        starts=_starts(first[0], first[1]),
        examples=_examples(first[0], first[1]),
    )


def _other(side: Side, sides: Sequence[Side]) -> Side:
    return sides[1] if side is sides[0] else sides[0]


def _starts(a: Outcome, b: Outcome) -> tuple[str, ...]:
    """Tensors that the step starts from and that differ, without the batch if examples can be named."""
    x, y = dict(a.state or {}), dict(b.state or {})
    return tuple(name for name in [*x, *(name for name in y if name not in x)] if x.get(name) != y.get(name))


def _examples(a: Outcome, b: Outcome) -> tuple[str, ...]:
    """Examples of the batch that are not the same, by their place in it."""
    if a.examples == b.examples:
        return ()
    pairs = list(enumerate(zip_longest(a.examples, b.examples)))
    lines = [f"example {place}: {_example(x)} in A, {_example(y)} in B" for place, (x, y) in pairs if x != y]
    return (f"{len(lines)} of {len(pairs)} examples differ", *lines[:3])


def _example(example: tuple[Any, ...] | None) -> str:
    return f"number {example[1]} of epoch {example[0]} (key {str(example[2])[:12]})" if example else "none"


# --- causes ----------------------------------------------------------------------------------------------------------


def _with_causes(verdict: Verdict, sides: Sequence[Side], first: Sequence[Outcome], tell: Hear) -> Verdict:
    found = suspects(sides[0].record.folder, sides[1].record.folder)
    tested = _tested(found, sides, first[0], tell)
    if any(cause.status == "confirmed" for cause in tested):
        return verdict.with_causes(tested)
    for side, outcome, reproduced in zip(sides, first, verdict.reproduced, strict=True):
        if reproduced or outcome.problem or outcome.data != side.record.folder.header.get("data_digest"):
            continue
        tell({"event": "note", "text": f"run {side.name} does not repeat: running its step once more"})
        again = side.rerun(tell, traced=True)
        if not _alike(outcome, again):
            return _nondeterministic(verdict, side, outcome, again, [*_hash_order(side, tell), *tested])
    return verdict.with_causes(tested)


def _alike(a: Outcome, b: Outcome) -> bool:
    """Whether two reruns of the same step did the same."""
    return (a.found, a.left, a.state, a.examples) == (b.found, b.left, b.state, b.examples)


def _hash_order(side: Side, tell: Hear) -> list[Cause]:
    """Whether a step that does not repeat does once Python's hashes are fixed: the order of a set is the cause then."""
    command = side.record.folder.header.get("command")
    if command is None or command["hash_seed"] is not None:
        return []  # a worker of ours has them fixed
    fixed = [side.rerun(tell, traced=False, variables={"PYTHONHASHSEED": "0"}) for _ in range(2)]
    if fixed[0].problem or not _alike(fixed[0], fixed[1]):
        return []
    because = "the step was run twice with PYTHONHASHSEED=0 and gave equal bits, and twice without and gave other bits"
    return [Cause("variable", "PYTHONHASHSEED (the order of a set)", "not set", "not set", "confirmed", because)]


def _nondeterministic(verdict: Verdict, side: Side, a: Outcome, b: Outcome, tested: Sequence[Cause]) -> Verdict:
    """Two reruns of one step of one run differ: what does not repeat."""
    divergence = first_divergence(a.trace, b.trace)
    starts = _starts(a, b)
    what = _unrepeatable(divergence, starts, _examples(a, b))
    cause = Cause(
        "nondeterminism",
        what,
        "",
        "",
        "confirmed",
        f"run {side.name}'s step was run twice with everything the same, and gave other bits",
    )
    return replace(
        verdict,
        divergence=divergence,
        starts=starts,
        between=f"run {side.name} and the same again",
    ).with_causes([cause, *tested])


def _unrepeatable(divergence: Divergence | None, starts: Sequence[str], examples: Sequence[str]) -> str:
    if examples:
        return "the order or the content of the examples"
    batch = next((name for name in starts if name.startswith("batch ")), None)
    if divergence is None or (batch and divergence.what in ("input", "scalar")):
        return f"{batch or 'a value'}: the data or the task's collate give other values each time"
    operation = divergence.operation
    where = f" in {operation.module}" if operation.module else ""
    if divergence.what in ("input", "scalar"):
        outside = "a value from outside torch (a generator that nobody seeds, the clock, the order of a set)"
        return f"{outside} that enters at {operation.name}{where}"
    if divergence.what == "random state":
        return f"the random state that {operation.name}{where} draws from"
    if divergence.what == "operation":
        return f"which operation is called at {operation.line}"
    return f"the operation {operation.name}{where}: equal inputs, other outputs"


def _tested(found: Sequence[Cause], sides: Sequence[Side], base: Outcome, tell: Hear) -> list[Cause]:
    """Each suspect with its status: exchanged alone, and if none explains it alone, all together.

    Arguments:
        base: run A's step as it was. Unless it gave A's bits, what gives B's may do so by chance: then nothing is
            confirmed but that the data, which A's step was run on, are B's by now.
    """
    testable = [cause for cause in found if cause.change is not None][:_MOST_TESTS]
    left = [cause for cause in found if not any(cause is other for other in testable)]
    for cause in testable:
        tell({"event": "note", "text": f"testing {cause.kind} {cause.what}"})
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        tested = list(pool.map(lambda cause: _test(cause, sides, base, tell), testable))
    if any(cause.status == "confirmed" for cause in tested):
        alone = "another cause explains the difference alone"
        tested = [
            replace(cause, status="excluded", because=alone) if cause.status == "suspected" else cause
            for cause in tested
        ]
        return [*tested, *(replace(cause, status="excluded", because=alone) for cause in left)]
    if not same(base.found, sides[0].expected):
        return [*tested, *left]
    return [*_together(tested, sides, tell), *left]


def _test(cause: Cause, sides: Sequence[Side], base: Outcome, tell: Hear) -> Cause:
    """Exchange one thing in run A's step."""
    assert cause.change is not None, "only what can be exchanged is tested"
    a, b = sides
    outcome = a.counterfactual(cause.change, b, tell)
    step = f"A's step {a.target.step}"
    if outcome.problem:
        return replace(cause, because=f"the test failed: {outcome.problem}")
    moved = cause.kind == "data" and base.data != a.record.folder.header.get("data_digest")
    if not same(base.found, a.expected) and not moved:
        return replace(cause, because=f"not tested: {step} does not come out here as it was recorded")
    if same(outcome.found, b.expected):
        return replace(
            cause, status="confirmed", because=f"{step} with B's value, and nothing else of B's, gave B's bits"
        )
    if same(outcome.found, a.expected):
        return replace(cause, status="excluded", because=f"{step} with B's value gave A's bits")
    return replace(cause, because=f"{step} with B's value gave other bits than A's, and not B's")


def _together(tested: Sequence[Cause], sides: Sequence[Side], tell: Hear) -> list[Cause]:
    """None explains it alone: all that are not excluded at once."""
    open_ = [cause for cause in tested if cause.status == "suspected"]
    if len(open_) < 2:
        return list(tested)
    change = Change()
    for cause in open_:
        assert cause.change is not None, "only what can be exchanged is tested"
        change = change.and_also(cause.change)
    outcome = sides[0].counterfactual(change, sides[1], tell)
    if not same(outcome.found, sides[1].expected):
        return list(tested)
    names = " and ".join(cause.what for cause in open_)
    because = (
        f"A's step {sides[0].target.step} with B's values of {names} together gave B's bits, and with one alone not"
    )
    return [
        replace(cause, status="confirmed", because=because) if cause.status == "suspected" else cause
        for cause in tested
    ]
