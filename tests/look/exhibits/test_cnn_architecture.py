"""The exhibit of a CNN's architecture, from outside: what its part says of models whose numbers are known."""

import importlib
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from torch import nn

from glassrun import config
from glassrun.errors import ModelError
from glassrun.look.exhibits.base import Material
from glassrun.look.exhibits.cnn_architecture import EXHIBIT
from glassrun.look.render import render
from image_runs import MODELS, run_of


def made(run):
    return EXHIBIT.make(Material(Path("unused"), run=run, may_train=False))


@cache
def part_of(kind):
    return made(run_of(MODELS[kind]))


def column(table, name):
    return [row[table.head.index(name)] for row in table.rows]


@pytest.mark.parametrize("kind", MODELS)
def test_the_part_tells_all_layers_and_all_parameters(kind):
    run = run_of(MODELS[kind])
    part = part_of(kind)
    layers, windows = part.tables
    total = sum(parameter.numel() for parameter in run.model.parameters())
    counted = sum(int(text.replace(",", "")) for text in column(layers, "parameters") if text)
    # ConvNeXt's scales lie in no layer.
    assert counted + sum(p.numel() for n, p in run.model.named_parameters() if n.endswith(".scale")) == total
    assert f"{total:,} parameters" in part.text
    assert column(layers, "output")[-1] == "10"
    assert windows.rows
    for name, _, arithmetic, result, _ in windows.rows:
        output = column(layers, "output")[column(layers, "layer").index(name)]
        assert output.split("\u00a0×\u00a0")[1] == result
        size, padding, dilation, kernel, stride = (int(re.findall(r"\d+", arithmetic)[i]) for i in (0, 2, 3, 4, 7))
        assert (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 == int(result)
    assert part.figures[0].svg.startswith("<svg")
    assert render(title="", subtitle="", parts=[part])


def test_the_numbers_of_a_small_cnn():
    layers, windows = part_of("cnn").tables
    rows = {row[1]: row for row in layers.rows}
    assert rows["input"][5:7] == ("1\u00a0×\u00a08\u00a0×\u00a08", "1 × 1")
    fields = {name: row[6] for name, row in rows.items()}
    # 3; a pooling adds 1; then a window of 3 adds 2 steps of 2; a pooling adds 1 of 2.
    assert fields["features.0.convolution"] == "3 × 3"
    assert fields["features.1"] == "4 × 4"
    assert fields["features.2.convolution"] == "8 × 8"
    assert fields["features.3"] == "10 × 10"
    assert fields["hidden"] == fields["classify"] == "the whole image"
    assert rows["classify"][2:5] == ("Linear", "12 → 10", rows["dropout"][0])
    assert rows["features.2.convolution"][7] == "216"
    assert windows.rows[0] == (
        "features.0.convolution",
        "3 × 3, stride 1",
        "⌊(8 + 2·1 − 1·(3 − 1) − 1) / 1⌋ + 1",
        "8",
        "4 · 1 · 3 · 3 = 36",
    )


def test_branches_are_told():
    part = part_of("resnet")
    (layers, _) = part.tables
    numbers = dict(zip(column(layers, "layer"), column(layers, ""), strict=True))
    reads = dict(zip(column(layers, "layer"), column(layers, "reads"), strict=True))
    block = "stages.0.0"
    both = {numbers["stem.0.activation"], numbers[f"{block}.branch.1.norm"]}
    assert set(reads[f"{block}.activation"].split(" + ")) == both
    assert "At 4 of its layers branches meet" in part.text
    assert "branches meet" not in part_of("cnn").text


def test_the_same_run_gives_the_same_part():
    first, second = (made(run_of(MODELS["cnn"])) for _ in range(2))
    assert first == second


def test_fits_is_told_from_the_recipe():
    def fits(**recipe):
        return EXHIBIT.fits(
            SimpleNamespace(recipe=config.load({"name": "of-a-test", "data": {"source": "digits"}, **recipe}))
        )

    assert all(fits(task="classify", model=model) for model in MODELS.values())
    assert fits(task="classify", model={"import": "package.module:factory"})
    assert not fits(task="classify", model={"kind": "vision-transformer"})
    text = {"source": "text", "path": "somewhere.txt"}
    assert not fits(task="language-model", data=text, model={"kind": "language-model"})


def test_a_model_of_the_users_without_convolutions_is_an_error():
    run = run_of(MODELS["cnn"])
    run.recipe = config.load(
        {"name": "x", "task": "classify", "data": {"source": "digits"}, "model": {"import": "package.module:factory"}}
    )
    run.model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ModelError, match=r"Sequential: expected a convolutional network, found no torch\.nn\.Conv2d"):
        made(run)


def test_the_formula_is_mathml_and_the_sources_are_there():
    part = part_of("cnn")
    assert ElementTree.fromstring(part.formula).tag == "math"
    assert not re.search(r"\n\n\n", part.text)
    for name in part.source:
        module, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), function))
