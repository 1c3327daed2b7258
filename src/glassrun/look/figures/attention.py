"""Figures of attention: weights as maps, and the arithmetic that one row of a map comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassrun.look.figures.style import (
    ACCENT,
    INK,
    LIGHT,
    SIGNED,
    WARM,
    WEIGHTS,
    WIDTH,
    label_ticks,
    plain,
    styled,
    subplots,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]

_SMALL = 8  # points
_LETTER = 0.065  # inches that a letter of a label is wide
_MOST_NUMBERS = 16  # columns whose numbers can be read


@styled
def attention(weights: Array, queries: Sequence[str], keys: Sequence[str], query_title: str, key_title: str) -> Figure:
    """Every head's weights side by side: Float[heads, query, key], each from 0 to 1, on one scale.

    Arguments:
        weights: of each head; every row sums to one.
        queries, keys: the tokens as they are shown.
        query_title, key_title: what rows and columns are.
    """
    heads = len(weights)
    columns = min(heads, 2 if len(keys) > 16 else 4)
    lines = -(-heads // columns)
    width = WIDTH / columns
    height = width * min(max(len(queries) / len(keys), 0.35), 1.3) + 0.55 + _label_height(keys, width)
    figure, grid = subplots(lines, columns, size=(WIDTH, lines * height), squeeze=False)
    for number, axes in enumerate(grid.flat):
        if number >= heads:
            axes.axis("off")
            continue
        shown = _map(axes, weights[number], queries, keys, f"head {number + 1}", width=width)
        if number % columns == 0:
            axes.set_ylabel(query_title, fontsize=_SMALL)
        if number // columns == lines - 1 or number + columns >= heads:
            axes.set_xlabel(key_title, fontsize=_SMALL)
    _scale(figure, shown, list(grid.flat), "attention weight")
    return figure


@styled
def one_head_beside_four(
    one: Array,
    heads: Array,
    queries: Sequence[str],
    keys: Sequence[str],
    *,
    one_title: str,
    head_titles: Sequence[str],
    query_title: str = "query",
    key_title: str = "key",
) -> Figure:
    """One head large, and up to four others beside it, all on one scale from 0 to 1.

    Arguments:
        one: Float[query, key].
        heads: Float[heads, query, key], at most four.
        queries, keys: the tokens as they are shown.
        one_title, head_titles: what stands above the maps.
        query_title, key_title: what rows and columns are.
    """
    figure, grid = subplots(2, 4, size=(WIDTH, 3.5 + 1.4 * _label_height(keys, WIDTH / 4)))
    for axes in grid[:, :2].flat:
        axes.remove()
    large = figure.add_subplot(grid[0, 0].get_gridspec()[:, :2])
    shown = _map(large, one, queries, keys, one_title, width=WIDTH / 2)
    large.set_ylabel(query_title, fontsize=_SMALL)
    large.set_xlabel(key_title, fontsize=_SMALL)
    small = list(grid[:, 2:].flat)
    for axes in small:
        axes.axis("off")
    for axes, weights, title in zip(small, heads, head_titles, strict=False):
        axes.axis("on")
        _map(axes, weights, queries, keys, title, width=WIDTH / 4)
    _scale(figure, shown, [large, *small], "attention weight")
    return figure


@styled
def self_beside_cross(
    self_weights: Array,
    cross_weights: Array,
    source: Sequence[str],
    target: Sequence[str],
    *,
    self_title: str = "self-attention",
    cross_title: str = "cross-attention",
) -> Figure:
    """A head of the encoder's self-attention beside one of the decoder's attention to the encoder, on one scale.

    Arguments:
        self_weights: Float[source, source].
        cross_weights: Float[target, source].
        source, target: the tokens as they are shown.
        self_title, cross_title: what stands above the maps.
    """
    height = WIDTH / 2 * max(1.0, len(target) / len(source)) * 0.85 + 0.5 + _label_height(source, WIDTH / 2)
    figure, (left, right) = subplots(1, 2, size=(WIDTH, height))
    _map(left, self_weights, source, source, self_title, width=WIDTH / 2)
    shown = _map(right, cross_weights, target, source, cross_title, width=WIDTH / 2)
    for axes, query in ((left, "source token"), (right, "token being written")):
        axes.set_ylabel(f"query: {query}", fontsize=_SMALL)
        axes.set_xlabel("key: source token", fontsize=_SMALL)
    _scale(figure, shown, [left, right], "attention weight")
    return figure


@styled
def one_query(scores: Array, values: Array, keys: Sequence[str], query: str) -> Figure:
    """What one query takes from each token, with the arithmetic: score, scale, softmax, weighted sum.

    Softmax and sum are computed here from the scores and the values; each token is a column of all four panels.

    Arguments:
        scores: Float[key], the products q · k before they are scaled; −∞ where the query may not look.
        values: Float[key, d_k].
        keys: the tokens as they are shown.
        query: the token that looks, as it is shown.
    """
    scaled = scores / math.sqrt(values.shape[1])
    weights = np.exp(scaled - scaled.max())
    weights = weights / weights.sum()
    figure, panels = subplots(4, 1, size=(WIDTH, 6.4), sharex=True, height_ratios=(1, 1, 1, 1.7))
    numbered = len(keys) <= _MOST_NUMBERS
    steps = (
        (scores, LIGHT, f"1. score: q · k, where q is the query of {query}", "q · k"),
        (scaled, ACCENT, f"2. scale: divided by √dₖ = √{values.shape[1]}", "q · k / √dₖ"),
        (weights, WARM, "3. softmax: e to this power, divided by the sum of all of these", "weight"),
    )
    for axes, (heights, color, title, unit) in zip(panels, steps, strict=False):
        _bars(axes, heights, color, title, unit, numbered=numbered)
    panels[2].set_ylim(0.0, 1.25)
    panels[2].text(len(keys), 0.0, f"sum {weights.sum():.2f}", ha="center", va="bottom", fontsize=_SMALL, color=INK)
    parts = weights[:, None] * values
    table = np.concatenate([parts, parts.sum(0, keepdims=True)]).T
    reach = float(np.abs(table).max()) or 1.0
    last = panels[3]
    shown = last.imshow(table, cmap=SIGNED, vmin=-reach, vmax=reach, aspect="auto", interpolation="nearest")
    last.axvline(len(keys) - 0.5, color=INK, linewidth=1.5)
    last.set_title(
        "4. weighted sum: weight × value of each token; the last column is their sum", loc="left", color=INK, fontsize=9
    )
    last.set_ylabel("feature of the head", fontsize=_SMALL)
    last.yaxis.get_major_locator().set_params(integer=True)
    labels = [*map(plain, keys), "output"]  # not by label_ticks: the rows are numbers
    last.set_xticks(range(len(labels)), labels, rotation=90 if _turned(labels, WIDTH) else 0, fontsize=_SMALL)
    last.tick_params(length=0, pad=3, labelsize=_SMALL)
    _scale(figure, shown, [last], "weight × value")
    return figure


@styled
def memory_changed(probabilities: Array, memories: Sequence[str], tokens: Sequence[str]) -> Figure:
    """How probable each token of a translation is to the decoder with other memories than its own.

    Arguments:
        probabilities: Float[memory, token], from 0 to 1, of each token after the right ones before it.
        memories: what each row's memory is.
        tokens: of the translation.
    """
    width = WIDTH - 1.2 - 0.06 * max(map(len, memories))
    figure, axes = subplots(1, 1, size=(WIDTH, 0.9 + 0.4 * len(memories) + _label_height(tokens, width)))
    shown = axes.imshow(probabilities, cmap=WEIGHTS, vmin=0.0, vmax=1.0, aspect="auto")
    if len(tokens) <= _MOST_NUMBERS:
        for row, column in np.ndindex(*probabilities.shape):
            value = probabilities[row, column]
            color = "white" if value > 0.6 else INK
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=_SMALL, color=color)
    label_ticks(axes, rows=memories, columns=tokens, turn=_turned(tokens, width))
    axes.set_xlabel("token of the translation", fontsize=_SMALL)
    axes.set_ylabel("memory", fontsize=_SMALL)
    _scale(figure, shown, [axes], "probability")
    return figure


def _map(axes: Axes, weights: Array, queries: Sequence[str], keys: Sequence[str], title: str, *, width: float) -> Any:
    """Weights as a map, with the tokens on its axes; it is about `width` inches wide."""
    shown = axes.imshow(weights, cmap=WEIGHTS, vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
    axes.set_title(title, color=INK, fontsize=9)
    label_ticks(axes, rows=queries, columns=keys, turn=_turned(keys, width))
    return shown


def _scale(figure: Figure, shown: Any, axes: Sequence[Axes], title: str) -> None:
    """The scale of the colours beside what is drawn with them."""
    bar = figure.colorbar(shown, ax=axes, fraction=0.025, pad=0.01)
    bar.set_label(title, fontsize=_SMALL)
    bar.ax.tick_params(labelsize=_SMALL)


def _bars(axes: Axes, heights: Array, color: str, title: str, unit: str, *, numbered: bool) -> None:
    """A bar for each token, and its number beside its end."""
    finite = np.where(np.isfinite(heights), heights, 0.0)
    axes.bar(range(len(heights)), finite, color=color, width=0.7)
    axes.axhline(0.0, color=INK, linewidth=0.8)
    axes.margins(y=0.3)
    axes.set_title(title, loc="left", color=INK, fontsize=9)
    axes.set_ylabel(unit, fontsize=_SMALL)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(bottom=False, labelbottom=False, labelsize=_SMALL)
    if numbered:
        for place, height in enumerate(heights.tolist()):
            text = f"{height:.2f}" if math.isfinite(height) else "may not look"
            axes.annotate(
                text,
                (place, finite[place]),
                (0, 2 if finite[place] >= 0 else -2),
                textcoords="offset points",
                ha="center",
                va="bottom" if finite[place] >= 0 else "top",
                fontsize=_SMALL,
                color=INK,
            )


def _turned(labels: Sequence[str], width: float) -> bool:
    """Whether labels under so many inches stand upright, for side by side they would lie on each other."""
    return _LETTER * max(map(len, labels)) > 0.8 * width / len(labels)


def _label_height(labels: Sequence[str], width: float) -> float:
    """Inches that upright labels need."""
    return _LETTER * max(map(len, labels)) if _turned(labels, width) else 0.0
