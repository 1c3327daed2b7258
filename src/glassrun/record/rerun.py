"""A recorded loop that is run again to look at one of its steps: it writes no run, and ends after that step.

Who wants it starts the recorded command with GLASSRUN_RERUN naming a job, a JSON file:

    step      the step to look at
    entry     which `glassrun.record` of the process it is, from 1
    trace     where the trace of that step's operations goes, or null
    result    where the fields of all steps up to that one go
    flags     what to set when the run begins: threads, float32_matmul_precision, deterministic_algorithms,
              flush_denormal, seed; each may be missing or null
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from torch import nn

from glassrun.errors import ConfigError
from glassrun.record.files import write_atomic
from glassrun.record.ledger import Step

VARIABLE = "GLASSRUN_RERUN"


@dataclass(frozen=True)
class Job:
    """What is asked of this process."""

    step: int
    entry: int
    trace: Path | None
    result: Path
    flags: Mapping[str, Any]


def job() -> Job | None:
    """The job that the environment names.

    Raises:
        ConfigError: the file is not there, or is no job.
    """
    path = os.environ.get(VARIABLE)
    if path is None:
        return None
    try:
        values = json.loads(Path(path).read_bytes())
        trace = values.get("trace")
        return Job(
            step=int(values["step"]),
            entry=int(values.get("entry", 1)),
            trace=None if trace is None else Path(trace),
            result=Path(values["result"]),
            flags=dict(values.get("flags") or {}),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{VARIABLE}={path}: expected the job of a rerun: {type(error).__name__}: {error}") from None


def set_flags(flags: Mapping[str, Any]) -> None:
    """Set what a job asks to be other than the program leaves it."""
    known: dict[str, Callable[[Any], object]] = {
        "threads": torch.set_num_threads,
        "float32_matmul_precision": torch.set_float32_matmul_precision,
        "deterministic_algorithms": torch.use_deterministic_algorithms,
        "flush_denormal": torch.set_flush_denormal,
        "seed": _seed,
    }
    for name, value in flags.items():
        if name not in known:
            raise ConfigError(f"{VARIABLE}: the flag {name!r} is not known. Known: {', '.join(sorted(known))}")
        if value is not None:
            known[name](value)


class Traced(Protocol):
    """Traces of several stretches of operations, and the file they go to."""

    def around(self, model: nn.Module | None) -> AbstractContextManager[object]: ...
    def write(self) -> None: ...


def tracing(path: Path) -> Traced:
    """What traces operations, and writes them to `path`."""
    # By name: it stands above the recorder, which has no need of it but here, in a process that was started for it.
    found: Traced = import_module("glassrun.replay.rerun").Tracing(str(path))
    return found


class Rerunning:
    """Keeps the fields of the steps up to the job's, writes them, and ends the process."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._steps: dict[str, dict[str, int | str]] = {}
        self._initial: dict[str, Any] = {}
        self._traced = None if job.trace is None else tracing(job.trace)
        self._inside = ExitStack()
        self._tracing = False
        set_flags(job.flags)

    @contextmanager
    def calling(self, step: int, model: nn.Module | None) -> Iterator[None]:
        """What surrounds a call of a replayable function that belongs to `step`; `model` names its operations."""
        if self._traced is None or self._tracing or step != self._job.step:
            yield
            return
        self._tracing = True
        with self._inside:
            self._inside.enter_context(self._traced.around(model))
            yield
        self._tracing = False

    def begin(self, initial: dict[str, Any], _names: Sequence[str], /) -> None:
        self._initial = initial

    def step(self, step: Step, _values: Sequence[int | None], _seconds: float, /) -> None:
        self._steps[str(step.step)] = step.fields()
        if step.step == self._job.step:
            self._end()

    def evaluation(self, line: bytes) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def replayable(self) -> None:
        pass

    def close(self, reason: str | None) -> None:
        """The loop ended before the step came: what was seen is told all the same."""
        if reason is None:
            self._end()

    def _end(self) -> NoReturn:
        self._inside.close()  # the step may have ended inside the function
        if self._traced is not None:
            self._traced.write()
        write_atomic(self._job.result, json.dumps({"steps": self._steps, "initial": self._initial}).encode())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # what the program would do after its loop is not wanted


def _seed(value: int) -> None:
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002 - the generators that the program uses
    torch.manual_seed(value)
