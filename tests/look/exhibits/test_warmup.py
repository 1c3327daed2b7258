"""The exhibit of warmup: the watched loop against Adam's formula and a run's ledger, and the whole part from a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from glassrun import config
from glassrun.look.exhibits.base import Material
from glassrun.look.exhibits.early_steps import train_watched
from glassrun.look.exhibits.warmup import EXHIBIT, make
from glassrun.look.figures.schedules import Trained
from glassrun.train.state import load_data
from shown import check_part
from small_runs import small_run
from support import Made

PLAIN = {
    "model": {"kind": "language-model", "num_layers": 1, "d_model": 10, "num_heads": 2},
    "optimizer": {"kind": "adamw", "lr": 1e-3, "weight_decay": 0.0, "clip_norm": None},
    "batch": {"size": 4, "shards": 1},
}


def watched(made: Made, warmup: int, **changes: object) -> Trained:
    recipe = config.load(made.recipe("odd-lm", **(PLAIN | {"schedule.warmup_steps": warmup} | changes)))
    return train_watched(recipe, load_data(recipe))


def test_adam_s_first_step_moves_each_parameter_by_the_whole_rate(made: Made) -> None:
    cold, warmed = watched(made, 0), watched(made, 4)
    assert 0.9 < cold.share[0] / (cold.learning_rate[0] / 1e-3) <= 1.0001
    assert warmed.share[0] == pytest.approx(cold.share[0] / cold.learning_rate[0] * 1e-3 / 4, rel=1e-3)
    assert warmed.learning_rate.tolist()[:4] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3])
    assert warmed.loss[0] == cold.loss[0]  # the same first parameters and the same batch


def test_of_sgd_an_update_is_the_rate_times_the_gradient(made: Made) -> None:
    slow, fast = (watched(made, 0, optimizer={"kind": "sgd", "lr": rate, "momentum": 0.0}) for rate in (1e-3, 2e-3))
    assert fast.length[0] == pytest.approx(2 * slow.length[0], rel=1e-3)


@pytest.mark.long
def test_its_losses_are_those_of_a_run(made: Made, tmp_path: Path) -> None:
    from glassrun import run

    recipe = config.load(made.recipe("odd-lm", **PLAIN))
    ledger = run.train(recipe, out=tmp_path / "run").ledger
    found = train_watched(recipe, load_data(recipe))
    assert found.loss.tolist() == pytest.approx([line.step.loss for line in ledger], rel=1e-5)
    assert found.learning_rate.tolist() == [line.step.learning_rate for line in ledger]


def test_a_run_is_shown_without_training_anything(made: Made, tmp_path: Path) -> None:
    run = small_run(made, "odd-lm")
    assert EXHIBIT.fits(run)
    part = make(Material(tmp_path, run=run, may_train=False))
    assert not list(tmp_path.iterdir())
    assert "after 2 steps of warmup" in part.text
    # A report begins with the very curves; nothing is shown twice.
    assert (part.figures, "at the head of this report" in part.text) == ([], True)


@pytest.mark.long
def test_without_a_run_it_trains_with_and_without_warmup(tmp_path: Path) -> None:
    part = make(Material(tmp_path))
    check_part(part)
    assert len(part.figures) == 3
    options = part.figures[1].view.values["options"]  # type: ignore[union-attr]
    assert [option["name"] for option in options] == ["small batch, 8 windows", "large batch, 64 windows"]
