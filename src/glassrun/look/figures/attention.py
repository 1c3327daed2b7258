"""Figures of attention weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from glassrun.look.figures.style import INK, WEIGHTS, label_ticks, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def attention(
    weights: NDArray[Any], queries: Sequence[str], keys: Sequence[str], query_title: str, key_title: str
) -> Figure:
    """Every head's weights side by side: Float[heads, query, key], each from 0 to 1, on one scale.

    Arguments:
        weights: of each head; every row sums to one.
        queries, keys: the tokens as they are shown.
        query_title, key_title: what rows and columns are.
    """
    heads = len(weights)
    columns = min(heads, 2 if len(keys) > 16 else 4)
    lines = -(-heads // columns)
    width = 7.6 / columns
    height = width * min(max(len(queries) / len(keys), 0.35), 1.3) + 0.55
    figure, grid = subplots(lines, columns, size=(7.6, lines * height), squeeze=False)
    for number, axes in enumerate(grid.flat):
        if number >= heads:
            axes.axis("off")
            continue
        shown = axes.imshow(weights[number], cmap=WEIGHTS, vmin=0.0, vmax=1.0, aspect="auto")
        axes.set_title(f"head {number + 1}", color=INK)
        label_ticks(axes, rows=queries, columns=keys, turn=False)
        if number % columns == 0:
            axes.set_ylabel(query_title)
        if number // columns == lines - 1 or number + columns >= heads:
            axes.set_xlabel(key_title)
    figure.colorbar(shown, ax=list(grid.flat), fraction=0.025, pad=0.01, label="attention weight")
    return figure
