"""The process of one tracker: it follows a run folder and sends what is there, until it is told that the run has ended.

It runs beside the workers, at the lowest priority, and only reads what they write. So whatever a tracker does, to be
down, to hang, to fail, is done to this process alone: no run waits for it, and no bit depends on it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from glassrun.record.run_folder import RunFolder
from glassrun.track.reader import Reader, Row, files, parameters, tags

_LONGEST = 300  # characters of what a tracker says is wrong
_LATER = 3.0  # seconds
_PAUSE = 2.0  # seconds between two looks at the folder: no tracker gets more requests than that


class Tracker(Protocol):
    """What a tracker must be able to do; whatever it raises is told, and done again at the next look."""

    def begin(self, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str], started: int) -> None: ...
    def log(self, rows: Sequence[Row]) -> None: ...
    def end(self, status: str, tags: Mapping[str, str], files: Sequence[Path], root: Path) -> None: ...


class Follower:
    """Brings a tracker up to what a run folder holds; after an error it goes on where it was."""

    def __init__(self, path: Path, make: Callable[[], Tracker], *, with_checkpoint: bool) -> None:
        self.path, self._make, self._with_checkpoint = path, make, with_checkpoint
        self._tracker: Tracker | None = None
        self._reader: Reader | None = None
        self._unsent: list[Row] = []
        self.step = 0  # the last that was sent

    def look(self, *, last: bool) -> bool:
        """Send what is new, and if this is the last look the files too; whether there was a run to send.

        Raises:
            Exception: whatever the tracker raises.
        """
        if self._tracker is None or self._reader is None:
            if not self.path.exists():
                return False  # the data or the model could not be used: it was taken away again
            folder = RunFolder.open(self.path)
            if not folder.began:
                return False
            tracker, self._reader = self._make(), Reader(folder)
            tracker.begin(self.path.name, parameters(folder), tags(folder), self._reader.started)
            self._tracker = tracker
        while rows := self._unsent or self._reader.rows():
            self._unsent = rows
            self._tracker.log(rows)
            self._unsent = []
            self.step = max(self.step, rows[-1].step)
        if last:
            folder = RunFolder.open(self.path)
            own = files(folder, with_checkpoint=self._with_checkpoint)
            self._tracker.end(folder.status, tags(folder), own, self.path)
        return True


def follow(follower: Follower, ended: threading.Event, tell: Callable[[dict[str, Any]], None]) -> None:
    """Look until the run has ended, and once more then; tell after each look how far it got and what was wrong."""
    while True:
        last = ended.is_set()
        problem = None
        try:
            began = follower.look(last=last)
        except Exception as error:  # a tracker can raise anything
            began, problem = True, f"{type(error).__name__}: {' '.join(str(error).split())[:_LONGEST].rstrip('. ')}"
        if began or last:
            tell({"step": follower.step, "problem": problem, "done": last and problem is None})
        if last:
            return
        ended.wait(_PAUSE)


def make(kind: str, settings: Mapping[str, Any], name: str, folder: Path) -> Tracker:
    """The tracker that a recipe's `track` section names; `name` stands in for a missing experiment or project."""
    if kind == "mlflow":
        from glassrun.track.mlflow_run import MlflowRun

        return MlflowRun(settings["uri"], settings["experiment"] or name)
    from glassrun.track.wandb_run import WandbRun

    return WandbRun(settings["project"] or name, settings["mode"], folder)


def main() -> None:
    """Read from standard input what to do, follow, and end some seconds after that input has ended at the latest."""
    os.nice(19)
    messages = os.fdopen(os.dup(1), "wb", buffering=0)
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # trackers talk
        os.dup2(silence, stream)
    job = json.loads(sys.stdin.buffer.readline())
    ended = threading.Event()
    threading.Thread(target=_end, args=(sys.stdin.buffer, ended, float(job["wait"])), daemon=True).start()
    path = Path(job["path"])
    follower = Follower(
        path,
        lambda: make(job["kind"], job["settings"], job["name"], path),
        with_checkpoint=job["settings"]["checkpoint"],
    )
    follow(follower, ended, lambda message: _write(messages, message))
    os._exit(0)  # not waiting for what a tracker's own threads still try


def _end(stdin: BinaryIO, ended: threading.Event, wait: float) -> None:
    """The launcher keeps the pipe open while the run goes on, and stops this process `wait` seconds after.

    Unless it was killed itself: then this process does it, a little later.
    """
    while os.read(stdin.fileno(), 1):
        pass
    ended.set()
    time.sleep(wait + _LATER)
    os._exit(1)


def _write(messages: BinaryIO, message: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):  # the launcher was killed
        messages.write(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
