"""Figures of position encodings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassrun.look.figures.style import ACCENT, INK, LIGHT, LINES, SIGNED, WIDTH, styled, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def positions(table: NDArray[Any]) -> Figure:
    """The position encoding as it is added to the tokens: Float[positions, d_model]."""
    figure, axes = subplots(1, 1, size=(WIDTH, 3.4))
    reach = float(np.abs(table).max()) or 1.0
    shown = axes.imshow(table, cmap=SIGNED, vmin=-reach, vmax=reach, aspect="auto", interpolation="nearest")
    axes.set_xlabel("dimension")
    axes.set_ylabel("position")
    figure.colorbar(shown, ax=axes, fraction=0.03, pad=0.01, label="value added")
    return figure


@dataclass(frozen=True)
class Encoding:
    """A position encoding as a dense map.

    Arguments:
        title: its name.
        values: Float[rows, columns].
        row_title, column_title, value_title: what rows, columns and values are.
    """

    title: str
    values: NDArray[Any]
    row_title: str
    column_title: str
    value_title: str


@styled
def encodings(shown: Sequence[Encoding]) -> Figure:
    """Position encodings side by side, each on a scale of its own: what they hold is of different sizes."""
    figure, grid = subplots(1, len(shown), size=(WIDTH, 3.2), squeeze=False)
    for encoding, axes in zip(shown, grid.flat, strict=True):
        reach = float(np.abs(encoding.values).max()) or 1.0
        drawn = axes.imshow(
            encoding.values, cmap=SIGNED, vmin=-reach, vmax=reach, aspect="auto", interpolation="nearest"
        )
        axes.set_title(encoding.title, color=INK)
        axes.set_xlabel(encoding.column_title)
        axes.set_ylabel(encoding.row_title)
        bar = figure.colorbar(drawn, ax=axes, location="bottom", fraction=0.06, pad=0.03, label=encoding.value_title)
        bar.set_ticks([-reach, 0.0, reach], labels=[f"{value:.2g}" for value in (-reach, 0.0, reach)])
    return figure


@styled
def dot_products(tables: Mapping[str, NDArray[Any]], starts: Sequence[int]) -> Figure:
    """PE(p) · PE(p + k) over k, one curve for each start p; where they lie on each other, only the difference counts.

    Arguments:
        tables: Float[positions, d_model] by name.
        starts: the positions p.
    """
    figure, grid = subplots(1, len(tables), size=(WIDTH, 2.8), squeeze=False)
    for (name, table), axes in zip(tables.items(), grid.flat, strict=True):
        for number, start in enumerate(starts):
            products = table @ table[start]
            axes.plot(
                np.arange(len(table)) - start,
                products,
                color=LINES[number % len(LINES)],
                linewidth=3.2 - 2.4 * number / max(len(starts) - 1, 1),
                label=f"p = {start}",
            )
        axes.set_title(name, color=INK)
        axes.set_xlabel("k, how far behind")
        axes.axvline(0, color=LIGHT, linestyle=":", linewidth=1)
    grid[0, 0].set_ylabel("PE(p) · PE(p + k)")
    grid[0, -1].legend(frameon=False, fontsize=8)
    return figure


@dataclass(frozen=True)
class ByDistance:
    """What attention adds to or makes of a score at each distance.

    Arguments:
        title: the encoding's name.
        distances: Int[distances], of the key from the query; negative before it.
        lines: Float[distances] by name, for example one for each head.
        value_title: what it is.
    """

    title: str
    distances: NDArray[Any]
    lines: Mapping[str, NDArray[Any]]
    value_title: str


@styled
def by_distance(shown: Sequence[ByDistance]) -> Figure:
    """Relative encodings side by side, as functions of the distance between query and key."""
    figure, grid = subplots(1, len(shown), size=(WIDTH, 2.8), squeeze=False)
    for encoding, axes in zip(shown, grid.flat, strict=True):
        several = len(encoding.lines) > 1
        for number, (name, values) in enumerate(encoding.lines.items()):
            color = LINES[number % len(LINES)] if several else ACCENT
            axes.plot(encoding.distances, values, color=color, linewidth=1.3, label=name)
        axes.axvline(0, color=LIGHT, linestyle=":", linewidth=1)
        axes.set_title(encoding.title, color=INK)
        axes.set_xlabel("key's place − query's place")
        axes.set_ylabel(encoding.value_title)
        if several and len(encoding.lines) <= len(LINES):
            axes.legend(frameon=False, fontsize=7.5)
    return figure
