"""Augmentation: by hand, as pure functions of (seed, epoch, example), in training alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassrun import config
from glassrun.data import augment, registry
from glassrun.data.manifest import manifest_digest
from glassrun.errors import ConfigError
from glassrun.sections.augment import AUGMENTATIONS
from glassrun.train.loop import Trainer
from glassrun.train.workers import Workers
from in_process import state_of, step
from support import Made

STEPS: dict[str, dict[str, Any]] = {
    "flip": {},
    "shift": {"rows": 2, "columns": 3},
    "crop": {"padding": 2},
    "cutout": {"size": 3},
    "mixup": {"alpha": 0.4},
}
IMAGE = np.arange(2 * 5 * 7, dtype=np.float32).reshape(2, 5, 7) + 1
GROUND = np.array([-3.0, -5.0], dtype=np.float32).reshape(2, 1, 1)


def dataset(made: Made, *steps: dict[str, Any], seed: int = 7) -> Any:
    recipe = config.load(made.recipe("odd-cnn", **{"data.augment": list(steps)}))
    return registry.load(recipe.data, seed)


def test_every_kind_is_tested() -> None:
    assert STEPS.keys() == AUGMENTATIONS.keys()


# --- the operations --------------------------------------------------------------------------------------------------


def test_flip() -> None:
    assert augment.flip(IMAGE)[1, 2].tolist() == IMAGE[1, 2, ::-1].tolist()
    assert np.array_equal(augment.flip(augment.flip(IMAGE)), IMAGE)


@settings(max_examples=40)
@given(down=st.integers(-6, 6), right=st.integers(-8, 8))
def test_shift_is_pixel_by_pixel(down: int, right: int) -> None:
    moved = augment.shift(IMAGE, down, right, GROUND)
    assert moved.dtype == np.float32
    for row in range(5):
        for column in range(7):
            inside = 0 <= row - down < 5 and 0 <= column - right < 7
            expected = IMAGE[:, row - down, column - right] if inside else GROUND[:, 0, 0]
            assert moved[:, row, column].tolist() == expected.tolist()


@settings(max_examples=20)
@given(padding=st.integers(1, 4), top=st.integers(0, 8), left=st.integers(0, 8))
def test_crop_out_of_a_mirrored_border_is_torchs(padding: int, top: int, left: int) -> None:
    top, left = min(top, 2 * padding), min(left, 2 * padding)
    padded = torch.nn.functional.pad(torch.from_numpy(IMAGE), (padding,) * 4, mode="reflect")
    expected = padded[:, top : top + 5, left : left + 7]
    assert np.array_equal(augment.crop_reflected(IMAGE, padding, top, left), expected.numpy())


@settings(max_examples=40)
@given(size=st.integers(1, 9), row=st.integers(0, 4), column=st.integers(0, 6))
def test_cutout_is_pixel_by_pixel(size: int, row: int, column: int) -> None:
    before = IMAGE.copy()
    cut = augment.cutout(IMAGE, size, row, column)
    for y in range(5):
        for x in range(7):
            inside = 0 <= y - (row - size // 2) < size and 0 <= x - (column - size // 2) < size
            assert cut[:, y, x].tolist() == ([0.0, 0.0] if inside else IMAGE[:, y, x].tolist())
    assert np.array_equal(IMAGE, before)


def test_mixup_by_hand() -> None:
    images = np.array([[[[1.0]]], [[[2.0]]], [[[5.0]]]], dtype=np.float32)
    shares = np.array([1.0, 0.25, 0.5], dtype=np.float32)
    mixed, labels = augment.mixup(images, np.array([0, 1, 3]), shares, 4)
    assert mixed[:, 0, 0, 0].tolist() == [1.0, 0.25 * 2 + 0.75 * 5, 0.5 * 5 + 0.5 * 1]
    assert labels.tolist() == [[1, 0, 0, 0], [0, 0.25, 0, 0.75], [0.5, 0, 0, 0.5]]
    assert (mixed.dtype, labels.dtype) == (np.float32, np.float32)


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STEPS)
def test_an_example_depends_on_seed_epoch_and_index_alone(kind: str, made: Made) -> None:
    first, again, other = (dataset(made, {"kind": kind} | STEPS[kind], seed=seed) for seed in (7, 7, 8))
    name = augment.MIXED if kind == "mixup" else "image"
    places = [(index, epoch) for epoch in (1, 2) for index in range(20)]
    forwards = [first.splits["train"].example(*place) for place in places]
    backwards = [again.splits["train"].example(*place) for place in places[::-1]][::-1]
    elsewhere = [other.splits["train"].example(*place) for place in places]
    for a, b in zip(forwards, backwards, strict=True):
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[field], b[field]) for field in a)
    assert not all(np.array_equal(a[name], b[name]) for a, b in zip(forwards, elsewhere, strict=True))
    assert not all(np.array_equal(a[name], b[name]) for a, b in zip(forwards[:20], forwards[20:], strict=True))


@pytest.mark.parametrize("kind", [kind for kind in STEPS if kind != "mixup"])
def test_steps_of_one_kind_draw_their_own(kind: str, made: Made) -> None:
    """Twice the same step is not the same draw twice: two flips that always agreed would undo each other."""
    once = dataset(made, {"kind": kind} | STEPS[kind])
    twice = dataset(made, *[{"kind": kind} | STEPS[kind]] * 2)
    plain = dataset(made)
    images = [[data.splits["train"].example(i, 1)["image"] for i in range(30)] for data in (plain, once, twice)]
    assert any(not np.array_equal(a, b) and not np.array_equal(b, c) for a, b, c in zip(*images, strict=True))
    assert any(not np.array_equal(a, c) for a, _, c in zip(*images, strict=True))


def test_what_is_drawn_is_spread_evenly(made: Made) -> None:
    """300 draws from five, seven and two values: each comes in 40 % to 170 % of its share."""
    rows = dataset(made, {"kind": "shift", "rows": 2})
    images = rows.splits["train"]
    plain = dataset(made).splits["train"]
    ground = augment.shift(plain.example(0, 1)["image"], 8, 0, images.ground)[:, 0, 0]
    found: Counter[int] = Counter()
    for index in range(len(images)):
        before, after = plain.example(index, 1)["image"], images.example(index, 1)["image"]
        moves = [down for down in range(-2, 3) if np.array_equal(augment.shift(before, down, 0, images.ground), after)]
        found.update(moves[:1])
    assert ground.tolist() == images.ground[:, 0, 0].tolist()
    assert set(found) == set(range(-2, 3))
    assert all(0.4 < count / (len(images) / 5) < 1.7 for count in found.values())
    flipped = dataset(made, {"kind": "flip", "probability": 0.25}).splits["train"]
    turned = sum(
        not np.array_equal(flipped.example(i, 1)["image"], plain.example(i, 1)["image"]) for i in range(len(plain))
    )
    assert 0.15 < turned / len(plain) < 0.35


def test_what_comes_in_is_black(made: Made) -> None:
    data = dataset(made, {"kind": "crop", "padding": 7})
    black = data.encoding.normalise(np.zeros((1, 1, 1), dtype=np.uint8))
    corners = {float(data.splits["train"].example(i, 1)["image"][0, 0, 0]) for i in range(20)}
    assert float(black[0, 0, 0]) in corners


# --- where -----------------------------------------------------------------------------------------------------------


def test_training_alone_is_augmented_and_the_manifest_says_so(made: Made) -> None:
    plain, data = dataset(made), dataset(made, {"kind": "flip"}, {"kind": "cutout", "size": 3})
    for name in ("validation", "test"):
        assert np.array_equal(plain.splits[name].example(0, 0)["image"], data.splits[name].example(0, 0)["image"])
    assert data.manifest["preprocessing"] == [
        *plain.manifest["preprocessing"],
        {"step": "augment", "split": "train", "kind": "flip", "probability": 0.5},
        {"step": "augment", "split": "train", "kind": "cutout", "size": 3},
    ]
    assert manifest_digest(data.manifest) != manifest_digest(plain.manifest)
    train = data.splits["train"]
    assert (len(train), train.digest(), train.keys(), train.key(3)) == (
        len(plain.splits["train"]),
        plain.splits["train"].digest(),
        plain.splits["train"].keys(),
        plain.splits["train"].key(3),
    )


def test_the_digits_take_it_too() -> None:
    recipe = config.load("digits-cnn", {"data.augment": [{"kind": "shift", "rows": 1, "columns": 1}]})
    data = registry.load(recipe.data, 1)
    images = {data.splits["train"].example(0, epoch)["image"].tobytes() for epoch in range(1, 30)}
    assert 5 < len(images) <= 9


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"kind": "shift", "rows": 8}, "8 × 8 pixels, of which a shift by 8 rows and 0 columns leaves none"),
        ({"kind": "shift", "columns": 9}, "a shift by 0 rows and 9 columns leaves none"),
        ({"kind": "crop", "padding": 8}, "padding must be less than that, found 8"),
        ({"kind": "cutout", "size": 16}, "a square of 16 always covers all of them"),
    ],
)
def test_a_step_that_does_not_fit_the_images(step: dict[str, Any], words: str, made: Made) -> None:
    with pytest.raises(ConfigError, match=words):
        dataset(made, {"kind": "flip"}, step)


def test_mixed_slices_train_with_soft_labels(made: Made) -> None:
    """The loss of a mixed example is the mixed loss of its two labels, as in the paper's own code."""
    state = state_of(made, "odd-cnn", **{"data.augment": [{"kind": "mixup", "alpha": 1.0}], "model.dropout": 0.0})
    trainer = Trainer(state, Workers())
    batch = trainer.batches.slices(trainer.batches.examples(1)).batches[0]
    assert batch["label"].shape == (3, 10)
    torch.testing.assert_close(batch["label"].sum(-1), torch.ones(3))
    examples = [state.dataset.splits["train"].example(i, e) for e, i in trainer.batches.order.batch(1, 12)[:3]]
    logits = state.model(batch["image"])
    expected = torch.zeros(())
    for place, example in enumerate(examples):
        share, following = example[augment.MIXED], examples[(place + 1) % 3]
        for weight, label in ((share, example["label"]), (1 - share, following["label"])):
            expected = expected - weight * torch.log_softmax(logits[place], -1)[label]
    torch.testing.assert_close(state.task.loss(state.model, batch), expected, rtol=1e-5, atol=1e-6)
    assert step(trainer, 1).step.examples == 12
