"""Rerun one step of a run in a process of its own: as it was, or with something of the other run's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassrun import config
from glassrun.digest import digest_bytes
from glassrun.errors import GlassrunError
from glassrun.record import code
from glassrun.record.run_folder import checkpoint_paths
from glassrun.replay import operations
from glassrun.replay.causes import Change
from glassrun.replay.operations import Operation
from glassrun.replay.records import Record
from glassrun.train.launch import launch

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


class Side:
    """One of the two runs, and how to run it again.

    Arguments:
        name: A or B.
        record: what it recorded.
        target: the step in question.
        scratch: a folder for what its reruns write.
        import_path: where the user's modules may be, beside the recorded places.
    """

    def __init__(self, name: str, record: Record, target: Target, scratch: Path, import_path: list[str]) -> None:
        self.name, self.record, self.target, self.scratch = name, record, target, scratch / name
        self.import_path = [*record.folder.header["import_path"], *import_path]
        self.scratch.mkdir()
        self.start = self._checkpoint()
        self._code: Path | None = None
        self._reruns = 0

    @property
    def expected(self) -> Mapping[str, Any]:
        """What it recorded for the step in question."""
        if self.target.split:
            return self.record.evaluations[self.target.step, self.target.split]
        return self.record.lines[self.target.step - 1].step.fields()

    def rerun(self, hear: Hear, *, traced: bool) -> Outcome:
        """As it was; leaves a checkpoint of the step before, which counterfactual reruns start from."""
        first = int(self.start.name.removeprefix("step-")) if self.start else 0
        lines = {str(line.step.step): line.step.fields() for line in self.record.lines[first : self.target.step]}
        save = str(self.scratch / "before") if not (self.scratch / "before").exists() else None
        job = {"start": str(self.start) if self.start else None, "lines": lines, "save": save}
        return self._launch(job, self.record.folder.header["config"], self, {}, hear, traced=traced)

    def counterfactual(self, change: Change, other: Side, hear: Hear) -> Outcome:
        """The step with something of the other run's in place of its own."""
        saved = sorted((self.scratch / "before" / "checkpoints").glob("step-*"))
        if not saved and (self.target.step > 1 or self.target.split):
            return Outcome(None, problem="the state before the step could not be made again here")
        job: dict[str, Any] = {"start": str(saved[0]) if saved else None, "lines": {}, "save": None}
        values = change.applied(self.record.folder.header["config"])
        return self._launch(job, values, other if change.code else self, change.variables, hear, traced=False)

    def _launch(
        self,
        job: dict[str, Any],
        values: Mapping[str, Any],
        code_of: Side,
        variables: Mapping[str, str],
        hear: Hear,
        *,
        traced: bool,
    ) -> Outcome:
        self._reruns += 1
        trace = self.scratch / f"trace-{self._reruns}.jsonl" if traced else None
        try:
            recipe = config.validate(values, f"run {self.name}, changed")
            job |= {
                "do": "glassrun.replay.rerun",
                "config": recipe.plain(),
                "step": self.target.step,
                "split": self.target.split,
                "trace": str(trace) if trace else None,
                "path": str(self.record.folder.path),
                "import_path": code_of.import_path,
            }
            done = launch(job, recipe.numerics, 1, hear, code=code_of.code(), variables=variables)
            read = tuple(operations.read(trace)) if trace and trace.exists() else ()
        except GlassrunError as error:
            return Outcome(None, problem=str(error))
        found = done.get("evaluation") if self.target.split else done.get("fields")
        return Outcome(
            found=found,
            left=done["left"],
            state=done.get("state"),
            examples=tuple(map(tuple, done.get("examples", ()))),
            data=done["data"],
            notes=tuple(done["notes"]),
            trace=read,
        )

    def code(self) -> Path | None:
        """A folder with the recorded code, or None where that is what is imported here anyway."""
        recorded = self.record.folder.header["code"]
        if self._code is None and not _is_here(recorded["files"], self.import_path):
            files = code.read_archive(self.record.folder.path / "code.zip", recorded)
            self._code = self.scratch / "code"
            code.lay_out(files, self._code)
        return self._code

    def _checkpoint(self) -> Path | None:
        """The newest checkpoint before what is run again."""
        last = self.target.step if self.target.split else self.target.step - 1
        found = [path for path in checkpoint_paths(self.record.folder.path) if int(path.name[5:]) <= last]
        return found[-1] if found else None


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
