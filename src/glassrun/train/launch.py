"""Start a run's worker processes, hear what they do, and leave none behind.

The workers are always fresh processes, because what decides bits (threads, instruction sets, MKL's mode) is read when
torch is imported. The launcher itself never imports torch. Each worker holds the reading end of a pipe from the
launcher: when that closes, because the launcher ended in whatever way, the worker ends too.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glassrun import errors
from glassrun.config import Numerics
from glassrun.errors import ConfigError, GlassrunError, WorkerLost

Event = dict[str, Any]
Hear = Callable[[Event], None]

# Variables of torch, oneDNN (also by its older name), MKL and OpenMP: many change bits, some can make a run hang.
# scikit-learn sets these in every process that imports it; they change no bit, so there is nothing to say of them.
_HARMLESS = ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK")
DECIDE_BITS = ("ATEN_", "DNNL_", "GOMP_", "KMP_", "MKL_", "OMP_", "ONEDNN_", "OPENBLAS_")
_GRACE = 2.0  # seconds that the other workers have to say why they fail too, before they are killed


def choose_workers(wanted: int | None, shards: int) -> int:
    """The number of workers: what is wanted, or the largest power of two that fits the cores and the shards.

    Raises:
        ConfigError: it is no power of two, or more than the shards.
    """
    if wanted is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return 1 << (min(cores, shards).bit_length() - 1)
    if wanted < 1 or wanted & (wanted - 1):
        raise ConfigError(f"--workers {wanted}: the number of workers must be a power of two (1, 2, 4, 8, …)")
    if wanted > shards:
        raise ConfigError(
            f"--workers {wanted}: more than the {shards} logical shards of a batch, and a worker owns at least one. "
            f"Take at most {shards}, or another recipe with more shards (batch.shards is part of what a run is)"
        )
    return wanted


def environment(numerics: Numerics) -> dict[str, str]:
    """A worker's environment: this one's, with the variables that decide bits set from the recipe's numerics."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(DECIDE_BITS)}
    threads = str(numerics.threads)
    variables |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "MKL_CBWR": "AUTO"}
    # A model of the user's may iterate over a set of names: all workers must do it in one order, and every run.
    variables["PYTHONHASHSEED"] = "0"
    if numerics.isa == "avx2":
        variables |= {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}
    return variables


def ignored_variables(numerics: Numerics) -> list[str]:
    """What the user's environment sets and a run does not follow, so that it can be said."""
    used = environment(numerics)
    return [
        f"{name}={value} is not followed: a run's numerics come from its recipe (numerics.isa, numerics.threads)"
        for name, value in sorted(os.environ.items())
        if name.startswith(DECIDE_BITS) and name not in _HARMLESS and used.get(name) != value
    ]


@dataclass(eq=False)
class _Worker:
    """A worker process, the pipe its events come through, and how it ended."""

    rank: int
    process: subprocess.Popen[bytes]
    events: int
    unread: bytes = b""
    failure: Event | None = None
    done: Event | None = None
    closed: bool = False


@dataclass
class _Crew:
    """All workers of a run."""

    workers: list[_Worker] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether every worker has said that it is."""
        return all(worker.done for worker in self.workers)

    def stop(self) -> None:
        """End every process that is still there."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
        for worker in self.workers:
            worker.process.wait()
            if worker.process.stdin:
                worker.process.stdin.close()
            os.close(worker.events)


