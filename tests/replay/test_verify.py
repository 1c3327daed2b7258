"""Replay from outside: identical, or the first step and phase that differ; what differs beforehand is said first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import glassrun as api
from glassrun.digest import canonical_json, digest_bytes
from glassrun.record.ledger import Line, link
from support import Command, Made, glassrun
from warm_workers import Server, warm

pytestmark = pytest.mark.usefixtures("warm_workers")


@pytest.fixture(scope="module")
def run(made: Made, worker_server: Server, tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    with warm(worker_server):
        return api.train(made.recipe("odd-cnn"), out=tmp_path_factory.mktemp("replay") / "run", workers=2)


def forged(run: api.Run, folder: Path, step: int, **changes: Any) -> Path:
    """A copy whose ledger was changed by somebody who made every checksum and chain fit again."""
    copy = folder / "forged"
    shutil.copytree(run.path, copy)
    shutil.rmtree(copy / "checkpoints")  # they would not fit any more
    chain = str(run.folder.header["identity"])
    lines = []
    for line in run.ledger:
        values = {**line.step.__dict__, **(changes if line.step.step == step else {})}
        changed = type(line.step)(**values)
        chain = link(chain, changed)
        lines.append(Line(changed, chain, line.seconds).encode())
    (copy / "ledger.jsonl").write_bytes(b"".join(lines))
    header = json.loads((copy / "run.json").read_bytes())
    del header["checksum"]
    header["chain"] = chain
    header["checksum"] = digest_bytes(canonical_json(header).encode())
    (copy / "run.json").write_text(json.dumps(header))
    return copy


def test_identical(run: api.Run, command: Command) -> None:
    done = glassrun("replay", run.path, "--workers", 1)
    assert done.code == 0, done.err
    assert "identical: 6 steps (1 to 6)" in done.out
    found = command("replay", run.path, "--workers", 4, "--json").json
    assert found["identical"] is True
    assert found["steps_identical"] == 6
    assert found["evaluations_identical"] == 4
    assert found["chain"] == run.ledger[-1].chain


def test_segment_from_the_nearest_checkpoint(run: api.Run) -> None:
    found = run.replay(first=4, last=5, workers=1)
    assert found
    assert (found.first, found.last, found.identical) == (4, 5, 2)


@pytest.mark.parametrize(
    ("field", "value", "phase"),
    [
        ("batch", "0" * 16, "batch"),
        ("loss", 1.0, "forward"),
        ("gradients", "0" * 16, "backward"),
        ("gradient_norm", 1.0, "backward"),
        ("learning_rate", 1.0, "optimizer"),
        ("parameters", "0" * 16, "optimizer"),
        ("buffers", "0" * 16, "buffers"),
    ],
)
def test_the_first_difference_is_named_by_step_and_phase(
    field: str, value: Any, phase: str, run: api.Run, tmp_path: Path
) -> None:
    # Two fields of one step differ in most real cases; the last step is one more, so that a late difference counts too.
    found = api.load(forged(run, tmp_path, 3, **{field: value})).replay(workers=1, last=3)
    assert not found
    assert found.difference is not None
    assert f"step 3: phase {phase}: {field}" in found.difference


def test_exit_code_1_and_the_difference(run: api.Run, command: Command, tmp_path: Path) -> None:
    done = command("replay", forged(run, tmp_path, 2, parameters="0" * 16))
    assert done.code == 1
    assert done.out.startswith("different: step 2: phase optimizer")
    assert "Traceback" not in done.err


def test_other_numerics_are_said_first(run: api.Run, command: Command, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    header = json.loads((copy / "run.json").read_bytes())
    del header["checksum"]
    header["environment"]["numerics"]["cpu"] = "Another CPU 9000"
    header["checksum"] = digest_bytes(canonical_json(header).encode())
    (copy / "run.json").write_text(json.dumps(header))
    done = command("replay", copy)
    assert done.code == 0
    notes = [line for line in done.err.splitlines() if line.startswith("note: ")]
    assert "not promised here" in notes[0]
    assert "Another CPU 9000" in notes[0]
    assert done.err.index("not promised here") < done.err.index("step 1/6")


def test_other_data_are_said_first_and_differ_in_the_batch(made: Made, command: Command, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    text = (made.folder / "text.txt").read_text()
    mine.write_text(text)
    run = api.train(
        made.recipe("odd-lm", **{"data.path": str(mine), "train.steps": 2}), out=tmp_path / "run", workers=1
    )
    mine.write_text(text[:3000] + text[3000:].replace("kiln", "nilk"))
    done = command("replay", run.path)
    assert done.code == 1
    assert "the data are not those that the run began with" in done.err
    assert "phase batch" in done.out


def test_changed_code_is_said_first(
    made: Made, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = tmp_path / "changing_model.py"
    source = (
        "from torch import nn\n\n\ndef model(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes, bias=True))\n"
    )
    module.write_text(source)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(
        json.dumps(made.recipe("odd-cnn", model={"import": "changing_model:model"}, **{"train.steps": 2}))
    )
    assert command("train", recipe, "--out", "run").code == 0
    module.write_text(source.replace("bias=True", "bias=False"))
    done = command("replay", "run")
    assert done.code == 1
    assert done.out.startswith("different: step 1: phase forward")
    assert "changing_model.py" in done.err
    assert "the run differs before its first step already" in done.err


def test_a_run_moved_to_another_folder_replays(run: api.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(run.path, tmp_path / "moved run")
    monkeypatch.chdir(tmp_path)
    assert api.load("moved run").replay(workers=1)
