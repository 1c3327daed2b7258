"""Figures of the same maps at several steps or of several runs, side by side on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassrun.look.figures.style import INK, SIGNED, WEIGHTS, WIDTH, plain, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_TICKS = 24  # of an axis, so that seven points are readable


@dataclass(frozen=True)
class Band:
    """Maps that belong together: one column of `attention`, one row of `pictures`.

    Arguments:
        title: for example "step 100".
        maps: Float[maps, height, width].
        signed: whether zero is the middle of their scale; signed bands have one of their own.
    """

    title: str
    maps: NDArray[Any]
    signed: bool = False


def attention(
    columns: Sequence[Band],
    *,
    rows: Sequence[str],
    queries: Sequence[str],
    keys: Sequence[str],
    query_title: str = "query",
    key_title: str = "key",
) -> Figure:
    """A row for each head, a column for each step or run: weights from 0 to 1, and differences on a scale of their own.

    Arguments:
        columns: each with one map for each of the rows.
        rows: names of the heads.
        queries, keys: the tokens as they are shown.
        query_title, key_title: what rows and columns of a map are.
    """
    width = WIDTH / (len(columns) + 0.5)
    height = width * min(max(len(queries) / len(keys), 0.35), 1.3)
    figure, grid = subplots(
        len(rows), len(columns), size=(WIDTH, len(rows) * (height + 0.12) + 0.75), squeeze=False, sharey=True
    )
    most = _largest([column.maps for column in columns if column.signed])
    drawn: dict[bool, Any] = {}
    for j, column in enumerate(columns):
        scale: dict[str, Any] = (
            {"cmap": SIGNED, "vmin": -most, "vmax": most} if column.signed else {"cmap": WEIGHTS, "vmin": 0, "vmax": 1}
        )
        for i, name in enumerate(rows):
            axes = grid[i, j]
            drawn[column.signed] = axes.imshow(column.maps[i], aspect="auto", **scale)
            _ticks(axes, queries, keys, bottom=i == len(rows) - 1)
            if i == 0:
                axes.set_title(plain(column.title), color=INK)
            if i == len(rows) - 1:
                axes.set_xlabel(key_title)
            if j == 0:
                axes.set_ylabel(f"{plain(name)}\n{query_title}")
    for signed, image in drawn.items():
        of = [grid[i, j] for i in range(len(rows)) for j, column in enumerate(columns) if column.signed == signed]
        label = "difference" if signed else "attention weight"
        figure.colorbar(image, ax=of, label=label, fraction=0.05, pad=0.02, location="right")
    return figure


def pictures(rows: Sequence[Band], *, columns: Sequence[str], value: str, rest: str = "difference") -> Figure:
    """A row for each step or run, a column for each filter: all rows on one scale, differences on their own.

    Arguments:
        rows: each with at most as many maps as there are columns.
        columns: names of the filters.
        value: what the brightness is.
        rest: what the signed rows show, if there are others.
    """
    side = WIDTH / (len(columns) + 1.6)
    ratio = max(band.maps.shape[1] / band.maps.shape[2] for band in rows)
    figure, grid = subplots(
        len(rows), len(columns), size=(WIDTH, max(len(rows) * (side * ratio + 0.06) + 0.3, 1.2)), squeeze=False
    )
    unsigned = [band.maps for band in rows if not band.signed]
    low, high = (min(map(np.min, unsigned)), max(map(np.max, unsigned))) if unsigned else (0.0, 1.0)
    most = _largest([band.maps for band in rows if band.signed])
    drawn: dict[bool, Any] = {}
    for line, band in zip(grid, rows, strict=True):
        scale = (
            {"cmap": SIGNED, "vmin": -most, "vmax": most}
            if band.signed
            else {"cmap": "gray", "vmin": low, "vmax": high}
        )
        for axes, picture in zip(line, band.maps, strict=False):
            drawn[band.signed] = axes.imshow(picture, interpolation="nearest", **scale)
        for axes in line:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        line[0].set_ylabel(plain(band.title), rotation=0, ha="right", va="center")
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title(plain(name), fontsize=7, color=INK)
    for signed, image in drawn.items():
        of = [axes for line, band in zip(grid, rows, strict=True) if band.signed == signed for axes in line]
        label = value if not signed or len(drawn) == 1 else rest
        figure.colorbar(image, ax=of, label=label, fraction=0.03, pad=0.01)
    return figure


def _ticks(axes: Axes, queries: Sequence[str], keys: Sequence[str], *, bottom: bool) -> None:
    """Every label, or as many evenly as can be read."""
    turn = 90 if max(map(len, keys)) > 2 else 0
    for axis, labels, rotation in ((axes.xaxis, keys, turn), (axes.yaxis, queries, 0)):
        every = -(-len(labels) // _MOST_TICKS)
        axis.set_ticks(range(0, len(labels), every), [plain(label) for label in labels[::every]])
        axis.set_tick_params(labelsize=7, labelrotation=rotation, length=0, pad=2)
    axes.tick_params(labelbottom=bottom)
    axes.spines[:].set_visible(False)


def _largest(maps: Sequence[NDArray[Any]]) -> float:
    """The end of a signed scale; of nothing but zeros, a small one."""
    return max((float(np.abs(found).max()) for found in maps), default=0.0) or 1e-6