def launch(
    job: dict[str, Any],
    numerics: Numerics,
    workers: int,
    hear: Hear,
    *,
    code: Path | None = None,
    python: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> Event:
    """Run a job on so many workers; events of rank 0 go to `hear`; returns its last event.

    Arguments:
        job: plain values; `do` names the module whose `run` does it.
        numerics: what the workers' environment is made from.
        workers: how many processes.
        hear: called with each event.
        code: a folder that modules are imported from before anything that is installed (see `record.code.lay_out`).
        python: the interpreter of another environment; by default this one's.
        variables: environment variables beside those that `numerics` sets, or instead of them.

    Raises:
        GlassrunError: what a worker raised.
        WorkerLost: a worker was killed, or failed in a way that is our mistake.
    """
    told = environment(numerics) | dict(variables or {})
    if sys.platform == "linux":
        told["GLOO_SOCKET_IFNAME"] = "lo"  # the workers of one machine need no network
    if code is not None:
        told["PYTHONPATH"] = os.pathsep.join([str(code), *filter(None, [told.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory(prefix="glassrun-") as meeting:
        place = {"world_size": workers, "store": str(Path(meeting) / "store")}
        return start_and_listen([job | place | {"rank": rank} for rank in range(workers)], told, hear, python)


def start_and_listen(
    jobs: list[dict[str, Any]], variables: Mapping[str, str], hear: Hear, python: Path | None = None
) -> Event:
    """Start a worker for each job and hear them until all are done; events of rank 0 go to `hear`.

    Arguments:
        jobs: each with the `rank` of its worker; under torchrun one, of any rank.
        variables: the workers' whole environment.
        hear: called with each event.
        python: the interpreter that runs them; None for this one.

    Returns:
        The last event of the first worker.

    Raises:
        GlassrunError: as for `launch`.
    """
    crew = _Crew()
    try:
        for job in jobs:
            crew.workers.append(_start(job, variables, python))
        _listen(crew, hear)
    finally:
        crew.stop()
    failed = [worker for worker in crew.workers if worker.done is None]
    if failed:
        raise _reason(failed)
    result = crew.workers[0].done
    assert result is not None, "every worker is done"
    return result


def _start(job: dict[str, Any], variables: Mapping[str, str], python: Path | None) -> _Worker:
    rank = job["rank"]
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            # -P: the working folder is no place to import from, except for the user's own model, at the end of the path
            [str(python or sys.executable), "-P", "-m", "glassrun.train.worker", str(writing)],
            stdin=subprocess.PIPE,
            stdout=2 if rank == 0 else subprocess.DEVNULL,
            stderr=None if rank == 0 else subprocess.DEVNULL,
            env=variables,
            pass_fds=(writing,),
            start_new_session=True,  # Ctrl-C reaches the launcher alone, which then ends the workers
        )
    finally:
        os.close(writing)
    assert process.stdin is not None, "a pipe"
    with suppress(BrokenPipeError):  # it has ended already, which is heard at its other pipe
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
    return _Worker(rank, process, reading)


def _listen(crew: _Crew, hear: Hear) -> None:
    """Take in events until all workers are done, or until one failed and the others had their time to say why."""
    deadline: float | None = None
    with selectors.DefaultSelector() as selector:
        for worker in crew.workers:
            selector.register(worker.events, selectors.EVENT_READ, worker)
        # Not until every pipe is closed: a process that the user's code left behind may hold one open.
        while selector.get_map() and (deadline is None or time.monotonic() < deadline) and not crew.done:
            ended = [worker for worker in crew.workers if not worker.closed and worker.process.poll() is not None]
            ready = [key.data for key, _ in selector.select(timeout=0.2)]
            for worker in ready:
                _take(worker, hear)
            for worker in ended:
                worker.closed |= worker not in ready  # all that it wrote has been read
            for key in list(selector.get_map().values()):
                if key.data.closed:
                    selector.unregister(key.fileobj)
            if deadline is None and any(w.failure or (w.closed and w.done is None) for w in crew.workers):
                deadline = time.monotonic() + _GRACE


def _take(worker: _Worker, hear: Hear) -> None:
    data = os.read(worker.events, 65536)
    if not data:
        worker.closed = True
        return
    *lines, worker.unread = (worker.unread + data).split(b"\n")
    for line in lines:
        event = json.loads(line)
        if event["event"] == "failure":
            worker.failure = event
        elif event["event"] == "done":
            worker.done = event
        elif worker.rank == 0:
            hear(event)


def _reason(failed: list[_Worker]) -> GlassrunError:
    """The error that explains best why workers failed: the user's, else a kill, else our own mistake."""
    told = [(worker.rank, worker.failure) for worker in failed if worker.failure]
    for _, failure in told:
        if failure["kind"] in _ERRORS and failure["kind"] != "WorkerLost":  # that one tells of another worker's end
            return _rebuilt(failure)
    # A worker that the crew itself killed has SIGKILL too: those that closed their pipes before that are the ones.
    silent = [worker for worker in failed if worker.failure is None and worker.closed]
    killed = [worker for worker in silent if worker.process.returncode < 0]
    if killed:
        name = signal.Signals(-killed[0].process.returncode).name
        hint = ", which the system does when memory is short" if name == "SIGKILL" else ""
        return WorkerLost(f"worker {killed[0].rank} was killed by {name}{hint}", killed=len(killed))
    for worker in silent:
        code = worker.process.returncode
        return WorkerLost(f"worker {worker.rank} ended with exit code {code} before its work was done")
    for rank, failure in told:
        return WorkerLost(f"worker {rank} failed: {failure['message']}")
    return WorkerLost("the workers ended before their work was done")


_ERRORS = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, GlassrunError)
}


def _rebuilt(failure: Event) -> GlassrunError:
    error = _ERRORS[failure["kind"]].__new__(_ERRORS[failure["kind"]])
    error.args = (failure["message"],)
    return error
