"""The launcher's side of the trackers: start a process for each, hear from it, wait for it no longer than was said."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from glassrun.config import Track
from glassrun.errors import MissingDependency

PACKAGES = {"mlflow": "MLflow", "wandb": "Weights & Biases"}  # and the name that people know


def require(track: Track) -> None:
    """See that the packages of a recipe's trackers are installed.

    Raises:
        MissingDependency: one is not.
    """
    for kind, name in PACKAGES.items():
        if getattr(track, kind) is not None and find_spec(kind) is None:
            raise MissingDependency(kind, f"tracking with {name}", extra=kind)


@dataclass
class _Follower:
    """The process of one tracker, the pipes to and from it, and the last that it told."""

    title: str
    process: subprocess.Popen[bytes]
    job: IO[bytes]
    messages: IO[bytes]
    unread: bytes = b""
    last: dict[str, Any] = field(default_factory=lambda: {"step": 0, "problem": None, "done": False})
    told: set[str] = field(default_factory=set)


class Trackers:
    """All trackers of a run.

    Arguments:
        track: the recipe's section.
        path: the run folder.
        name: the recipe's name.
    """

    def __init__(self, track: Track, path: Path, name: str) -> None:
        self.path, self.wait = path, track.wait
        settings = {kind: getattr(track, kind) for kind in PACKAGES}
        self._followers = [
            self._start(kind, chosen.plain(), name) for kind, chosen in settings.items() if chosen is not None
        ]

    def _start(self, kind: str, settings: dict[str, Any], name: str) -> _Follower:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "glassrun.track.follow"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C stops the run, and then there is something to send
        )
        assert process.stdin is not None, "a pipe"
        assert process.stdout is not None, "a pipe"
        os.set_blocking(process.stdout.fileno(), False)
        job = {"kind": kind, "settings": settings, "path": str(self.path), "name": name, "wait": self.wait}
        with suppress(BrokenPipeError):  # that it is gone is told at the end
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        where = settings.get("uri") or settings.get("mode")
        return _Follower(f"{kind} ({where})" if where else kind, process, process.stdin, process.stdout)

    def news(self) -> Iterator[str]:
        """Problems that were not told before; never waits."""
        for follower in self._followers:
            self._take(follower)
            problem = follower.last["problem"]
            if problem and problem not in follower.told:
                follower.told.add(problem)
                yield f"{follower.title}: {problem}. The run goes on, and it is tried again"

    def end(self) -> Iterator[str]:
        """Tell all that the run has ended, wait, leave none behind; then what was not sent, and how to send it."""
        for follower in self._followers:
            follower.job.close()
        deadline = time.monotonic() + self.wait
        for follower in self._followers:
            in_time = self._hear_out(follower, deadline)
            yield from self._left(follower, "its process ended" if in_time else f"{self.wait:g} s were not enough")
        self._followers = []

    def _take(self, follower: _Follower) -> bool:
        """What a follower has told until now; whether it may tell more."""
        try:
            while data := os.read(follower.messages.fileno(), 65536):
                *lines, follower.unread = (follower.unread + data).split(b"\n")
                if lines:
                    follower.last = json.loads(lines[-1])
        except BlockingIOError:
            return True
        return False

    def _hear_out(self, follower: _Follower, deadline: float) -> bool:
        """Hear a follower until it ends or its time is over; whether it ended in time."""
        more = True
        with selectors.DefaultSelector() as selector:
            selector.register(follower.messages, selectors.EVENT_READ)
            while (more := self._take(follower)) and (left := deadline - time.monotonic()) > 0:
                selector.select(left)
        follower.process.kill()
        follower.process.wait()
        follower.messages.close()
        return not more

    def _left(self, follower: _Follower, otherwise: str) -> Iterator[str]:
        """What a follower did not send, if anything, and why."""
        if follower.last["done"]:
            return
        reason = follower.last["problem"] or otherwise
        step = follower.last["step"]
        sent = f"the numbers up to step {step} were sent, the rest was not" if step else "nothing was sent"
        yield f"{follower.title}: {sent}: {reason}. Send it with: glassrun track {self.path}"
