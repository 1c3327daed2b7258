"""Files of a run with changed bytes, full disks: one clear message, exit code 2, nothing lost."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import glassrun as api
from glassrun.keys import derive
from support import Made, bits_of, glassrun


@pytest.fixture(scope="module")
def finished(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("finished") / "run"
    api.train(made.recipe("odd-lm"), out=run, workers=1)
    return run


def flipped(path: Path, place: int) -> None:
    """Change one bit of one byte."""
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << (place % 7)
    path.write_bytes(data)


def refused(*command: object) -> str:
    """A command must end with exit code 2 and one clear message."""
    done = glassrun(*command)
    assert done.code == 2, (command, done)
    assert "Traceback" not in done.err
    assert any(line.startswith("error: ") for line in done.err.splitlines()), done.err
    return done.err


# Where each file is read: by `show`, or by what loads the model, or by what repeats steps.
READERS = {
    "run.json": ["show"],
    "config.yaml": ["show"],
    "ledger.jsonl": ["show"],
    "metrics.jsonl": ["show"],
    "ledger.tensors": ["show"],
    "checkpoints/step-000006/model.safetensors": ["predict"],
    "checkpoints/step-000006/state.json": ["predict"],
}


@pytest.mark.parametrize("name", READERS)
def test_a_changed_byte_is_found(name: str, finished: Path, tmp_path: Path) -> None:
    original = (finished / name).read_bytes()
    for number in range(6):
        run = tmp_path / str(number)
        shutil.copytree(finished, run)
        place = derive(11, "flip", name, number) % len(original)
        flipped(run / name, place)
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        for command in READERS[name]:
            extra = ["--prompt", "glass", "--tokens", 1] if command == "predict" else []
            if name == "config.yaml" and glassrun("show", run).code == 0:
                continue  # a byte of a comment or of white space: the recipe is the same
            if name == "ledger.jsonl" and place == len(original) - 1:
                continue  # without its line end the last line counts as torn
            message = refused(command, run, *extra)
            assert Path(name).parts[0] in message
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["ledger.jsonl", "checkpoints/step-000006/state.json", "run.json", "config.yaml"])
def test_a_file_that_is_gone_is_named(name: str, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / name).unlink()
    command = ["predict", run, "--prompt", "glass"] if "checkpoint" in name else ["show", run]
    assert Path(name).name in refused(*command)


def test_a_changed_ledger_is_no_ground_to_go_on_from(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    lines = (run / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (run / "ledger.jsonl").write_bytes(b"".join([*lines[:2], *lines[3:]]))
    assert "ledger.jsonl" in refused("resume", run)


@pytest.mark.parametrize("most", [20_000, 150_000, 190_000])
def test_a_full_disk_keeps_what_was_done_and_the_run_goes_on_with_room(most: int, made: Made, tmp_path: Path) -> None:
    """A limit on the size of a file stands for the full disk: the system refuses the write in the same way."""
    recipe = made.file("odd-lm", **{"model.d_ff": 900, "train.steps": 12})
    whole = api.train(recipe, out=tmp_path / "whole", workers=1)
    run = tmp_path / "run"
    limited = _limited(most, "train", recipe, "--out", run, "--workers", 1)
    assert limited.returncode == 2, limited.stderr
    assert "Traceback" not in limited.stderr
    assert "error: " in limited.stderr
    if run.exists():
        assert glassrun("resume", run).code == 0
        assert bits_of(run) == bits_of(whole.path)


def _limited(most: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "glassrun", *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        preexec_fn=_limit(most),
    )


def _limit(most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
