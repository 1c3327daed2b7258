"""Its launcher killed with SIGKILL at any moment, a run can be resumed with the bits of one that never was killed."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from glassrun.keys import derive
from in_process import trained
from support import Command, Made, alive, bits_of, children, glassrun, kill, start, wait_for

STEPS = {"train.steps": 80, "train.eval_every": 10, "train.checkpoint_every": 4}


@pytest.fixture(scope="module")
def never_killed(made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return bits_of(trained(made.recipe("odd-lm", **STEPS), tmp_path_factory.mktemp("never") / "run").path)


def lines_in(run: Path) -> int:
    try:
        return (run / "ledger.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def stopped(run: Path, made: Made, after_step: int) -> None:
    """Train in this process and stop after a step: the folder is as a kill leaves it."""

    def stop(event: dict[str, Any]) -> None:
        if event.get("step") == after_step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(made.recipe("odd-lm", **STEPS), run, stop)


def killed(run: Path, made: Made, who: str, workers: int, after_lines: int) -> None:
    """Train, kill somebody once so many steps are in the ledger, wait until all are gone."""
    launcher = start("train", made.file("odd-lm", **STEPS), "--out", run, "--workers", workers)
    wait_for(lambda: lines_in(run) >= after_lines or launcher.poll() is not None, f"step {after_lines}")
    crew = children(launcher.pid)
    assert launcher.poll() is None, "the run was over before it could be killed"
    for victim in {"launcher": [launcher.pid], "all": [launcher.pid, *crew]}[who]:
        kill(victim)
    launcher.communicate(timeout=60)
    wait_for(lambda: not any(map(alive, crew)), "the workers to end with their launcher", 30)


@pytest.mark.parametrize(("who", "after_lines"), [pytest.param("launcher", 13, marks=pytest.mark.long), ("all", 33)])
def test_goes_on_with_the_same_bits(
    who: str, after_lines: int, made: Made, never_killed: dict[str, Any], command: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    killed(run, made, who, 2, after_lines)
    assert command("show", run, "--json").json["status"] == "interrupted"
    resumed = command("resume", run, "--workers", 4 if who == "all" else 1)
    assert resumed.code == 0, resumed.err
    assert bits_of(run) == never_killed
    assert command("replay", run, "--from", 70, "--workers", 2).code == 0


@pytest.mark.long
def test_killed_before_its_first_step(made: Made, never_killed: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    launcher = start("train", made.file("odd-lm", **STEPS), "--out", run, "--workers", 1)
    wait_for(lambda: (run / "run.json").exists(), "the folder")
    kill(launcher.pid)
    launcher.communicate(timeout=60)
    wait_for(lambda: "interrupted" in glassrun("show", run).out, "the worker to end")
    assert glassrun("resume", run).code == 0
    assert bits_of(run) == never_killed


def test_ctrl_c_says_how_to_go_on(made: Made, tmp_path: Path) -> None:
    run, steps = tmp_path / "run", STEPS | {"train.steps": 400}  # so many that it is not over before the signal
    launcher = start("train", made.file("odd-lm", **steps), "--out", run, "--workers", 2)
    wait_for(lambda: lines_in(run) >= 5, "step 5")
    crew = children(launcher.pid)
    launcher.send_signal(signal.SIGINT)
    _, err = launcher.communicate(timeout=60)
    assert launcher.returncode == 130
    assert f"glassrun resume {run}" in err.decode()
    assert "Traceback" not in err.decode()
    wait_for(lambda: not any(map(alive, crew)), "the workers to end", 30)
    assert glassrun("resume", run, "--workers", 1).code == 0
    assert bits_of(run) == bits_of(trained(made.recipe("odd-lm", **steps), tmp_path / "never").path)


def test_there_is_never_a_second_writer(made: Made, command: Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    launcher = start("train", made.file("odd-lm", **(STEPS | {"train.steps": 2000})), "--out", run, "--workers", 1)
    try:
        wait_for(lambda: lines_in(run) >= 1, "the first step")
        second = command("resume", run, "--workers", 1)
        assert second.code == 2
        assert "another process" in second.err
        assert launcher.poll() is None
    finally:
        kill(launcher.pid)
        launcher.communicate(timeout=60)


def test_a_torn_last_line_is_dropped_and_made_again(
    made: Made, never_killed: dict[str, Any], command: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    stopped(run, made, 22)
    lines = (run / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (run / "ledger.jsonl").write_bytes(b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
    (run / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes() + b'{"step": 30, "spl')
    table = run / "ledger.tensors"
    table.write_bytes(table.read_bytes()[:-5])
    assert command("resume", run, "--workers", 1).code == 0
    assert bits_of(run) == never_killed


def test_repeated_steps_are_checked_against_the_ledger(made: Made, command: Command, tmp_path: Path) -> None:
    """The data change behind the manifest's back after the start: here a step that is repeated must not pass."""
    run = tmp_path / "run"
    stopped(run, made, 22)
    changed = tmp_path / "text.txt"
    changed.write_bytes((made.folder / "text.txt").read_bytes().replace(b"kiln", b"nilk", 1))
    refused = command("resume", run, "--data-path", changed, "--workers", 1)
    assert refused.code == 2
    assert "data" in refused.err
    assert "Traceback" not in refused.err


@pytest.mark.long
def test_twenty_kills_at_random_moments(made: Made, never_killed: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    launcher = start("train", made.file("odd-lm", **STEPS), "--out", run, "--workers", 2)
    for number in range(20):
        time.sleep(derive(3, "kill", number) % 6000 / 1000)
        crew = children(launcher.pid)
        workers = [[], crew[:1], crew[-1:], crew][derive(3, "who", number) % 4]
        for victim in [*workers, launcher.pid] if number % 2 else [launcher.pid, *workers]:
            kill(victim)
        launcher.communicate(timeout=60)
        wait_for(lambda crew=crew: not any(map(alive, crew)), "the workers to end", 30)
        again = ["train", str(made.file("odd-lm", **STEPS)), "--out", str(run)]
        if (run / "run.json").exists():
            again = ["resume", str(run)]
        launcher = start(*again, "--workers", 2 ** (number % 3))
    launcher.communicate(timeout=300)
    assert bits_of(run) == never_killed
