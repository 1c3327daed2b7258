"""The exhibit of parameter sharing, from outside."""

import importlib
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import nn

from glassrun.look.exhibits.base import Material
from glassrun.look.exhibits.parameter_sharing import EXHIBIT, unshared
from glassrun.look.render import render
from glassrun.nn.locally_connected import LocallyConnected
from image_runs import MODELS, run_of


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    return EXHIBIT.make(Material(tmp_path_factory.mktemp("cnn"), run=run_of(MODELS["cnn"]), may_train=False))


def test_the_map_shifts_with_the_input(part):
    errors, _ = part.tables
    rows = {(row[0], row[1]): row for row in errors.rows}

    def error(name, shift, column=3):
        return float(rows[name, shift][column])

    assert error("convolution, zeros around the image", "1") < 1e-6
    assert error("convolution, zeros around the image", "1", 4) > 0.01
    assert error("convolution, the image continued around", "1", 4) < 1e-6
    for name in (
        "convolution with stride 2",
        "convolution, then max pooling over 2 × 2",
        "convolution, then average pooling over 2 × 2",
    ):
        assert error(name, "1") > 0.01
        assert error(name, "2") < 1e-6
        assert rows[name, "2"][2] == "1"
    assert error("locally connected, random kernels", "1") > 0.1


def test_the_views_hold_what_the_figure_shows(part):
    arrays = part.figures[1].view.arrays
    before, along, after, difference = arrays["pictures.1"]
    np.testing.assert_array_equal(along, np.roll(before, (18, 30), (0, 1)))
    np.testing.assert_array_equal(difference, after - along)
    first, second = arrays["pictures.0"]
    np.testing.assert_array_equal(second, np.roll(first, (18, 30), (0, 1)))


@pytest.mark.parametrize("options", [{}, {"padding": 1}, {"stride": 2, "padding": 1, "bias": False}])
def test_counts_without_sharing_are_those_of_real_layers(options):
    layer = nn.Conv2d(2, 3, 3, **options)
    out = layer(torch.zeros(1, 2, 7, 5)).shape[2:]
    shared, local, full = unshared(layer, (7, 5), out)
    bias = options.get("bias", True)

    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    assert shared == count(layer)
    assert local == count(LocallyConnected(2, 3, (7, 5), 3, **options))
    assert full == count(nn.Linear(2 * 35, 3 * out[0] * out[1], bias=bias))


def test_the_networks_own_convolutions_are_counted(part):
    _, counts = part.tables
    assert counts.rows == [
        ("features.0.convolution", "36", f"{36 * 64:,}", f"{64 * 4 * 64:,}"),
        ("features.2.convolution", "216", f"{216 * 16:,}", f"{64 * 96:,}"),
    ]


def test_nothing_is_trained_where_nothing_may_be(part):
    assert len(part.figures) == 2
    assert "glassrun exhibit parameter-sharing" in part.notes[0]


def test_predictions_that_change_are_counted(part):
    assert "images of the test split" in part.text


def test_a_filter_without_a_middle_is_replaced_by_a_known_one(tmp_path):
    part = EXHIBIT.make(Material(tmp_path, run=run_of(MODELS["convnext"]), may_train=False))
    assert "the filter of upright edges" in part.text
    assert render(title="", subtitle="", parts=[part])


def test_the_part_is_whole(part):
    assert ElementTree.fromstring(part.formula).tag == "math"
    for name in part.source:
        module, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.long
def test_with_training_it_has_the_study(tmp_path):
    part = EXHIBIT.make(Material(tmp_path))
    assert len(part.figures) == 3
    _, study, _ = part.tables
    assert [row[0] for row in study.rows] == ["convolution", "locally connected", "fully connected"]
    # Of ten classes a guess is right once in ten.
    assert all(float(cell) > 80 for row in study.rows for cell in row[3:6])
    assert all(float(cell) > 20 for row in study.rows for cell in row[6:])
    assert not part.notes
