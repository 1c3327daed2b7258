"""The input shifts, the map shifts along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from glassrun.look.figures.feature_maps import scale_end
from glassrun.look.figures.style import INK, LIGHT, SIGNED, WIDTH, styled, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled
def equivariance(
    inputs: tuple[NDArray[Any], NDArray[Any]],
    maps: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    inside: NDArray[Any],
    *,
    error: float,
    shift: tuple[int, int],
) -> Figure:
    """Above: an input, its map, and the map moved. Below: the input moved, its map, and the difference of the two maps.

    Both inputs share one scale, all maps and the difference another. The border, which is left out of the error, is
    hatched.

    Arguments:
        inputs: Float[height, width] each, from 0 to 1: as it is, and moved.
        maps: Float[rows, columns] each: of the input; that map moved along; of the moved input.
        inside: Bool[rows, columns], true where the difference counts.
        error: the largest difference there, in units of the map's largest value.
        shift: of the input, in rows and columns.
    """
    height, width = inputs[0].shape
    figure, grid = subplots(2, 3, size=(WIDTH, 2 * (2.2 * height / width + 0.3)))
    by = f"{shift[0]} down, {shift[1]} right"
    of_input, moved, of_moved = maps
    reach = scale_end([of_input, of_moved])
    panels = (
        ("input", inputs[0]),
        ("map of the input", of_input),
        ("this map, moved as far", moved),
        (f"input moved {by}", inputs[1]),
        ("map of the moved input", of_moved),
        (f"difference: at most {number(error)} inside", of_moved - moved),
    )
    for place, (axes, (title, values)) in enumerate(zip(grid.flat, panels, strict=True)):
        low, high, color_map = (0.0, 1.0, "gray") if place % 3 == 0 else (-reach, reach, SIGNED)
        shown = axes.imshow(values, cmap=color_map, vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(title, color=INK, fontsize=8)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    _border(grid[1, 2], inside)
    bar = figure.colorbar(shown, ax=list(grid.flat), fraction=0.03, pad=0.01, extend="both")
    bar.set_label("value of maps and difference", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def _border(axes: Axes, inside: NDArray[Any]) -> None:
    """Hatch what lies within reach of the border."""
    if inside.all():
        return
    hatched = axes.contourf(~inside, levels=(0.5, 1.5), colors="none", hatches=("////",))
    hatched.set_edgecolor(LIGHT)
    hatched.set_linewidth(0.0)
    axes.contour(inside, levels=(0.5,), colors=INK, linewidths=0.8)


def number(error: float) -> str:
    """An error in two digits."""
    return f"{error:.2g}"
