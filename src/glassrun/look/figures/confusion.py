"""Which class is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glassrun.look.figures.style import INK, WEIGHTS, label_ticks, styled, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def confusion(counts: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """How often each class (row) was taken for each (column): Int64[classes, classes]; shaded by the row's share."""
    size = min(1.8 + 0.36 * len(classes), 9.0)
    figure, axes = subplots(1, 1, size=(size, size))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap=WEIGHTS, vmin=0.0, vmax=1.0)
    if len(classes) <= 20:
        for row, column in np.argwhere(counts > 0).tolist():
            color = "white" if shares[row, column] > 0.6 else INK
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=8)
    if len(classes) <= 40:
        label_ticks(axes, rows=classes, columns=classes, turn=max(map(len, classes)) > 2)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return figure
