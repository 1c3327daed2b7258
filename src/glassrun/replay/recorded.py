"""A step of another program's loop, run again by starting the program anew up to that step (see `record.rerun`)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassrun.errors import GlassrunError
from glassrun.record import rerun
from glassrun.replay import operations
from glassrun.replay.causes import Change
from glassrun.replay.records import Record
from glassrun.replay.reruns import Hear, Outcome, Side, Target, expected, laid_out
from glassrun.train.launch import DECIDE_BITS

SCRIPT = "__main__.py"  # as `code.zip` names the program that was started


class RecordedSide:
    """One of the two runs, recorded from a loop that is not ours.

    Arguments: as for `TrainedSide`.
    """

    def __init__(self, name: str, record: Record, target: Target, scratch: Path, import_path: list[str]) -> None:
        self.name, self.record, self.target, self.scratch = name, record, target, scratch / name
        self.command: dict[str, Any] | None = record.folder.header["command"]
        self.import_path = [*self._folders(), *import_path]
        self.scratch.mkdir()
        self._code: Path | None = None
        self._reruns = 0

    @property
    def expected(self) -> Mapping[str, Any]:
        """What it recorded for the step in question."""
        return expected(self.record, self.target)

    def rerun(self, hear: Hear, *, traced: bool, variables: Mapping[str, str] | None = None) -> Outcome:
        """The step as it was, but for these environment variables."""
        hear({"event": "note", "text": f"starting the program of run {self.name} again, up to step {self.target.step}"})
        return self._run(Change(variables=variables or {}), self, traced=traced)

    def counterfactual(self, change: Change, other: Side, _hear: Hear, /) -> Outcome:
        """The step with something of the other run's in place of its own."""
        if not isinstance(other, RecordedSide):
            return Outcome(None, problem="a program's loop and a recipe's run have nothing that can be exchanged")
        return self._run(change, other, traced=False)

    def code(self) -> Path | None:
        """A folder with the recorded code, or None where that is what is imported here anyway."""
        if self._code is None:
            self._code = laid_out(self.record.folder, self.import_path, self.scratch / "code")
            script = self._script()
            if self._code is not None and script is not None and (self._code / SCRIPT).exists():
                # Under its own name: a module of the program may import it.
                (self._code / SCRIPT).rename(self._code / script.name)
        return self._code

    def _run(self, change: Change, other: RecordedSide, *, traced: bool) -> Outcome:
        if self.target.split:
            return Outcome(None, problem="evaluations of another program's loop are not run again")
        if self.command is None or not self.record.folder.header["replayable"]:
            return Outcome(None, problem="its loop does not allow it: see run.replayable")
        self._reruns += 1
        trace = self.scratch / f"trace-{self._reruns}.jsonl"
        job, result = self.scratch / f"job-{self._reruns}.json", self.scratch / f"result-{self._reruns}.json"
        values = {"step": self.target.step, "entry": self.command["entry"], "result": str(result)}
        values |= {"trace": str(trace) if traced else None, "flags": dict(change.flags)}
        job.write_text(json.dumps(values), encoding="utf-8")
        source, command = (other if change.code else self), (other if change.command else self).command
        assert command is not None, "a command is exchanged only where both have one"
        try:
            arguments, variables = self._started(source.code(), command["arguments"])
            done = subprocess.run(
                [command["python"], *arguments],
                cwd=command["folder"],
                env=variables | dict(change.variables) | {rerun.VARIABLE: str(job)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
            )
            found = json.loads(result.read_bytes()) if result.exists() else None
            read = tuple(operations.read(trace)) if trace.exists() else ()
        except (OSError, ValueError, GlassrunError) as error:
            return Outcome(None, problem=str(error))
        if found is None:
            last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            return Outcome(None, problem=f"the program ended with exit code {done.returncode}: {last[0]}")
        return self._outcome(found["steps"], read)

    def _outcome(self, steps: Mapping[str, Any], trace: tuple[operations.Operation, ...]) -> Outcome:
        before = self.record.lines[: self.target.step - 1]
        left = next((n.step.step for n in before if steps.get(str(n.step.step)) != n.step.fields()), None)
        return Outcome(steps.get(str(self.target.step)), left=left, trace=trace)

    def _started(self, code: Path | None, given: list[str]) -> tuple[list[str], dict[str, str]]:
        """Python's arguments, which are `given`, and the environment; with `code`, all is imported from there first."""
        assert self.command is not None, "only a program with a command is started"
        variables = {name: value for name, value in os.environ.items() if not name.startswith(DECIDE_BITS)}
        variables |= self.record.folder.header["environment"]["numerics"]["variables"]
        variables.pop("PYTHONHASHSEED", None)
        if self.command["hash_seed"] is not None:
            variables["PYTHONHASHSEED"] = self.command["hash_seed"]
        arguments = list(given)
        if code is None:
            return arguments, variables
        script, place = self._script(), _place(arguments)
        if script is not None and place is not None and (code / script.name).exists():
            arguments[place] = str(code / script.name)
        folders = [str(code), *self._folders(), variables.get("PYTHONPATH", "")]
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
        return ["-P", *arguments], variables  # or the working folder would come first

    def _folders(self) -> list[str]:
        """Where the program's own modules lie."""
        if self.command is None:
            return []
        script = self._script()
        return [str(script.parent)] if script is not None else [self.command["folder"]]

    def _script(self) -> Path | None:
        """The script that was started; None for a module."""
        arguments = self.command["arguments"] if self.command else []
        place = _place(arguments)
        return None if self.command is None or place is None else Path(self.command["folder"], arguments[place])


def _place(arguments: list[str]) -> int | None:
    """Which of Python's arguments is the script."""
    for place, argument in enumerate(arguments):
        if argument in ("-m", "-c"):
            return None
        if argument.endswith(".py"):
            return place
    return None
