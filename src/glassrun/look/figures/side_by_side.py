"""Figures of the same maps at several steps or of several runs, side by side on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from glassrun.look.figures.style import INK, SIGNED, WEIGHTS, WIDTH, plain, styled, subplots

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
        scale: plain, of values from the smallest to the largest; signed, with zero in the middle; or that of
            differences, which have a signed one of their own.
    """

    title: str
    maps: NDArray[Any]
    scale: Literal["plain", "signed", "difference"] = "plain"


@styled
def attention(
    columns: Sequence[Band],
    *,
    rows: Sequence[str],
    queries: Sequence[str],
    keys: Sequence[str],
    query_title: str = "query",
    key_title: str = "key",
    title: str = "",
) -> Figure:
    """A row for each head, a column for each step or run: weights from 0 to 1, and differences on a scale of their own.

    Arguments:
        columns: each with one map for each of the rows.
        rows: names of the heads.
        queries, keys: the tokens as they are shown.
        query_title, key_title: what rows and columns of a map are.
        title: stands above all.
    """
    width = WIDTH / (len(columns) + 0.5)
    height = width * min(max(len(queries) / len(keys), 0.35), 1.3)
    figure, grid = subplots(
        len(rows),
        len(columns),
        size=(WIDTH, len(rows) * (height + 0.12) + (1.0 if title else 0.75)),
        squeeze=False,
        sharey=True,
    )
    scales: dict[str, Any] = {"plain": {"cmap": WEIGHTS, "vmin": 0, "vmax": 1}} | {
        "difference": _around_zero([column.maps for column in columns if column.scale == "difference"])
    }
    drawn: dict[str, Any] = {}
    for j, column in enumerate(columns):
        for i, name in enumerate(rows):
            axes = grid[i, j]
            drawn[column.scale] = axes.imshow(column.maps[i], aspect="auto", **scales[column.scale])
            _ticks(axes, queries, keys, bottom=i == len(rows) - 1)
            if i == 0:
                axes.set_title(plain(column.title), color=INK)
            if i == len(rows) - 1:
                axes.set_xlabel(key_title)
            if j == 0:
                axes.set_ylabel(f"{plain(name)}\n{query_title}")
    if title:
        figure.suptitle(plain(title), fontsize=9, color=INK)
    for scale, image in drawn.items():
        of = [grid[i, j] for i in range(len(rows)) for j, column in enumerate(columns) if column.scale == scale]
        label = "attention weight" if scale == "plain" else scale
        figure.colorbar(image, ax=of, label=label, fraction=0.05, pad=0.02, location="right")
    return figure


@styled
def pictures(rows: Sequence[Band], *, columns: Sequence[str], value: str) -> Figure:
    """A row for each step or run, a column for each filter: all rows on one scale, differences on their own.

    Arguments:
        rows: each with at most as many maps as there are columns.
        columns: names of the filters.
        value: what the brightness or the colour is.
    """
    height, width = rows[0].maps.shape[1:]
    gap = max(1, width // 8)
    each = 5.6 / len(columns) * max((height + gap) / (width + gap), 0.2)  # inches
    figure, grid = subplots(len(rows), 1, size=(WIDTH, max(len(rows) * each + 0.35, 1.1)), squeeze=False)
    maps = {scale: [band.maps for band in rows if band.scale == scale] for scale in ("plain", "signed", "difference")}
    low, high = (min(map(np.min, maps["plain"])), max(map(np.max, maps["plain"]))) if maps["plain"] else (0.0, 1.0)
    scales: dict[str, Any] = {scale: _around_zero(maps[scale]) for scale in ("signed", "difference")}
    scales["plain"] = {"cmap": "gray", "vmin": low, "vmax": high}
    drawn: dict[str, Any] = {}
    for axes, band in zip(grid[:, 0], rows, strict=True):
        strip = _strip(band.maps, len(columns), gap)
        drawn[band.scale] = axes.imshow(strip, interpolation="nearest", **scales[band.scale])
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_ylabel(plain(band.title), rotation=0, ha="right", va="center")
    centres = [(width - 1) / 2 + place * (width + gap) for place in range(len(columns))]
    grid[0, 0].set_xticks(centres, [plain(name) for name in columns], fontsize=7)
    grid[0, 0].tick_params(top=False, labeltop=True, bottom=False, labelbottom=False, pad=1)
    for scale, image in drawn.items():
        of = [axes for axes, band in zip(grid[:, 0], rows, strict=True) if band.scale == scale]
        bar = figure.colorbar(image, ax=of, fraction=0.03, pad=0.01)
        bar.set_label(scale if scale == "difference" else value, fontsize=7)
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


def _strip(maps: NDArray[Any], columns: int, gap: int) -> NDArray[Any]:
    """Float[maps, height, width] side by side with nothing between them: one image is drawn sooner than many."""
    count, height, width = maps.shape
    strip = np.full((height, columns * (width + gap) - gap), np.nan)
    for place in range(min(count, columns)):
        strip[:, place * (width + gap) : place * (width + gap) + width] = maps[place]
    return strip


def _around_zero(maps: Sequence[NDArray[Any]]) -> dict[str, Any]:
    """A scale with zero in its middle, as far as the largest value; of nothing but zeros, a small one."""
    most = max((float(np.abs(found).max()) for found in maps), default=0.0) or 1e-6
    return {"cmap": SIGNED, "vmin": -most, "vmax": most}
