"""The shipped recipes reach what the README says of them, and replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import glassrun as api
from glassrun import config


def final(run: api.Run, split: str) -> dict[str, Any]:
    return next(line for line in reversed(run.metrics) if line["split"] == split)


@pytest.mark.long
def test_digits_cnn(tmp_path: Path) -> None:
    run = api.train("digits-cnn", out=tmp_path / "run")
    assert final(run, "test")["accuracy"] >= 0.98
    assert run.replay(workers=1).identical == 600


@pytest.mark.long
def test_dates_transformer(tmp_path: Path) -> None:
    run = api.train("dates-transformer", out=tmp_path / "run")
    assert final(run, "test")["exact_match"] >= 0.98
    assert run.replay(first=2800, workers=4)


@pytest.mark.long
def test_sentences_transformer(tmp_path: Path) -> None:
    run = api.train("sentences-transformer", out=tmp_path / "run")
    assert final(run, "test")["exact_match"] >= 0.99
    assert run.generate(["the small dog wants to see the red ball"]) == ["der kleine Hund will den roten Ball sehen"]
    assert run.replay(first=250, workers=1)


@pytest.mark.long
def test_python_lm(tmp_path: Path) -> None:
    run = api.train("python-lm", {"train.steps": 1000}, out=tmp_path / "run")
    assert final(run, "validation")["bits_per_character"] < 2.4
    assert run.replay(first=900)


@pytest.mark.long
def test_shakespeare_char(real_data: Path, tmp_path: Path) -> None:
    text = real_data / "tinyshakespeare" / "input.txt"
    run = api.train("shakespeare-char", {"data.path": str(text)}, out=tmp_path / "run")
    assert final(run, "validation")["loss"] <= 1.92
    assert run.replay(first=1800, workers=4)


def test_shakespeare_char_is_nanogpts_small_cpu_configuration() -> None:
    """As its README gives it: 4 layers, 4 heads, 128 wide, context 64, batch 12, 2,000 steps, no dropout."""
    recipe = config.load("shakespeare-char", {"data.path": "x.txt"})
    model: Any = recipe.model
    assert (model.num_layers, model.num_heads, model.d_model, model.dropout) == (4, 4, 128, 0.0)
    assert (recipe.data.context, recipe.batch.size, recipe.batch.shards) == (64, 12, 4)  # type: ignore[attr-defined]
    assert recipe.train.steps == 2000
    assert recipe.schedule.kind == "warmup-cosine"
    assert recipe.schedule.warmup_steps == 100
