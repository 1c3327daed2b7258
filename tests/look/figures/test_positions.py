"""Figures of position encodings: what is drawn is what was given."""

from __future__ import annotations

import numpy as np

from glassrun.look.figures.positions import ByDistance, Encoding, by_distance, dot_products, encodings
from glassrun.look.figures.style import svg

GENERATOR = np.random.default_rng(1)


def test_encodings_stand_side_by_side_with_their_names_and_zero_in_the_middle_of_each_scale() -> None:
    shown = [
        Encoding("sinusoidal", GENERATOR.normal(size=(5, 7)), "position", "dimension", "added to the token"),
        Encoding("ALiBi", -3 * GENERATOR.random((4, 4)), "query", "key", "added to the score"),
    ]
    figure = encodings(shown)
    panels, bars = figure.axes[:2], figure.axes[2:]
    for panel, bar, encoding in zip(panels, bars, shown, strict=True):
        (image,) = panel.images
        assert np.array_equal(image.get_array(), encoding.values)
        low, high = image.get_clim()
        assert low == -high == -np.abs(encoding.values).max()
        assert (panel.get_title(), panel.get_ylabel()) == (encoding.title, encoding.row_title)
        assert bar.get_xlabel() == encoding.value_title


def test_dot_products_are_drawn_over_the_distance_from_their_start() -> None:
    table = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])  # a quarter turn each
    figure = dot_products({"turning": table}, [0, 1])
    first, second = figure.axes[0].lines[:2]
    assert first.get_xdata().tolist() == [0, 1, 2]
    assert first.get_ydata().tolist() == [1.0, 0.0, -1.0]
    assert second.get_xdata().tolist() == [-1, 0, 1]
    assert second.get_ydata().tolist() == [0.0, 1.0, 0.0]


def test_relative_encodings_have_a_line_for_each_head() -> None:
    distances = np.arange(-2, 3)
    lines = {"head 1": -np.abs(distances) / 2, "head 2": -np.abs(distances) / 4}
    figure = by_distance([ByDistance("ALiBi", distances, lines, "added to the score")])
    (axes,) = figure.axes
    drawn = {line.get_label(): line.get_ydata().tolist() for line in axes.lines if line.get_label() in lines}
    assert drawn == {name: values.tolist() for name, values in lines.items()}
    assert svg(figure).startswith("<svg")


def test_the_same_numbers_give_the_same_bytes() -> None:
    table = GENERATOR.normal(size=(6, 4))
    assert svg(dot_products({"one": table}, [1, 3])) == svg(dot_products({"one": table}, [1, 3]))
