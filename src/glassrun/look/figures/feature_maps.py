"""Figures of images and what filters make of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from glassrun.look.figures.style import INK, SIGNED, WIDTH, plain, styled, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3  # of photographs beside each other
_SMALL = 64  # pixels: such pictures stand in more columns
_SMALL_COLUMNS = 6
_FILLED = 0.92  # of a small picture's place, the rest is the gap to the next
_SHOWN_SHARE = 0.995  # of the values, inside the scale


@styled
def images(rows: Sequence[tuple[str, NDArray[Any]]], *, signed: bool = False) -> Figure:
    """Rows of small pictures: a title for each row, and its pictures, Float[pictures, height, width].

    All pictures of a row share one scale, from the row's smallest to its largest value.

    Arguments:
        rows: at least one.
        signed: whether zero is the middle of every row's scale but the first's, which holds the input; then each has a
            colour bar.
    """
    columns = max(len(pictures) for _, pictures in rows)
    heights = [pictures.shape[1] / pictures.shape[2] for _, pictures in rows]  # in widths
    inches = [WIDTH / columns * height + 0.28 for height in heights]
    figure, grid = subplots(len(rows), 1, size=(WIDTH, sum(inches)), squeeze=False, height_ratios=inches)
    for number, ((title, pictures), height, axes) in enumerate(zip(rows, heights, grid[:, 0], strict=True)):
        with_zero = signed and number > 0
        reach = _reach([pictures])
        low, high = (-reach, reach) if with_zero else (float(pictures.min()), float(pictures.max()))
        drawn = {"cmap": SIGNED if with_zero else "gray", "vmin": low, "vmax": high, "interpolation": "nearest"}
        for place, picture in enumerate(pictures):
            shown = axes.imshow(picture, extent=(place, place + _FILLED, 0, height * _FILLED), **drawn)
        axes.set(xlim=(0, columns), ylim=(0, height * _FILLED), aspect="equal")
        axes.axis("off")
        axes.set_title(plain(title), loc="left", color=INK, fontsize=9)
        if with_zero:
            _bar(figure, shown, [axes])
    return figure


@dataclass(frozen=True)
class FilterMap:
    """What one filter makes of a picture.

    Arguments:
        title: the filter's name.
        values: Float[height, width].
        kernel: Float[rows, columns], shown in a corner; None for none.
        signed: whether zero is the middle of the scale, which all such maps of a figure share; else it is grey, from 0
            to 1, as a picture is.
    """

    title: str
    values: NDArray[Any]
    kernel: NDArray[Any] | None = None
    signed: bool = True


@styled
def maps_beside_input(picture: NDArray[Any], maps: Sequence[FilterMap], *, title: str = "input") -> Figure:
    """A picture and the maps of filters on it, signed ones on one scale; a ring marks where each is farthest from 0.

    The scale ends where one in 200 values is beyond it: edges are thin, and would be pale beside a few peaks.

    Arguments:
        picture: Float[height, width] from 0 to 1, or Float[height, width, 3].
        maps: at least one.
        title: of the picture.
    """
    height, width = picture.shape[:2]
    columns = min(_SMALL_COLUMNS if max(height, width) <= _SMALL else _COLUMNS, len(maps) + 1)
    lines = -(-(len(maps) + 1) // columns)
    size = (7.6, lines * (6.7 / columns * height / width + 0.32))
    figure, grid = subplots(lines, columns, size=size, squeeze=False)
    first, *others = grid.flat
    for axes in grid.flat:
        axes.axis("off")
    first.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0)
    first.set_title(title, color=INK, fontsize=9)
    reach = scale_end([found.values for found in maps if found.signed])
    scale = None
    for found, axes in zip(maps, others, strict=False):
        low, color_map = (-reach, SIGNED) if found.signed else (0.0, "gray")
        shown = axes.imshow(found.values, cmap=color_map, vmin=low, vmax=reach if found.signed else 1.0)
        axes.set_title(plain(found.title), color=INK, fontsize=9)
        row, column = peak(found.values)
        if found.kernel is not None:
            height, width = found.values.shape
            _kernel(axes, found.kernel, left=found.signed and row > height / 2 and column > width / 2)
        if found.signed:
            scale = shown
            ring = {"markerfacecolor": "none", "markeredgecolor": INK, "markeredgewidth": 1.2, "clip_on": False}
            axes.plot(column, row, "o", markersize=9, **ring)
    if scale is not None:
        _bar(figure, scale, list(grid.flat), extend="both")
    return figure


@styled
def slices(
    volume: NDArray[Any], maps: NDArray[Any], places: Sequence[int], *, names: tuple[str, str] = ("volume", "map")
) -> Figure:
    """Slices of a volume above those of a filter's map at the same places: each row on one scale.

    Arguments:
        volume: Float[depth, height, width].
        maps: Float[depth, height, width], what a filter makes of it; zero is the middle of the scale.
        places: along the depth, the slices that are shown.
        names: of both.
    """
    rows, columns = volume.shape[1:]
    each = 6.6 / len(places)
    figure, grid = subplots(2, len(places), size=(7.6, 2 * (each * rows / columns + 0.3)), squeeze=False)
    reach = _reach([maps])
    scales = ((volume, "gray", float(volume.min()), float(volume.max())), (maps, SIGNED, -reach, reach))
    for (values, color_map, low, high), line, name in zip(scales, grid, names, strict=True):
        for place, axes in zip(places, line, strict=True):
            shown = axes.imshow(values[place], cmap=color_map, vmin=low, vmax=high, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.set_title(f"slice {place}", color=INK, fontsize=8)
        line[0].set_ylabel(name, fontsize=9, color=INK)
        _bar(figure, shown, list(line))
    return figure


def peak(values: NDArray[Any]) -> tuple[int, int]:
    """Where a map is farthest from zero: (row, column)."""
    row, column = np.unravel_index(int(np.abs(values).argmax()), values.shape)
    return int(row), int(column)


def scale_end(maps: Sequence[NDArray[Any]]) -> float:
    """Where the scale of signed maps ends: one in 200 values is farther from zero."""
    values = np.concatenate([np.abs(values).ravel() for values in maps]) if maps else np.zeros(1)
    return float(np.quantile(values, _SHOWN_SHARE)) or _reach(maps)


def _reach(maps: Sequence[NDArray[Any]]) -> float:
    """The largest distance from zero; 1 where all is zero."""
    return max((float(np.abs(values).max()) for values in maps), default=0.0) or 1.0


def _kernel(axes: Axes, kernel: NDArray[Any], *, left: bool) -> None:
    """The kernel in a lower corner, on its own scale: red is above zero, blue below."""
    inset = axes.inset_axes((0.01 if left else 0.79, 0.02, 0.2, 0.28), anchor="SW" if left else "SE")
    reach = _reach([kernel])
    inset.imshow(kernel, cmap=SIGNED, vmin=-reach, vmax=reach, interpolation="nearest")
    inset.set_xticks([])
    inset.set_yticks([])
    for spine in inset.spines.values():
        spine.set(visible=True, color=INK, linewidth=0.8)


def _bar(figure: Any, shown: Any, axes: Sequence[Axes], extend: Literal["neither", "both"] = "neither") -> None:
    bar = figure.colorbar(shown, ax=axes, fraction=0.03, pad=0.01, extend=extend)
    bar.set_label("value", fontsize=8)
    bar.ax.tick_params(labelsize=7)
