"""The figure of which class is taken for which."""

import numpy as np
import pytest

from glassrun.look.figures.confusion import confusion
from glassrun.look.figures.style import svg


def test_cells_are_shaded_by_the_share_of_their_row_and_hold_the_counts():
    counts = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 8]])
    axes = confusion(counts, ["a", "b", "c"]).axes[0]
    expected = [[0.75, 0.25, 0], [0, 0, 0], [0.2, 0, 0.8]]
    np.testing.assert_allclose(axes.get_images()[0].get_array(), expected)
    found = {tuple(map(int, text.get_position()[::-1])): text.get_text() for text in axes.texts}
    assert found == {(0, 0): "3", (0, 1): "1", (2, 0): "2", (2, 2): "8"}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert axes.get_xlabel() == "predicted class"
    assert axes.get_ylabel() == "true class"


@pytest.mark.parametrize("classes", [1, 21, 60])
def test_any_number_of_classes(classes):
    figure = confusion(np.eye(classes, dtype=np.int64), [f"class {n}" for n in range(classes)])
    assert svg(figure).startswith("<svg")
    assert bool(figure.axes[0].texts) == (classes <= 20)
