"""Every model and head of images through the loop: it learns, and the contract holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import glassrun as api
from glassrun import config
from glassrun.data.pixels import LabelledImages
from glassrun.look.parts import model_parts
from glassrun.models.registry import build
from glassrun.train.evaluate import evaluate
from glassrun.train.loop import Trainer
from glassrun.train.state import State, load_data, prepare
from glassrun.train.workers import Workers
from in_process import step
from support import bits_of

MODELS: dict[str, dict[str, Any]] = {
    "cnn": {"channels": [5], "convolutions": 1, "hidden": 30, "dropout": 0.1},
    "convnext": {"patch_size": 2, "channels": [6, 10], "blocks": [1, 1], "layer_scale": 0.5, "stochastic_depth": 0.2},
    "lenet": {},
    "resnet": {
        "stem": "cifar",
        "stem_channels": 5,
        "channels": [5, 7],
        "blocks": [1, 2],
        "shortcut": "padding",
        "stochastic_depth": 0.2,
    },
    "cnn, channels last": {"channels": [5, 7], "convolutions": 2, "hidden": 30, "memory_format": "channels_last"},
    "vgg": {"channels": [5, 7], "convolutions": [1, 1], "hidden": 30, "dropout": 0.1},
}
TABLES = {
    "labels": ("left,right", lambda left, right, level: f"{left:d},{right:d}"),  # noqa: ARG005
    "numbers": ("level,twice", lambda left, right, level: f"{level},{1000 - 2 * level}"),  # noqa: ARG005
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 pictures of 13 × 13 pixels of one level of grey, some with a bright bar at the left, at the right or both."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(1)
    rows: dict[str, list[str]] = {target: [] for target in TABLES}
    for target in TABLES:
        (folder / target).mkdir()
    for number in range(200):
        left, right, level = bool(number & 1), bool(number & 2), int(generator.integers(0, 120))
        pixels = np.full((13, 13), level, dtype=np.uint8) + generator.integers(0, 9, (13, 13), dtype=np.uint8)
        pixels[2:11, 2:4] = 255 if left else level
        pixels[2:11, 9:11] = 255 if right else level
        for target, (_, row) in TABLES.items():
            Image.fromarray(pixels).save(folder / target / f"{number}.png")
            rows[target].append(f"{number}.png,{row(left, right, level)}")
    for target, (header, _) in TABLES.items():
        (folder / target / "table.csv").write_text("\n".join([f"file,{header}", *rows[target]]))
    return folder


def recipe(pictures: Path, kind: str, target: str, **overrides: Any) -> dict[str, Any]:
    return {
        "name": f"{kind.split(',')[0]}-{target}",
        "task": "classify",
        "data": {"source": "images", "path": str(pictures / target), "target": target},
        "model": {"kind": kind.split(",")[0]} | MODELS[kind],
        "batch": {"size": 16, "shards": 4},
        "optimizer": {"kind": "adamw", "lr": 3e-3},
        "schedule": {"kind": "warmup-cosine", "warmup_steps": 2},
        "train": {"steps": 3, "eval_every": 3, "checkpoint_every": 3},
    } | overrides


def trained(values: dict[str, Any], steps: int) -> State:
    loaded = config.load(values | {"train": {"steps": steps, "eval_every": steps, "checkpoint_every": steps}})
    state = prepare(loaded, load_data(loaded))
    trainer = Trainer(state, Workers())
    for number in range(1, steps + 1):
        step(trainer, number)
    return state


def metrics(state: State) -> dict[str, float]:
    found = evaluate(state, "test", Workers())
    assert found is not None
    return found.metrics


def test_labels_are_learned_and_shown(pictures: Path) -> None:
    state = trained(recipe(pictures, "cnn", "labels"), 40)
    found = metrics(state)
    assert list(found) == ["loss", "exact_match", "micro_f1", "macro_f1"]
    assert found["exact_match"] > 0.9
    assert found["macro_f1"] > 0.9
    (part,) = [
        part for part in model_parts(state.model.eval(), state.task, state.dataset) if part.title == "Predictions"
    ]
    (table,) = part.tables
    assert table.head == ["labels", "predicted"]
    split = state.dataset.splits["test"]
    assert len(table.rows) == 12 <= len(split)
    for index, (true, said) in enumerate(table.rows):
        label = split.example(index, 0)["label"]
        assert true == (
            ", ".join(name for name, value in zip(("left", "right"), label, strict=True) if value) or "none"
        )
        assert said in ("none", "left", "right", "left, right")
    assert sum(true == said for true, said in table.rows) >= 9


def test_numbers_are_learned_and_shown(pictures: Path) -> None:
    state = trained(recipe(pictures, "resnet", "numbers"), 40)
    found = metrics(state)
    assert list(found) == ["loss", "mean_squared_error", "mean_absolute_error", "r2"]
    assert found["r2"] > 0.8
    titles = {part.title: part for part in model_parts(state.model.eval(), state.task, state.dataset)}
    (table,) = titles["Predictions"].tables
    assert table.head == ["level", "twice", "level, predicted", "twice, predicted"]
    split = state.dataset.splits["test"]
    assert isinstance(split, LabelledImages)
    for index, row in enumerate(table.rows):
        level = float(row[0])
        assert abs(float(split.raw(index)[0, 0, 0]) - level) <= 9  # the picture's own level, under the noise
        assert float(row[1]) == pytest.approx(1000 - 2 * level)
        assert abs(float(row[2]) - level) < 60
    assert "Confusion matrix" not in titles


@pytest.mark.parametrize("kind", MODELS)
def test_every_model_of_images_takes_a_step(kind: str, pictures: Path) -> None:
    state = trained(recipe(pictures, kind, "labels"), 1)
    fresh = build(state.recipe.model, state.dataset.facts, state.seed)
    moved = [
        name
        for (name, after), before in zip(state.model.named_parameters(), fresh.parameters(), strict=True)
        if not torch.equal(after, before)
    ]
    assert moved == [name for name, _ in state.model.named_parameters()]


@pytest.mark.long
@pytest.mark.parametrize("target", TABLES)
@pytest.mark.parametrize("kind", MODELS)
def test_the_same_bits_on_1_2_and_4_workers_and_replayed(
    kind: str, target: str, pictures: Path, tmp_path: Path
) -> None:
    found = []
    for workers in (1, 2, 4):
        run = api.train(recipe(pictures, kind, target), out=tmp_path / str(workers), workers=workers)
        found.append(bits_of(run.path))
    assert found[0] == found[1] == found[2]
    assert run.replay(workers=2).identical == 3
