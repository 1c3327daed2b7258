"""A worker process: reads its job, does it, tells the launcher, and ends when the launcher does."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from glassrun.errors import GlassrunError

Job = dict[str, Any]


class Telephone:
    """Events to the launcher, one JSON line each; steps at most ten times a second."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._next_step = 0.0
        self._held: dict[str, Any] | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "step" and time.monotonic() < self._next_step:
            self._held = event
            return
        if event["event"] == "step":
            self._next_step = time.monotonic() + 0.1
        elif self._held:
            self._write(self._held)
        self._held = None
        self._write(event)

    def _write(self, event: dict[str, Any]) -> None:
        os.write(self._descriptor, json.dumps(event).encode() + b"\n")


def main() -> None:
    """Do the job that comes through standard input; say at the end how it went."""
    os.set_inheritable(int(sys.argv[1]), False)  # what the user's code starts must not hold the pipe open
    tell = Telephone(int(sys.argv[1]))
    job: Job = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_launcher, args=(sys.stdin.buffer,), daemon=True).start()
    sys.path += [folder for folder in job["import_path"] if folder not in sys.path]
    try:
        result = _do(job, tell)
    except GlassrunError as error:
        _say({"event": "failure", "kind": type(error).__name__, "message": str(error)}, tell)
        os._exit(error.exit_code)
    except BaseException as error:  # the user's code may call sys.exit
        _say({"event": "failure"} | _told(error), tell)
        os._exit(70)
    _say({"event": "done"} | result, tell)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: threads of gloo and of the user's data may still be waiting for somebody who has left.
    os._exit(0)


def _do(job: Job, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The job names the module that does it. Training makes its folder before torch, which takes seconds, is loaded."""
    result: dict[str, Any] = import_module(job["do"]).run(job, tell)
    return result


def _told(error: BaseException) -> dict[str, str]:
    """An error in the user's files as their mistake, in one line; any other as ours, with all we know."""
    own, installed = str(Path(__file__).parents[1]), (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if Path(f.filename).is_file() and not f.filename.startswith((own, *installed))]
    if not theirs:
        return {"kind": "crash", "message": "".join(traceback.format_exception(error))}
    text = " ".join(str(error).split())[:500]
    where = f"{theirs[-1].filename}, line {theirs[-1].lineno}, in {theirs[-1].name}"
    return {"kind": "ModelError", "message": f"{where}: {type(error).__name__}: {text}"}


def _say(event: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
    try:
        tell(event)
    except BrokenPipeError:
        os._exit(75)


def _end_with_launcher(stdin: BinaryIO) -> None:
    """The launcher keeps the pipe open for as long as it lives."""
    while os.read(stdin.fileno(), 1):  # not through the buffer, whose lock would block the interpreter's own end
        pass
    os._exit(75)


if __name__ == "__main__":
    main()
