"""The studies' networks differ in the one thing that is asked, and what the studies compute is what it should be."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import parameter_sharing
import pytest
import torch
from image_variants import NoShortcut, loss_of_guessing, plain_cnn, resnet, sharing_network, shrinking_cnn
from leads import ahead, all_above, differences, told, up
from seeing import few_images, taken, write_idx
from torch import nn

from glassrun import config
from glassrun.data import idx
from glassrun.look.stored import Measurement
from glassrun.train.state import load_data

CHANNELS, HEIGHT, WIDTH, CLASSES = 1, 7, 9, 5


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def shrinking(way: str) -> nn.Module:
    torch.manual_seed(3)
    return shrinking_cnn(CHANNELS, HEIGHT, WIDTH, CLASSES, shrink=way, channels=[2, 3], margin=2)


def test_poolings_and_stride_have_the_same_parameters_to_begin_with() -> None:
    pooled, strided = (dict(shrinking(way).named_parameters()) for way in ("max pooling", "average pooling"))
    assert all(torch.equal(pooled[name], strided[name]) for name in pooled)
    assert count(shrinking("stride")) == count(shrinking("max pooling"))
    for way in ("max pooling", "average pooling", "stride"):
        assert shrinking(way)(torch.randn(2, CHANNELS, HEIGHT, WIDTH)).shape == (2, CLASSES)


def test_the_margin_has_the_value_of_the_first_pixel() -> None:
    image = torch.arange(float(HEIGHT * WIDTH)).reshape(1, 1, HEIGHT, WIDTH) + 5
    framed = shrinking("stride").framed(image)
    assert framed.shape == (1, 1, HEIGHT + 4, WIDTH + 4)
    assert torch.equal(framed[..., 2:-2, 2:-2], image)
    assert (framed[..., :2, :] == 5).all()
    assert (framed[..., -2:] == 5).all()


def test_batch_norm_is_there_or_not() -> None:
    made = [plain_cnn(1, CLASSES, batch_norm=norm, channels=[2, 3], strides=[1, 2]) for norm in (True, False)]
    norms = [sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) for model in made]
    assert norms == [2, 0]
    assert made[1](torch.randn(2, 1, HEIGHT, WIDTH)).shape == (2, CLASSES)


def test_without_skips_a_block_is_its_branch() -> None:
    torch.manual_seed(1)
    models = [
        resnet(1, CLASSES, skips=skips, stem_channels=2, channels=[2, 3], blocks=[1, 1]) for skips in (True, False)
    ]
    assert count(models[0]) == count(models[1])
    block = models[1].eval().stages[0][0]
    x = torch.randn(2, 2, HEIGHT, WIDTH)
    assert isinstance(block.shortcut, NoShortcut)
    torch.testing.assert_close(block(x), torch.relu(block.branch(x)), rtol=0, atol=0)


@pytest.mark.parametrize(("layers", "parameters"), [("convolution", 160), ("locally connected", 160 * 63)])
def test_the_network_of_the_exhibit(layers: str, parameters: int) -> None:
    model = sharing_network(CHANNELS, HEIGHT, WIDTH, CLASSES, layers=layers)
    assert count(model.layers[0]) == parameters


def test_guessing_costs_the_entropy_of_the_classes() -> None:
    assert loss_of_guessing(torch.full((8,), 0.125)) == pytest.approx(math.log(8))
    assert loss_of_guessing(torch.tensor([0.5, 0.25, 0.25, 0.0])) == pytest.approx(1.5 * math.log(2))


def test_differences_are_of_one_seed() -> None:
    rows = [("a", 1, 3.0), ("a", 2, 5.0), ("b", 2, 4.5), ("b", 1, 1.0), ("a", 3, None), ("b", 3, 1.0)]
    found = differences([Measurement({"x": x}, seed, {"v": v}) for x, seed, v in rows], "v", {"x": "a"}, {"x": "b"})
    assert found == [2.0, 0.5, None]
    assert all_above(found[:2])
    assert not all_above(found)
    assert not all_above([])
    assert not all_above([0.0])


def test_numbers_in_words_keep_what_is_small() -> None:
    assert told([0.00012, 0.1]) == "0.0501 (0.00012 to 0.1)"
    assert ahead([0.00012, 0.1]) == "0.05 (0.00012 to 0.1)"
    assert told([0.05004], rounded=up) == "0.0501 (0.0501 to 0.0501)"
    assert told([0.5, None], scale=100) == "50 (50 to 50; 1 of 2 seeds without a number)"
    assert told([None]) == "no number; 1 of 1 seeds without a number"


def test_idx_files_are_read_back(tmp_path: Path) -> None:
    grey = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 1, 3, 5)
    coloured = np.arange(2 * 3 * 3 * 5, dtype=np.uint8).reshape(2, 3, 3, 5)
    labels = np.array([4, 7], dtype=np.uint8)
    write_idx(tmp_path / "labels", labels)
    for images in (grey, coloured):
        write_idx(tmp_path / "images", images)
        found, numbers = idx.images_and_labels(tmp_path / "images", tmp_path / "labels")
        assert np.array_equal(found, images)
        assert np.array_equal(numbers, labels)


def test_few_images_are_some_of_the_training_images_and_the_held_out_ones_stay(tmp_path: Path) -> None:
    recipe = config.load("digits-cnn", {"seed": 5})
    whole = load_data(recipe)
    few = load_data(few_images(12)(recipe, tmp_path / "few"))
    assert len(few.splits["train"]) == 12
    assert set(few.splits["train"].keys()) <= set(whole.splits["train"].keys())
    assert len({few.splits["train"].example(index, 0)["label"] for index in range(12)}) == 10, "of every class one"
    for name in ("validation", "test"):
        assert few.splits[name].keys() == whole.splits[name].keys()
    again, other = (
        load_data(few_images(12)(config.load("digits-cnn", {"seed": seed}), tmp_path / f"{seed}-again"))
        for seed in (5, 6)
    )
    assert again.splits["train"].keys() == few.splits["train"].keys()
    assert other.splits["train"].keys() != few.splits["train"].keys()


def test_images_are_taken_from_all_of_a_split(tmp_path: Path) -> None:
    """A folder is in the order of its classes: the first images would be of a few."""
    split = load_data(few_images(None)(config.load("digits-cnn"), tmp_path)).splits["train"]
    _, labels = taken(split, 10)
    assert labels.tolist() == [int(split.labels[split.indices[place * len(split) // 10]]) for place in range(10)]
    assert len(taken(split, 10_000)[1]) == len(split)


def test_a_size_that_the_data_have_not_is_left_out() -> None:
    """It would be trained on all images, which another trial is."""
    run: Any = SimpleNamespace(dataset=SimpleNamespace(splits={"train": range(299)}))
    assert not list(parameter_sharing.measure(run, parameter_sharing.trial("convolution", 300), 1))


def test_all_images_are_all(tmp_path: Path) -> None:
    recipe = config.load("digits-cnn", {"seed": 5})
    assert (
        load_data(few_images(None)(recipe, tmp_path)).splits["train"].keys() == load_data(recipe).splits["train"].keys()
    )
