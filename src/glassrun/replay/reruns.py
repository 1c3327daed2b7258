"""One step of a run again, in a process of its own: what is asked for, what comes of it, and with which code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from glassrun.digest import digest_bytes
from glassrun.record import code
from glassrun.record.run_folder import RunFolder
from glassrun.replay.causes import Change
from glassrun.replay.operations import Operation
from glassrun.replay.records import Record

Hear = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Target:
    """What is run again: a step, or with `split` the evaluation after it."""

    step: int
    split: str | None


@dataclass(frozen=True)
class Outcome:
    """What a rerun gave; `problem` says why it gave nothing.

    Arguments:
        found: the deterministic fields of the step, or the values of the evaluation; None where it was not reached.
        left: the first step before it that was not as recorded.
        state: the fingerprint of each tensor that the step started from.
        examples: epoch, index and key of each example of the batch.
        data: the digest of the data that it ran on.
        notes: how this machine is not the recorded one.
        trace: its operations, where they were asked for.
    """

    found: Mapping[str, Any] | None
    left: int | None = None
    state: Mapping[str, str] | None = None
    examples: tuple[tuple[Any, ...], ...] = ()
    data: str | None = None
    notes: tuple[str, ...] = ()
    trace: tuple[Operation, ...] = ()
    problem: str | None = None


class Side(Protocol):
    """One of the two runs, and how its step is run again."""

    name: str
    record: Record
    target: Target

    @property
    def expected(self) -> Mapping[str, Any]:
        """What it recorded for the step in question."""
        ...

    def rerun(self, hear: Hear, *, traced: bool, variables: Mapping[str, str] | None = None) -> Outcome:
        """The step as it was, but for these environment variables."""
        ...

    def counterfactual(self, change: Change, other: Side, hear: Hear, /) -> Outcome:
        """The step with something of the other run's in place of its own."""
        ...

    def code(self) -> Path | None:
        """A folder with the recorded code, or None where that is what is imported here anyway."""
        ...


def expected(record: Record, target: Target) -> Mapping[str, Any]:
    """What a run recorded for the step in question."""
    if target.split:
        return record.evaluations[target.step, target.split]
    return record.lines[target.step - 1].step.fields()


def laid_out(folder: RunFolder, import_path: list[str], place: Path) -> Path | None:
    """Put a run's recorded code at `place`, unless it is what is imported here anyway: then None."""
    recorded = folder.header["code"]
    if _is_here(recorded["files"], import_path):
        return None
    if not place.exists():
        code.lay_out(code.read_archive(folder.path / "code.zip", recorded), place)
    return place


def _is_here(recorded: Mapping[str, str], import_path: list[str]) -> bool:
    """Whether every recorded source file is what a worker would import."""
    ours = Path(__file__).parents[2]
    for name, digest in recorded.items():
        folders = [ours] if name.startswith("glassrun/") else [Path(folder) for folder in import_path]
        found = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if found is None or digest_bytes(found.read_bytes()) != digest:
            return False
    return True


def same(found: Mapping[str, Any] | None, expected: Mapping[str, Any]) -> bool:
    """Whether a rerun gave the recorded bits."""
    return found is not None and _exact(found) == _exact(expected)


def _exact(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "checksum"}
