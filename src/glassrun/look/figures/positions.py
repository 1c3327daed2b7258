"""Figures of position encodings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassrun.look.figures.style import SIGNED, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def positions(table: NDArray[Any]) -> Figure:
    """The position encoding as it is added to the tokens: Float[positions, d_model]."""
    figure, axes = subplots(1, 1, size=(7.6, 3.4))
    reach = float(np.abs(table).max()) or 1.0
    shown = axes.imshow(table, cmap=SIGNED, vmin=-reach, vmax=reach, aspect="auto", interpolation="nearest")
    axes.set_xlabel("dimension")
    axes.set_ylabel("position")
    figure.colorbar(shown, ax=axes, fraction=0.03, pad=0.01, label="value added")
    return figure
