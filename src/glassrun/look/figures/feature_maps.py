"""Figures of images and what filters make of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from glassrun.look.figures.style import INK, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def images(rows: Sequence[tuple[str, NDArray[Any]]]) -> Figure:
    """Rows of small pictures: a title for each row, and its pictures, Float[pictures, height, width].

    All pictures of a row share one scale, from the row's smallest to its largest value.
    """
    columns = max(len(pictures) for _, pictures in rows)
    figure = new_figure((7.6, len(rows) * (7.6 / columns + 0.3)))
    for (title, pictures), band in zip(rows, figure.subfigures(len(rows), 1, squeeze=False).flat, strict=True):
        low, high = float(pictures.min()), float(pictures.max())
        line = band.subplots(1, columns, squeeze=False)[0]
        band.suptitle(title, x=0.01, ha="left", color=INK, fontsize=9)
        for axes in line:
            axes.axis("off")
        for picture, axes in zip(pictures, line, strict=False):
            axes.imshow(picture, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    return figure
