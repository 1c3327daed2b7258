"""Figures of schedules and updates: what is drawn is what was given."""

from __future__ import annotations

import numpy as np

from glassrun.look.figures.schedules import Trained, schedules, update_sizes

STEPS = np.arange(1.0, 8.0)
COLUMNS = {
    title: {
        name: Trained(factor * STEPS, 1 / STEPS, factor / STEPS, np.sqrt(factor / STEPS))
        for name, factor in (("warmup", 1.0), ("no warmup", 2.0))
    }
    for title in ("small batch", "large batch")
}


def test_loss_and_rate_stand_above_each_other_and_columns_share_their_scales() -> None:
    figure = schedules(COLUMNS)
    loss, other, rate, _ = figure.axes
    assert [axes.get_title() for axes in (loss, other)] == ["small batch", "large batch"]
    assert [line.get_label() for line in loss.lines] == ["warmup", "no warmup"]
    assert loss.lines[0].get_ydata().tolist() == (1 / STEPS).tolist()
    assert rate.lines[1].get_ydata().tolist() == (2 * STEPS).tolist()
    assert rate.lines[1].get_xdata()[0] == 1
    assert loss.get_ylim() == other.get_ylim()


def test_updates_end_with_the_step_that_was_asked_for() -> None:
    length, _, share, _ = update_sizes(COLUMNS, 4).axes
    assert length.lines[1].get_ydata().tolist() == (2 / STEPS[:4]).tolist()
    assert share.lines[0].get_ydata().tolist() == np.sqrt(1 / STEPS[:4]).tolist()
    assert list(share.lines[0].get_xdata()) == [1, 2, 3, 4]
    assert share.get_ylim()[0] == 0
