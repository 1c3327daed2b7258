"""Figures of curves: what is drawn is what was given."""

from __future__ import annotations

import numpy as np

from glassrun.look.figures.curves import curves, first_difference, loss_curves
from glassrun.look.figures.style import svg

LOSS = np.array([3.0, 2.0, 1.5, 1.25])


def test_losses_of_equal_runs_have_a_difference_of_zero_at_every_step() -> None:
    moved = LOSS + np.array([0, 0, 0.25, -0.5])
    figure = loss_curves({"drawn": {"seed 5": LOSS, "seed 8": moved}, "seeded": {"A": LOSS, "B": LOSS.copy()}})
    above, beside, apart, together = figure.axes
    assert [line.get_ydata().tolist() for line in above.lines] == [LOSS.tolist(), moved.tolist()]
    assert [text.get_text() for text in beside.get_legend().get_texts()] == ["A", "B"]
    assert apart.lines[0].get_ydata().tolist() == [0, 0, 0.25, -0.5]
    assert together.lines[0].get_ydata().tolist() == [0, 0, 0, 0]
    assert apart.get_ylim() == together.get_ylim()
    assert [len(axes.texts) for axes in (apart, together)] == [0, 1]


def test_the_first_difference_is_marked_and_equal_losses_have_no_point_below_it() -> None:
    figure = first_difference(LOSS, LOSS + np.array([0, 0, 0, 0.125]), step=3, name="learning rate")
    _, below = figure.axes
    assert below.lines[0].get_xdata().tolist() == [4]
    assert below.lines[0].get_ydata().tolist() == [0.125]
    assert below.get_yscale() == "log"
    assert "step 3: learning rate differs" in [text.get_text() for text in below.texts]


def test_a_loss_that_falls_far_is_shown_by_its_logarithm() -> None:
    def scale(loss: list[float]) -> str:
        return str(curves([1, 2], loss, [0.1, 0.2], {}, 0).axes[0].get_yscale())

    assert (scale([3.0, 1.0]), scale([3.0, 0.1])) == ("linear", "log")


def test_the_same_numbers_give_the_same_bytes() -> None:
    runs = {"one": {"A": LOSS, "B": 2 * LOSS}}
    assert svg(loss_curves(runs)) == svg(loss_curves(runs))
