"""diff on loops that are not ours: their programs are started again, up to the step where they part."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import glassrun
from glassrun.replay.verdict import Verdict

SCRIPT = """
import sys

import numpy as np
import torch
from torch import nn

import glassrun.record
from parts import features

out, rate, extra = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
torch.manual_seed(3)
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(7, 13), nn.GELU(), nn.Linear(13, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
names = {"ink", "pane", "glass", "ledger", "furnace"}  # of different lengths


def train_step(batch):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(features(batch["x"])), batch["y"])
    loss.backward()
    optimizer.step()
    return loss


with glassrun.record(out, {"rate": rate}, seed=3) as run:
    step = train_step if "plain" in extra else run.replayable(train_step, model)
    for number in range(1, 6):
        if number == 3:
            optimizer.param_groups[0]["lr"] = rate
        batch = {"x": torch.randn(5, 7), "y": torch.arange(5) % 2}
        if "numpy" in extra and number == 2:
            batch["x"] += torch.from_numpy(np.random.default_rng().normal(size=(5, 7))).float()
        if "set" in extra:
            batch["x"][0, 0] = float(sum(len(name) * 10**place for place, name in enumerate(names)))
        run.step(model=model, optimizer=optimizer, loss=step(batch), batch=batch)
"""
PARTS = """
def features(x):
    return x * 2.0
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    (folder / "parts.py").write_text(textwrap.dedent(PARTS))
    return folder / "train.py"


def recorded(program: Path, name: str, *arguments: str, **variables: str) -> Path:
    out = program.parent.parent / name
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONHASHSEED"}
    done = subprocess.run(
        [sys.executable, str(program), str(out), *arguments],
        capture_output=True,
        text=True,
        env=clean | variables,
        cwd=program.parent,
    )
    assert done.returncode == 0, done.stderr
    return out


def confirmed(verdict: Verdict) -> list[tuple[str, str]]:
    return [(cause.kind, cause.what) for cause in verdict.causes if cause.status == "confirmed"]


def test_the_same_loop_twice_is_identical(program: Path) -> None:
    verdict = glassrun.diff(recorded(program, "a", "0.1"), recorded(program, "b", "0.1"))
    assert verdict.identical
    assert verdict.compared.steps == 5


@pytest.mark.long
def test_another_rate_from_a_step_on(program: Path) -> None:
    verdict = glassrun.diff(recorded(program, "a", "0.1"), recorded(program, "b", "0.05"))
    assert verdict.difference is not None
    assert (verdict.difference.step, verdict.difference.phase) == (3, "optimizer")
    assert verdict.difference.field == "learning_rate"
    assert confirmed(verdict) == [("config", "rate")]
    assert verdict.reproduced == (True, True)
    assert verdict.divergence is not None
    assert verdict.divergence.what == "scalar"
    assert verdict.divergence.operation.line.endswith("in train_step")
    # Neither rerun wrote anything into the runs.
    assert (program.parent.parent / "a" / "ledger.jsonl").read_bytes().count(b"\n") == 5


def test_changed_code_runs_as_each_run_had_it(program: Path) -> None:
    first = recorded(program, "a", "0.1")
    parts = program.parent / "parts.py"
    parts.write_text(parts.read_text().replace("2.0", "2.0000002"))
    verdict = glassrun.diff(first, recorded(program, "b", "0.1"))
    assert verdict.difference is not None
    assert verdict.difference.step == 1
    assert confirmed(verdict) == [("code", "parts.py")]
    assert verdict.causes[0].b == "line 3: return x * 2.0000002"
    assert verdict.reproduced == (True, True)
    assert verdict.divergence is not None
    assert verdict.divergence.operation.line == "parts.py:3 in features"


@pytest.mark.long
def test_a_source_that_nobody_seeds(program: Path) -> None:
    verdict = glassrun.diff(recorded(program, "a", "0.1", "numpy"), recorded(program, "b", "0.1", "numpy"))
    assert verdict.difference is not None
    assert (verdict.difference.step, verdict.difference.phase) == (2, "batch")
    assert [kind for kind, _ in confirmed(verdict)] == ["nondeterminism"]
    assert verdict.reproduced == (False, False)


@pytest.mark.long
def test_the_order_of_a_set(program: Path) -> None:
    runs = [recorded(program, name, "0.1", "set", PYTHONHASHSEED=seed) for name, seed in (("a", "1"), ("b", "2"))]
    verdict = glassrun.diff(*runs)
    assert verdict.difference is not None
    assert verdict.difference.phase == "batch"
    assert confirmed(verdict) == [("variable", "PYTHONHASHSEED")]


@pytest.mark.long
def test_the_order_of_a_set_without_a_hash_seed(program: Path) -> None:
    first = recorded(program, "a", "0.1", "set")
    for number in range(9):  # five words: now and then two runs have the same order
        verdict = glassrun.diff(first, recorded(program, f"b{number}", "0.1", "set"))
        if confirmed(verdict):
            break
    assert ("variable", "PYTHONHASHSEED (the order of a set)") in confirmed(verdict)


@pytest.mark.long
def test_threads_are_set_for_the_test_alone(program: Path) -> None:
    wide = SCRIPT.replace("nn.Linear(7, 13)", "nn.Linear(7, 400)").replace(
        "nn.Linear(13, 2)", "nn.LayerNorm(400), nn.Linear(400, 2)"
    )
    program.write_text(
        wide.replace("torch.randn(5, 7)", "torch.randn(500, 7)").replace("torch.arange(5)", "torch.arange(500)")
    )
    one = recorded(program, "a", "0.1")
    program.write_text(program.read_text().replace("set_num_threads(1)", "set_num_threads(2)"))
    verdict = glassrun.diff(one, recorded(program, "b", "0.1"))
    kinds = {kind for kind, _ in confirmed(verdict)}
    assert kinds <= {"threads", "code"}
    assert kinds


def test_without_leave_to_run_again_the_records_are_all(program: Path) -> None:
    runs = [recorded(program, name, rate, "plain") for name, rate in (("a", "0.1"), ("b", "0.05"))]
    verdict = glassrun.diff(*runs)
    assert verdict.difference is not None
    assert (verdict.difference.step, verdict.difference.phase) == (3, "optimizer")
    assert verdict.divergence is None
    assert verdict.reproduced == (None, None)
    assert [(cause.kind, cause.what, cause.status) for cause in verdict.causes] == [("config", "rate", "suspected")]
    assert any("run.replayable" in note for note in verdict.notes)


@pytest.mark.long
def test_a_program_that_is_gone(program: Path) -> None:
    runs = [recorded(program, name, rate) for name, rate in (("a", "0.1"), ("b", "0.05"))]
    (program.parent / "parts.py").unlink()
    program.unlink()
    verdict = glassrun.diff(*runs)
    assert verdict.reproduced == (True, True), verdict.notes  # from the code that was recorded
    assert confirmed(verdict) == [("config", "rate")]
