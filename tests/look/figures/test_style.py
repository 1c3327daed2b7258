"""The sizes of a figure's texts: this package's, not Matplotlib's own, and large enough to be read."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text

from glassrun.look.figures.attention import attention
from glassrun.look.figures.curves import first_difference, loss_curves


def test_texts_made_after_the_axes_take_the_style_too() -> None:
    losses = np.arange(1.0, 9.0)
    title, note = loss_curves({"one seed": {"A": losses, "B": losses}}).axes[0].title, "step 4: loss differs"
    assert title.get_fontsize() == 9
    figure = first_difference(losses, losses + (losses > 3), 4, "loss")
    assert [t.get_fontsize() for t in figure.findobj(Text) if t.get_text() == note] == [9]
    assert matplotlib.rcParams["font.size"] == matplotlib.rcParamsDefault["font.size"]  # the caller's is as it was


@pytest.mark.parametrize(("count", "every"), [(32, 1), (33, 2), (48, 2)])
def test_labels_are_never_smaller_than_seven_points(count: int, every: int) -> None:
    tokens = [f"t{number}" for number in range(count)]
    axes = attention(np.full((2, count, count), 1 / count), tokens, tokens, "query", "key").axes[0]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == tokens[::every]
        assert {label.get_fontsize() for label in labels} == {7}
