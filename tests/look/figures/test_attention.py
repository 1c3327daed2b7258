"""Figures of attention: what they draw is what they were given, on one scale, with the tokens on the axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from glassrun.look.figures import attention as figures
from glassrun.look.figures.style import MOST_LABELS, svg

SOURCE = ["a", "small", "dog", "waits", "⟩"]
TARGET = ["ein", "kleiner", "Hund", "wartet", "⟩", "$x"]


def weights(*shape: int) -> Any:
    drawn = np.random.default_rng(7).random(shape)
    return drawn / drawn.sum(-1, keepdims=True)


def maps_of(figure: Figure) -> list[Any]:
    return [axes for axes in figure.axes if axes.images and axes.get_label() != "<colorbar>"]


def labels(axes: Any) -> tuple[list[str], list[str]]:
    return [t.get_text() for t in axes.get_xticklabels()], [t.get_text() for t in axes.get_yticklabels()]


def assert_shows(axes: Any, values: Any, queries: list[str], keys: list[str]) -> None:
    (image,) = axes.images
    assert np.array_equal(image.get_array(), values)
    assert image.get_clim() == (0.0, 1.0)
    assert labels(axes) == ([k.replace("$", r"\$") for k in keys], [q.replace("$", r"\$") for q in queries])


@pytest.mark.parametrize("heads", [1, 3, 4, 7])
def test_every_head_is_drawn_on_one_scale(heads: int) -> None:
    drawn = weights(heads, 6, 5)
    figure = figures.attention(drawn, TARGET, SOURCE, "written", "read")
    found = maps_of(figure)
    assert len(found) == heads
    for number, axes in enumerate(found):
        assert_shows(axes, drawn[number], TARGET, SOURCE)
        assert axes.get_title() == f"head {number + 1}"
    assert found[0].get_ylabel() == "written"
    assert found[-1].get_xlabel() == "read"


def test_labels_stand_upright_where_they_would_lie_on_each_other() -> None:
    for keys, angle in ((SOURCE, 90.0), (list("abcde"), 0.0)):
        axes = maps_of(figures.attention(weights(4, 5, 5), keys, keys, "query", "key"))[0]
        assert {label.get_rotation() for label in axes.get_xticklabels()} == {angle}


def test_a_long_sentence_has_no_labels_that_lie_on_each_other() -> None:
    long = [f"token{number}" for number in range(MOST_LABELS + 1)]
    axes = maps_of(figures.attention(weights(1, 49, 49), long, long, "query", "key"))[0]
    assert len(axes.get_xticks()) < MOST_LABELS


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_one_head_is_larger_than_the_others_beside_it(heads: int) -> None:
    one, others = weights(5, 5), weights(heads, 5, 5)[::-1]
    titles = [f"head {number + 1}" for number in range(heads)]
    figure = figures.one_head_beside_four(one, others, SOURCE, SOURCE, one_title="alone", head_titles=titles)
    figure.draw_without_rendering()
    found = {axes.get_title(): axes for axes in maps_of(figure)}
    assert found.keys() == {"alone", *titles}
    assert_shows(found["alone"], one, SOURCE, SOURCE)
    for number, title in enumerate(titles):
        assert_shows(found[title], others[number], SOURCE, SOURCE)
        assert found["alone"].get_position().width > 1.5 * found[title].get_position().width
        assert found["alone"].get_position().x1 < found[title].get_position().x0


def test_self_attention_stands_left_of_cross_attention() -> None:
    within, across = weights(5, 5), weights(6, 5)
    left, right = maps_of(figures.self_beside_cross(within, across, SOURCE, TARGET))
    assert_shows(left, within, SOURCE, SOURCE)
    assert_shows(right, across, TARGET, SOURCE)
    assert "source" in left.get_ylabel()
    assert "written" in right.get_ylabel()


def test_one_query_writes_out_the_arithmetic() -> None:
    """By hand: scores 0, 2 and 4 ln 3 over d_k = 4 give powers 1, e and 9, and weights over their sum."""
    scores = np.array([0.0, 2.0, 4 * math.log(3)])
    values = np.array([[1.0, 0.0, 0.0, 2.0], [0.0, 1.0, 0.0, -1.0], [0.0, 0.0, 1.0, 0.0]])
    figure = figures.one_query(scores, values, ["x", "y", "z"], "“q”")
    first, second, third, last = figure.axes[:4]
    total = 1 + math.e + 9
    expected = [(0.0, 2.0, 4 * math.log(3)), (0.0, 1.0, 2 * math.log(3)), (1 / total, math.e / total, 9 / total)]
    for axes, heights in zip((first, second, third), expected, strict=True):
        assert [bar.get_height() for bar in axes.patches] == pytest.approx(heights)
        assert [text.get_text() for text in axes.texts][:3] == [f"{height:.2f}" for height in heights]
    assert third.texts[-1].get_text() == "sum 1.00"
    table = np.asarray(last.images[0].get_array())
    assert table.shape == (4, 4)
    assert table[:, 0] == pytest.approx(np.array([1.0, 0.0, 0.0, 2.0]) / total)
    assert table[:, 3] == pytest.approx(np.array([1.0, math.e, 9.0, 2.0 - math.e]) / total)
    low, high = last.images[0].get_clim()
    assert low == -high == pytest.approx(-9 / total)
    assert labels(last)[0] == ["x", "y", "z", "output"]
    assert "√4" in second.get_title(loc="left")
    assert "“q”" in first.get_title(loc="left")


def test_a_key_that_may_not_be_looked_at_has_no_weight() -> None:
    figure = figures.one_query(np.array([1.0, -np.inf]), np.eye(2), ["x", "y"], "q")
    assert [bar.get_height() for bar in figure.axes[2].patches] == [1.0, 0.0]
    assert figure.axes[0].texts[1].get_text() == "may not look"


def test_a_changed_memory_shows_each_probability() -> None:
    probabilities = np.array([[0.99, 0.5], [0.25, 0.0]])
    (axes,) = maps_of(figures.memory_changed(probabilities, ["intact", "zeros"], ["der", "Hund"]))
    assert_shows(axes, probabilities, ["intact", "zeros"], ["der", "Hund"])
    assert [text.get_text() for text in axes.texts] == ["0.99", "0.50", "0.25", "0.00"]


def test_the_same_numbers_give_the_same_bytes() -> None:
    def drawn() -> str:
        return svg(figures.one_query(weights(5), weights(5, 3), SOURCE, "dog"))

    assert drawn() == drawn()
