"""`record.update_norm`: how far each step moves the parameters, beside the chain."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import glassrun as api
from glassrun.record.checkpoint_files import path_of
from glassrun.run import Run
from glassrun.show import as_text, summary
from glassrun.track.reader import Reader
from glassrun.train.loop import Trainer
from glassrun.train.update_norm import UpdateNorm
from glassrun.train.workers import Workers
from in_process import state_of, step, trained
from support import Made

NAME = "odd-cnn"
EVERY_STEP: dict[str, Any] = {"train__checkpoint_every": 1, "train__keep_checkpoints": 100}


@pytest.fixture(scope="module")
def recorded(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Six steps on one worker, with a checkpoint after each."""
    out = tmp_path_factory.mktemp("recorded") / "run"
    return trained(made.recipe(NAME), out, record__update_norm=True, **EVERY_STEP)


class NoNumber(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1)) * math.nan


def norms(run: Run) -> list[float | None]:
    return [line.update_norm for line in run.ledger]


def test_it_is_that_of_the_difference_between_two_checkpoints(recorded: Run, made: Made) -> None:
    """To a relative 1e-12: the sum of squares has another order here."""
    before = {name: parameter.detach() for name, parameter in state_of(made, NAME).named_parameters}
    for number, found in enumerate(norms(recorded), start=1):
        tensors = load_file(path_of(recorded.path, number) / "model.safetensors")
        after = {name: tensors[name] for name in before}
        moved = torch.cat([(after[name].double() - before[name].double()).flatten() for name in before])
        assert found == pytest.approx(float(moved.norm()), rel=1e-12)
        assert found is not None
        assert (found > 1e-3) is (number < 6)  # the last step's rate is zero
        before = after
    assert number == 6


def test_the_chain_is_the_same_without_it(recorded: Run, made: Made, tmp_path: Path) -> None:
    without = trained(made.recipe(NAME), tmp_path / "run")
    assert [line.chain for line in without.ledger] == [line.chain for line in recorded.ledger]
    assert norms(without) == [None] * 6
    assert b"update_norm" not in (without.path / "ledger.jsonl").read_bytes()
    assert summary(without.path)["update_norm"] is None


@pytest.mark.usefixtures("warm_workers")
def test_two_workers_give_the_same_and_a_replay_does_not_mind_it(recorded: Run, made: Made, tmp_path: Path) -> None:
    run = api.train(made.recipe(NAME, record={"update_norm": True}), out=tmp_path / "run", workers=2)
    assert norms(run) == norms(recorded)
    assert run.replay(workers=1)


def test_a_resumed_run_goes_on_with_it(recorded: Run, made: Made, tmp_path: Path) -> None:
    def kill(event: dict[str, Any]) -> None:
        if event.get("step") == 3:
            raise KeyboardInterrupt

    recipe = made.recipe(NAME, record={"update_norm": True})
    with pytest.raises(KeyboardInterrupt):
        trained(recipe, tmp_path / "run", kill)
    run = trained(recipe, tmp_path / "run")
    assert norms(run) == norms(recorded)
    assert len(run.folder.header["sessions"]) == 2


def test_a_step_that_stops_before_the_update_moves_nothing(made: Made) -> None:
    state = state_of(made, NAME, NoNumber(), record={"update_norm": True})
    outcome = step(Trainer(state, Workers()), 1)
    assert outcome.problem == "step 1: the loss is not finite"
    assert outcome.update_norm == 0.0


def test_show_and_trackers_tell_it(recorded: Run) -> None:
    found = norms(recorded)
    told = summary(recorded.path)["update_norm"]
    assert told["first"] == {"step": 1, "norm": found[0]}
    assert told["largest"]["norm"] == max(norm for norm in found if norm is not None)
    assert told["last"] == {"step": 6, "norm": found[-1]}
    assert f"updates     norm: first {found[0]:.4g} at step 1, largest" in as_text(summary(recorded.path))
    assert json.dumps(summary(recorded.path))
    assert [row.values["train/update_norm"] for row in Reader(recorded.folder).rows()] == found


def test_the_norm_is_taken_in_float64_over_all_tensors() -> None:
    """√(2² + (2⁻³⁰)² + 2²⁰⁰): in float32 the largest square would be infinite, in float64 it is all that is left."""
    tensors = [torch.ones(3), torch.zeros(2, 2), torch.zeros(1)]
    moved = UpdateNorm(tensors)
    moved.begin()
    tensors[0][1] += 2
    assert moved.norm() == 2.0
    tensors[1][0, 1] = 2.0**-30
    assert moved.norm() == math.sqrt(4 + 2.0**-60)
    tensors[2][0] = 2.0**100
    assert moved.norm() == 2.0**100
    tensors[2][0] = math.inf
    assert moved.norm() == math.inf
    moved.begin()
    tensors[2][0] = 0.0
    assert moved.norm() == math.inf


def test_small_moves_of_bfloat16_count() -> None:
    tensor = torch.ones(4, dtype=torch.bfloat16)
    moved = UpdateNorm([tensor])
    moved.begin()
    tensor += 2.0**-7  # the next number after 1
    assert moved.norm() == 2 * 2.0**-7
