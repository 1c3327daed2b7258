"""The input shifts, the map shifts along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassrun.look.figures.style import INK, LIGHT, SIGNED, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def equivariance(
    inputs: tuple[NDArray[Any], NDArray[Any]],
    maps: tuple[NDArray[Any], NDArray[Any]],
    difference: NDArray[Any],
    inside: NDArray[Any],
    *,
    error: float,
    shift: tuple[int, int],
) -> Figure:
    """An input and the same input shifted, their maps, and the second map less the first one shifted along.

    Both inputs share one scale, maps and difference another. The border, which is left out of the error, is hatched.

    Arguments:
        inputs: Float[height, width] each, from 0 to 1.
        maps: Float[rows, columns] each.
        difference: Float[rows, columns].
        inside: Bool[rows, columns], true where the difference counts.
        error: the largest difference there, in units of the map's largest value.
        shift: of the input, in rows and columns.
    """
    height, width = inputs[0].shape
    cell = 7.0 / 3
    figure = new_figure((7.6, 2 * (cell * height / width + 0.3)))
    grid = figure.add_gridspec(2, 3)
    places = (grid[0, 0], grid[1, 0], grid[0, 1], grid[1, 1], grid[:, 2])
    titles = (
        "input",
        f"input, {shift[0]} down, {shift[1]} right",
        "map of the input",
        "map of the shifted input",
        f"difference of the maps\nlargest inside: {number(error)}",
    )
    reach = max(float(np.abs(values).max()) for values in maps) or 1.0
    for place, title, values in zip(places, titles, (*inputs, *maps, difference), strict=True):
        axes = figure.add_subplot(place)
        picture = title.startswith("input")
        low, high = (0.0, 1.0) if picture else (-reach, reach)
        shown = axes.imshow(values, cmap="gray" if picture else SIGNED, vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(title, color=INK, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    axes.contourf(~inside, levels=(0.5, 1.5), colors="none", hatches=("////",))
    axes.contour(inside, levels=(0.5,), colors=INK, linewidths=0.8)
    axes.set_xlabel("hatched: within reach of the border", fontsize=8, color=INK)
    axes.collections[0].set_edgecolor(LIGHT)
    bar = figure.colorbar(shown, ax=axes, location="bottom", fraction=0.05, pad=0.02)
    bar.set_label("value, the same scale for maps and difference", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    return figure


def number(error: float) -> str:
    """An error for people: 0 is said to be exact."""
    return "0, exactly" if error == 0 else f"{error:.1e}"
