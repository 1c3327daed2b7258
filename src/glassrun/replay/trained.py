"""A trained run's step, run again by a worker from the newest checkpoint before it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassrun import config
from glassrun.errors import GlassrunError
from glassrun.record.run_folder import checkpoint_paths
from glassrun.replay import operations
from glassrun.replay.causes import Change
from glassrun.replay.records import Record
from glassrun.replay.reruns import Hear, Outcome, Side, Target, expected, laid_out
from glassrun.train.launch import launch


class TrainedSide:
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
        return expected(self.record, self.target)

    def rerun(self, hear: Hear, *, traced: bool, variables: Mapping[str, str] | None = None) -> Outcome:
        """As it was; leaves a checkpoint of the step before, which counterfactual reruns start from."""
        first = int(self.start.name.removeprefix("step-")) if self.start else 0
        lines = {str(line.step.step): line.step.fields() for line in self.record.lines[first : self.target.step]}
        save = str(self.scratch / "before") if not (self.scratch / "before").exists() else None
        job = {"start": str(self.start) if self.start else None, "lines": lines, "save": save}
        return self._launch(job, self.record.folder.header["config"], self, variables or {}, hear, traced=traced)

    def counterfactual(self, change: Change, other: Side, hear: Hear, /) -> Outcome:
        """The step with something of the other run's in place of its own."""
        own = self.record.folder.header["config"]
        values = change.applied(own)
        saved = sorted((self.scratch / "before" / "checkpoints").glob("step-*"))
        if values.get("average") != own.get("average"):
            # The averages that were saved are of the run's own decay, over every step: an evaluation of others takes
            # all steps again. A step does not depend on them.
            if self.target.split:
                saved = []
            else:
                values["average"] = own.get("average")
        elif not saved and (self.target.step > 1 or self.target.split):
            return Outcome(None, problem="the state before the step could not be made again here")
        job: dict[str, Any] = {"start": str(saved[0]) if saved else None, "lines": {}, "save": None}
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
                "import_path": getattr(code_of, "import_path", self.import_path),
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
        if self._code is None:
            self._code = laid_out(self.record.folder, self.import_path, self.scratch / "code")
        return self._code

    def _checkpoint(self) -> Path | None:
        """The newest checkpoint before what is run again."""
        last = self.target.step if self.target.split else self.target.step - 1
        found = [path for path in checkpoint_paths(self.record.folder.path) if int(path.name[5:]) <= last]
        return found[-1] if found else None
