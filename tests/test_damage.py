"""Files of a run with changed bytes, full disks: one clear message, exit code 2, nothing lost."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch

import glassrun as api
from glassrun import config
from glassrun.digest import canonical_json, digest_bytes
from glassrun.errors import ConfigError, RunFolderError
from glassrun.keys import derive
from glassrun.look.report import report
from glassrun.record.fingerprint import Fingerprinter, combine
from glassrun.run import resume
from glassrun.show import summary
from in_process import trained
from support import Command, Done, Made, bits_of


@pytest.fixture(scope="module")
def finished(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(made.recipe("odd-lm"), tmp_path_factory.mktemp("finished") / "run").path


def flipped(data: bytes, place: int) -> bytes:
    """The same bytes with one bit of one of them changed."""
    changed = bytearray(data)
    changed[place] ^= 1 << (place % 7)
    return bytes(changed)


def refused(done: Done) -> str:
    """A command must end with exit code 2 and one clear message."""
    assert done.code == 2, done
    assert "Traceback" not in done.err
    assert any(line.startswith("error: ") for line in done.err.splitlines()), done.err
    return done.err


def read_all(run: Path) -> None:
    """Everything that show, resume, replay and predict read."""
    summary(run)
    assert api.load(run).model is not None


def says_the_same(run: Path) -> bool:
    """In YAML some bytes say nothing: the letters of a comment, one kind of white space for another."""
    recorded = json.loads((run / "run.json").read_bytes())["config"]
    try:
        return config.load(run / "config.yaml").plain() == recorded
    except ConfigError:
        return False


FILES = (
    "run.json",
    "config.yaml",
    "ledger.jsonl",
    "metrics.jsonl",
    "ledger.tensors",
    "checkpoints/step-000006/model.safetensors",
    "checkpoints/step-000006/optimizer.safetensors",
    "checkpoints/step-000006/state.json",
    "data.keys",
)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_found(name: str, finished: Path, tmp_path: Path) -> None:
    original = (finished / name).read_bytes()
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    for number in range(25):
        place = derive(11, "flip", name, number) % (len(original) - 1)
        (run / name).write_bytes(flipped(original, place))
        if name == "config.yaml" and says_the_same(run):
            continue
        with pytest.raises(RunFolderError, match=Path(name).parts[0]):
            read_all(run)
        (run / name).write_bytes(original)
    read_all(run)


@pytest.mark.parametrize("name", FILES[::2])
def test_every_command_refuses_it_in_one_message(name: str, finished: Path, command: Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / name).write_bytes(flipped((run / name).read_bytes(), 3))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    words = ["predict", run, "--prompt", "glass"] if name.startswith("checkpoints") else ["show", run]
    assert Path(name).parts[0] in refused(command(*words))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "name", ["ledger.jsonl", "checkpoints/step-000006/state.json", "run.json", "config.yaml", "data.keys"]
)
def test_a_file_that_is_gone_is_named(name: str, finished: Path, command: Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / name).unlink()
    words = ["predict", run, "--prompt", "glass"] if "checkpoint" in name else ["show", run]
    assert Path(name).name in refused(command(*words))


def test_a_changed_ledger_is_no_ground_to_go_on_from(finished: Path, command: Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    lines = (run / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (run / "ledger.jsonl").write_bytes(b"".join([*lines[:2], *lines[3:]]))
    assert "ledger.jsonl" in refused(command("resume", run))


@pytest.fixture(scope="module")
def interrupted(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run as a kill after step 5 would have left it: its newest checkpoint is that of step 4."""
    run = tmp_path_factory.mktemp("interrupted") / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "checkpoints" / "step-000006")
    lines = (run / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (run / "ledger.jsonl").write_bytes(b"".join(lines[:5]))
    metrics = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(b"".join(line for line in metrics if json.loads(line)["step"] < 5))
    header = json.loads((run / "run.json").read_bytes())
    for name in ("chain", "parameters", "metrics_digest", "steps", "reason", "checksum"):
        del header[name]
    header["status"] = "running"
    (run / "run.json").write_text(json.dumps({**header, "checksum": digest_bytes(canonical_json(header).encode())}))
    summary(run)
    return run


def readers(run: Path) -> dict[str, Callable[[], object]]:
    """What each command does first with a run; none starts a worker where the run is refused."""
    loaded = api.load(run)
    return {
        "show": lambda: summary(run),
        "resume": lambda: resume(run),
        "replay": loaded.replay,
        "predict": lambda: loaded.model,
        "report": lambda: report(loaded),
    }


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("checkpoints")])
def test_a_damaged_checkpoint_is_refused_by_every_command(name: str, finished: Path, tmp_path: Path) -> None:
    """Also by `resume` of a run that is complete, and by `report`, which leaves the report that was there."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "report.html").write_text("an older report")
    (run / name).write_bytes(flipped((run / name).read_bytes(), 30))
    for command, read in readers(run).items():
        with pytest.raises(RunFolderError, match="step-000006"):
            read()
        assert (run / "report.html").read_text() == "an older report", command


def rearranged(lines: list[bytes], how: str) -> bytes:
    first, second, *rest = lines
    return b"".join(
        {
            "first missing": [second, *rest],
            "second missing": [first, *rest],
            "all missing": [],
            "first repeated": [first, first, second, *rest],
            "last repeated": [*lines, lines[-1]],
            "exchanged": [second, first, *rest],
        }[how]
    )


REARRANGED = ["first missing", "second missing", "all missing", "first repeated", "last repeated", "exchanged"]


@pytest.mark.parametrize("how", REARRANGED)
@pytest.mark.parametrize("name", ["ledger.jsonl", "metrics.jsonl"])
def test_rearranged_lines_are_refused_by_every_command(name: str, how: str, interrupted: Path, tmp_path: Path) -> None:
    """A run that was interrupted has nothing in `run.json` that would say how its files end."""
    run = tmp_path / "run"
    shutil.copytree(interrupted, run)
    lines = (run / name).read_bytes().splitlines(keepends=True)
    (run / name).write_bytes(rearranged(lines, how))
    for read in readers(run).values():
        with pytest.raises(RunFolderError, match=Path(name).name):
            read()


def test_lines_after_the_newest_checkpoint_may_be_missing(interrupted: Path, tmp_path: Path) -> None:
    """A kill, or a machine that lost power, leaves such a run; it goes on."""
    run = tmp_path / "run"
    shutil.copytree(interrupted, run)
    lines = (run / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (run / "ledger.jsonl").write_bytes(b"".join(lines[:4]))
    assert summary(run)["steps"] == 4
    assert api.load(run).model is not None


def changed_weight(run: Path, *, fitting: bool) -> None:
    """One weight of the newest checkpoint changed by 1e-7, and every digest and checksum made to fit it.

    Arguments:
        run: the run's folder.
        fitting: whether the fingerprints in `state.json` are made to fit, too.
    """
    path = max((run / "checkpoints").iterdir())
    tensors = safetensors.torch.load_file(path / "model.safetensors")
    tensors["embedding.weight"][3, 4] += 1e-7
    data = safetensors.torch.save(tensors)
    (path / "model.safetensors").write_bytes(data)
    state = json.loads((path / "state.json").read_bytes())
    del state["checksum"]
    state["files"]["model.safetensors"] = digest_bytes(data)
    if fitting:
        names = [name.split()[1:] for name in api.load(run).folder.tensors()[0] if name.startswith("parameter")]
        fingerprinter = Fingerprinter()
        prints = [(" ".join(name), fingerprinter(tensors[name[0]])) for name in names]
        state["fingerprints"]["parameters"] = combine(prints)
    state["checksum"] = digest_bytes(canonical_json(state).encode())
    (path / "state.json").write_text(json.dumps(state))


@pytest.mark.parametrize("fitting", [False, True])
@pytest.mark.parametrize("which", ["finished", "interrupted"])
def test_a_weight_that_is_not_the_ledgers_is_refused(
    which: str, fitting: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(request.getfixturevalue(which), run)
    changed_weight(run, fitting=fitting)
    step = "step 6" if which == "finished" else "step 4"
    commands = readers(run)
    for name in ("show", "resume", "replay", "predict"):
        with pytest.raises(RunFolderError, match=step) as refused:
            commands[name]()
        assert "embedding.weight" in str(refused.value)


@pytest.mark.parametrize("most", [20_000, *(pytest.param(m, marks=pytest.mark.long) for m in (150_000, 190_000))])
def test_a_full_disk_keeps_what_was_done_and_the_run_goes_on_with_room(
    most: int, made: Made, command: Command, tmp_path: Path
) -> None:
    """A limit on the size of a file stands for the full disk: the system refuses the write in the same way."""
    changes = {"model.d_ff": 900, "train.steps": 12}
    recipe, whole = made.file("odd-lm", **changes), trained(made.recipe("odd-lm", **changes), tmp_path / "whole")
    run = tmp_path / "run"
    limited = _limited(most, "train", recipe, "--out", run, "--workers", 1)
    assert limited.returncode == 2, limited.stderr
    assert "Traceback" not in limited.stderr
    assert "error: " in limited.stderr
    if run.exists():
        assert command("resume", run, "--workers", 1).code == 0
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
