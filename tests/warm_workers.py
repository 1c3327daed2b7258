"""Workers for tests of what they compute: forked from a process that has imported torch, which takes seconds.

Each is a process of its own all the same, with the job, the environment and the pipes that the launcher gives it, runs
the worker's program and meets the others. What is not proven so is that it starts: tests of the launcher and of the
command line, and of what is read when torch is imported, start theirs cold.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import fork_server
from glassrun.config import Numerics
from glassrun.train import launch

_start = launch._start


class Process:
    """What the launcher asks of a process."""

    def __init__(self, pid: int, stdin: Any, status: int) -> None:
        self.pid, self.stdin = pid, stdin
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """How it ended, or None."""
        ended = self.returncode is None and select.select([self._status], [], [], 0)[0]
        return self.wait() if ended else self.returncode

    def wait(self) -> int | None:
        """How it ended, once it has."""
        if self.returncode is None:
            self.returncode = int(os.read(self._status, 20))
            os.close(self._status)
        return self.returncode

    def kill(self) -> None:
        """SIGKILL, also if it is gone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def usual() -> dict[str, str]:
    """What the launcher gives a worker on one thread of this machine."""
    return lasting(launch.environment(Numerics()) | {"GLOO_SOCKET_IFNAME": "lo"})


def lasting(variables: Mapping[str, str]) -> dict[str, str]:
    """Those that do not change by themselves: pytest names the test in one, and who trains sets two, also a worker."""
    passing = ("PYTEST_CURRENT_TEST", "CUBLAS_WORKSPACE_CONFIG", "TORCHINDUCTOR_CACHE_DIR")
    return {name: value for name, value in variables.items() if name not in passing}


class Server:
    """Starts workers as the launcher does, from one process that begins with the first of them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = usual()
        self._asking = threading.Lock()
        self._asked, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def start(self, job: dict[str, Any], variables: Mapping[str, str], python: Path | None) -> launch._Worker:
        """A worker; a cold one where its interpreter or its environment is to be another than the usual."""
        if python is not None or lasting(variables) != self._environment:
            return _start(job, variables, python)
        with self._asking:  # what `diff` runs again, it runs side by side
            return self._forked(job)

    def _forked(self, job: dict[str, Any]) -> launch._Worker:
        if self._process is None:
            self._begin()
        (stdin, to_stdin), (events, to_events), (status, to_status) = (os.pipe() for _ in range(3))
        with Path(os.devnull).open("wb") as nowhere:
            out = 2 if job["rank"] == 0 else nowhere.fileno()
            socket.send_fds(self._asked, [os.fsencode(Path.cwd())], [stdin, out, out, to_events, to_status])
        pid = int(self._asked.recv(20))
        for descriptor in (stdin, to_events, to_status):
            os.close(descriptor)
        process = Process(pid, os.fdopen(to_stdin, "wb", buffering=0), status)
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(job).encode() + b"\n")
        return launch._Worker(job["rank"], process, events)  # type: ignore[arg-type]

    def _begin(self) -> None:
        descriptor = self._theirs.fileno()
        command = [sys.executable, "-P", fork_server.__file__, str(descriptor)]
        self._process = subprocess.Popen(
            command, env=self._environment, pass_fds=(descriptor,), stdin=subprocess.DEVNULL, start_new_session=True
        )
        self._theirs.close()

    def end(self) -> None:
        """Let the process go."""
        self._asked.close()
        if self._process is None:
            self._theirs.close()
        else:
            self._process.wait()


@contextmanager
def warm(server: Server) -> Iterator[None]:
    """In here the launcher's workers come from the server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_start", server.start)
        yield


@contextmanager
def cold() -> Iterator[None]:
    """In here they start as everybody's do: for what forked ones share, such as where things lie in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_start", _start)
        yield
