"""The figure of layers that share parameters against layers that do not."""

import numpy as np
import pytest

from glassrun.look.figures.sharing import sharing
from glassrun.look.figures.style import svg

SIZES = (100, 300, 1000)
PARAMETERS = {"convolution": 664, "locally connected": 42496, "fully connected": 295936}


def accuracies():
    random = np.random.default_rng(1)
    return {test: {kind: 0.7 + 0.3 * random.random((2, 3)) for kind in PARAMETERS} for test in ("plain", "moved")}


def test_lines_go_through_the_means_and_every_seed_has_a_mark():
    values = accuracies()
    figure = sharing(SIZES, values, PARAMETERS)
    *panels, _ = figure.axes
    assert [axes.get_title() for axes in panels] == ["plain", "moved"]
    for axes, by_kind in zip(panels, values.values(), strict=True):
        lines = {line.get_label(): line for line in axes.lines if line.get_label() in PARAMETERS}
        for kind, line in lines.items():
            np.testing.assert_allclose(line.get_ydata(), 100 * by_kind[kind].mean(0))
        marks = [line for line in axes.lines if line.get_label() not in PARAMETERS]
        assert len(lines) == 3
        assert len(marks) == 3 * 2
        # No mark lies outside the panel.
        low, high = axes.get_ylim()
        assert all(low <= y <= high for line in axes.lines for y in line.get_ydata())
    assert panels[0].get_ylim() == panels[1].get_ylim()
    assert svg(figure) == svg(sharing(SIZES, values, PARAMETERS))


def test_bars_are_the_parameters():
    bars = sharing(SIZES, accuracies(), PARAMETERS).axes[-1]
    assert [patch.get_width() for patch in bars.patches] == pytest.approx(list(PARAMETERS.values()))
    told = {text.get_text() for text in bars.texts}
    assert told == {*PARAMETERS, *(f"{count:,}" for count in PARAMETERS.values())}
