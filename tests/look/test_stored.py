"""Stored results: their file, their figure, and the exhibits that show them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glassrun.look import stored
from glassrun.look.exhibits.studies import with_studies
from glassrun.look.figures.measured import measured
from glassrun.look.page import Part
from glassrun.look.stored import Claim, Measurement, Panel, Spread, Stored, Verdict, decode, results, select, spread

LOSSES = {
    ("with", 1.0): [0.5, 0.7],
    ("with", 10.0): [0.25, 0.35],
    ("without", 1.0): [0.9, None],
    ("without", 10.0): [None, None],
}
MEASUREMENTS = [
    Measurement({"warmup": warmup, "rate": rate}, seed, {"loss": value}, chain=f"{seed}")
    for (warmup, rate), values in LOSSES.items()
    for seed, value in enumerate(values, 1)
]
RESULT = Stored(
    claim=Claim("example", "attention", "It helps.", "nobody"),
    measurements=MEASUREMENTS,
    panels=[Panel("loss", "rate", "warmup", log_x=True)],
    verdict=Verdict(True, "0.3 against nothing"),
    command="python studies/example.py",
    seeds=[1, 2],
    trained="Nothing",
    machine={"cpu": "a CPU", "cores": 2, "torch": "2"},
    seconds=12.0,
    date="2026-01-01",
)


def test_the_file_gives_the_result_back() -> None:
    assert decode(RESULT.encode()) == RESULT
    assert select(RESULT.measurements, "loss", {"warmup": "with", "rate": 10.0}) == [0.25, 0.35]
    with pytest.raises(ValueError, match="JSON"):  # what JSON cannot say is None, and no NaN
        Stored(**(vars(RESULT) | {"seconds": float("nan")})).encode()


def test_a_spread_by_hand() -> None:
    assert spread([1.0, None, 4.0]) == Spread(2, 2.5, 1.0, 4.0)
    assert spread([None]) is None


def test_every_seed_has_a_mark_and_every_lost_one_a_cross() -> None:
    figure = measured(MEASUREMENTS, RESULT.panels)
    (axes,) = (axes for axes in figure.axes if axes.get_visible())
    marks = sorted(
        (float(x), float(y))
        for line in axes.lines
        if line.get_markerfacecolor() == "none"
        for x, y in zip(*line.get_data(), strict=True)
    )
    assert marks == [(1.0, 0.5), (1.0, 0.7), (1.0, 0.9), (10.0, 0.25), (10.0, 0.35)]
    means = {line.get_label(): line.get_ydata() for line in axes.lines if line.get_label() in ("with", "without")}
    np.testing.assert_allclose(means["with"], [0.6, 0.3])
    np.testing.assert_allclose(means["without"], [0.9])  # at the one rate at which a seed has a loss
    crosses = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "x"]
    assert sorted(crosses) == [1.0, 10.0]


def test_a_series_without_any_number_is_crosses_alone() -> None:
    lost = [Measurement({"warmup": "without", "rate": rate}, 1, {"loss": None}) for rate in (1.0, 10.0)]
    axes = measured(lost, [Panel("loss", "rate", "warmup")]).axes[0]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "x"] == [1.0, 10.0]


def test_names_are_not_joined_and_their_series_stand_beside_each_other() -> None:
    axes = measured(MEASUREMENTS, [Panel("loss", "warmup", "rate")]).axes[0]
    bars = {line.get_label(): line for line in axes.lines if line.get_marker() == "_"}
    assert {line.get_linestyle() for line in bars.values()} == {"None"}
    np.testing.assert_allclose(bars["1"].get_xdata(), [-0.15, 0.85])
    np.testing.assert_allclose(bars["1"].get_ydata(), [0.6, 0.9])
    np.testing.assert_allclose(bars["10"].get_xdata(), [0.15])


def test_levels_that_are_names_and_shares_in_percent() -> None:
    figure = measured(MEASUREMENTS[:4], [Panel("loss", "warmup", where={"rate": 1.0}, percent=True, title="a $ title")])
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["with"]
    assert axes.get_ylabel() == "loss, %"
    values = [y for line in axes.lines if line.get_markerfacecolor() == "none" for y in line.get_ydata()]
    np.testing.assert_allclose(values, [50.0, 70.0])
    assert axes.get_title() == r"a \$ title"


def test_an_exhibit_shows_the_studies_that_belong_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "folder", lambda: tmp_path)
    (tmp_path / "example.json").write_text(RESULT.encode(), encoding="utf-8")
    assert results("attention") == [RESULT]
    assert with_studies("feature-map", Part("x")).figures == []
    (figure,) = with_studies("attention", Part("x")).figures
    assert figure.svg.startswith("<svg")
    for words in (
        "It helps.",
        "Supported: 0.3 against nothing.",
        "python studies/example.py",
        "12 s of training on 2 cores",
    ):
        assert words in figure.caption
