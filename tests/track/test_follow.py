"""Bringing a tracker up to a run folder, whatever the tracker does."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from glassrun.record.run_folder import RunFolder
from glassrun.track import follow
from glassrun.track.follow import Follower
from glassrun.track.reader import Reader, Row
from in_process import trained
from support import Made


@pytest.fixture(scope="module")
def finished(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("finished") / "run"
    return trained(made.recipe("odd-lm"), run).path


class Remembering:
    """A tracker that remembers what it got, and fails where it is told to."""

    def __init__(self, *failures: str) -> None:
        self.failures = list(failures)
        self.calls: list[str] = []
        self.rows: list[Row] = []
        self.ended: tuple[str, Mapping[str, str], list[str]] | None = None

    def begin(self, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str], started: int) -> None:
        self._call("begin")
        self.name, self.parameters, self.tags, self.started = name, parameters, tags, started

    def log(self, rows: Sequence[Row]) -> None:
        self._call("log")
        self.rows += rows

    def end(self, status: str, tags: Mapping[str, str], files: Sequence[Path], root: Path) -> None:
        self._call("end")
        self.ended = status, tags, [path.relative_to(root).as_posix() for path in files]

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failures:
            self.failures.remove(name)
            raise OSError(f"{name}\nfails.")


def followed(path: Path, tracker: Remembering, looks: int = 6) -> list[dict[str, Any]]:
    """Follow a folder with no pause, through so many looks and the last one; what was told."""
    told: list[dict[str, Any]] = []

    class Ended(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002
            if len(told) >= looks - 1:
                self.set()
            return self.is_set()

    follow.follow(Follower(path, lambda: tracker, with_checkpoint=False), Ended(), told.append)
    return told


def test_a_tracker_gets_everything_once(finished: Path) -> None:
    tracker = Remembering()
    told = followed(finished, tracker)
    folder = RunFolder.open(finished)
    assert tracker.rows == Reader(folder).rows()
    assert tracker.calls == ["begin", "log", "end"]
    assert tracker.ended is not None
    assert tracker.ended[0] == "complete"
    assert {"run.json", "ledger.jsonl"} <= set(tracker.ended[2])
    assert told[-1] == {"step": 6, "problem": None, "done": True}


@pytest.mark.parametrize("failing", ["begin", "log", "end"])
def test_what_failed_is_done_again_at_the_next_look_and_told(failing: str, finished: Path) -> None:
    tracker = Remembering(failing)
    told = followed(finished, tracker)
    assert tracker.rows == Reader(RunFolder.open(finished)).rows()
    if failing == "end":  # there is no look after the last
        assert told[-1] == {"step": 6, "problem": "OSError: end fails", "done": False}
        return
    assert told[0] == {"step": 0, "problem": f"OSError: {failing} fails", "done": False}
    assert told[-1] == {"step": 6, "problem": None, "done": True}
    assert tracker.ended is not None


def test_a_tracker_that_always_fails_is_told_as_nothing_sent(finished: Path) -> None:
    tracker = Remembering(*["log"] * 99)
    assert followed(finished, tracker)[-1] == {"step": 0, "problem": "OSError: log fails", "done": False}


def test_a_run_that_was_taken_away_again_is_nothing_to_send(tmp_path: Path) -> None:
    tracker = Remembering()
    assert followed(tmp_path / "nothing", tracker, looks=1)[-1] == {"step": 0, "problem": None, "done": True}
    assert tracker.calls == []


def test_a_run_that_is_being_prepared_is_waited_for(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ready = finished / "run.json"
    recipe = RunFolder.open(finished).recipe
    RunFolder.create(run, recipe, [])
    tracker = Remembering()
    follower = Follower(run, lambda: tracker, with_checkpoint=False)
    assert follower.look(last=False) is False
    shutil.copytree(finished, run, dirs_exist_ok=True)
    assert (run / "run.json").read_bytes() == ready.read_bytes()
    assert follower.look(last=False) is True
    assert follower.step == 6
