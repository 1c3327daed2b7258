"""The report's figures: numbers in, SVG out. Text stays text, so that every script is shown in the reader's fonts."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassrun.errors import MissingDependency

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "glassrun",  # the same numbers give the same text
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.0,
    "axes.grid": False,
}
_INK, _LIGHT, _ACCENT, _WARM = "#1b2a3a", "#9fb3c8", "#1f77b4", "#d1495b"
_WEIGHTS = "Blues"
_MOST_LABELS = 48  # of an axis; more would lie on each other
_SIGNED = "RdBu_r"


def curves(
    steps: Sequence[int],
    loss: Sequence[float],
    rate: Sequence[float],
    evaluations: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    warmup_steps: int,
) -> str:
    """Loss and learning rate by step, one above the other, with the end of the warmup marked.

    The loss is on a log scale if it falls by more than ten times.

    Arguments:
        steps: of the training loss and the learning rate.
        loss: of each step's batch.
        rate: learning rate of each step.
        evaluations: split name to its steps and losses.
        warmup_steps: where the warmup ends; 0 for none.
    """
    figure, (top, bottom) = _subplots(2, 1, size=(7.6, 4.6), sharex=True, height_ratios=(2, 1))
    top.plot(steps, loss, color=_LIGHT, linewidth=0.8, label="training, each batch")
    if len(loss) >= 50:
        window = max(len(loss) // 50, 5)
        smooth = np.convolve(np.asarray(loss), np.ones(window) / window, mode="valid")
        top.plot(steps[window - 1 :], smooth, color=_INK, linewidth=1.4, label=f"training, mean of {window} batches")
    for (name, (places, values)), color in zip(evaluations.items(), (_WARM, _ACCENT), strict=False):
        top.plot(places, values, "o-", color=color, markersize=4, linewidth=1.2, label=name)
    if min(loss) > 0 and max(loss) > 10 * min(loss):
        top.set_yscale("log")
    top.set_ylabel("loss")
    top.legend(frameon=False, fontsize=8)
    bottom.plot(steps, rate, color=_ACCENT, linewidth=1.4)
    bottom.set_ylim(bottom=0)
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("step")
    bottom.xaxis.get_major_locator().set_params(integer=True)
    bottom.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    if 0 < warmup_steps < steps[-1]:
        for axes in (top, bottom):
            axes.axvline(warmup_steps, color=_LIGHT, linestyle=":", linewidth=1)
        bottom.annotate(
            f"warmup ends, step {warmup_steps}", (warmup_steps, 0), (4, 4), textcoords="offset points", color=_INK
        )
    return _svg(figure)


def images(rows: Sequence[tuple[str, NDArray[Any]]]) -> str:
    """Rows of small pictures: a title for each row, and its pictures, Float[pictures, height, width].

    All pictures of a row share one scale, from the row's smallest to its largest value.
    """
    columns = max(len(pictures) for _, pictures in rows)
    figure = _figure((7.6, len(rows) * (7.6 / columns + 0.3)))
    for (title, pictures), band in zip(rows, figure.subfigures(len(rows), 1, squeeze=False).flat, strict=True):
        low, high = float(pictures.min()), float(pictures.max())
        line = band.subplots(1, columns, squeeze=False)[0]
        band.suptitle(title, x=0.01, ha="left", color=_INK, fontsize=9)
        for axes in line:
            axes.axis("off")
        for picture, axes in zip(pictures, line, strict=False):
            axes.imshow(picture, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    return _svg(figure)


def confusion(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """How often each class (row) was taken for each (column): Int64[classes, classes]; shaded by the row's share."""
    size = min(1.8 + 0.36 * len(classes), 9.0)
    figure, axes = _subplots(1, 1, size=(size, size))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap=_WEIGHTS, vmin=0.0, vmax=1.0)
    if len(classes) <= 20:
        for row, column in np.argwhere(counts > 0).tolist():
            color = "white" if shares[row, column] > 0.6 else _INK
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=8)
    if len(classes) <= 40:
        _ticks(axes, rows=classes, columns=classes, turn=max(map(len, classes)) > 2)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return _svg(figure)


def attention(
    weights: NDArray[Any], queries: Sequence[str], keys: Sequence[str], query_title: str, key_title: str
) -> str:
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
    figure, grid = _subplots(lines, columns, size=(7.6, lines * height), squeeze=False)
    for number, axes in enumerate(grid.flat):
        if number >= heads:
            axes.axis("off")
            continue
        shown = axes.imshow(weights[number], cmap=_WEIGHTS, vmin=0.0, vmax=1.0, aspect="auto")
        axes.set_title(f"head {number + 1}", color=_INK)
        _ticks(axes, rows=queries, columns=keys, turn=False)
        if number % columns == 0:
            axes.set_ylabel(query_title)
        if number // columns == lines - 1 or number + columns >= heads:
            axes.set_xlabel(key_title)
    figure.colorbar(shown, ax=list(grid.flat), fraction=0.025, pad=0.01, label="attention weight")
    return _svg(figure)


def positions(table: NDArray[Any]) -> str:
    """The position encoding as it is added to the tokens: Float[positions, d_model]."""
    figure, axes = _subplots(1, 1, size=(7.6, 3.4))
    reach = float(np.abs(table).max()) or 1.0
    shown = axes.imshow(table, cmap=_SIGNED, vmin=-reach, vmax=reach, aspect="auto", interpolation="nearest")
    axes.set_xlabel("dimension")
    axes.set_ylabel("position")
    figure.colorbar(shown, ax=axes, fraction=0.03, pad=0.01, label="value added")
    return _svg(figure)


def _ticks(axes: Axes, *, rows: Sequence[str], columns: Sequence[str], turn: bool) -> None:
    if max(len(rows), len(columns)) > _MOST_LABELS:
        return
    size = 7 if max(len(rows), len(columns)) <= 32 else 5
    # A dollar sign would begin a formula.
    axes.set_xticks(range(len(columns)), [_plain(c) for c in columns], rotation=90 if turn else 0, fontsize=size)
    axes.set_yticks(range(len(rows)), [_plain(row) for row in rows], fontsize=size)
    axes.tick_params(length=0, pad=2)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _plain(text: str) -> str:
    return text.replace("$", r"\$")


def _subplots(rows: int, columns: int, *, size: tuple[float, float], **options: Any) -> tuple[Figure, Any]:
    figure = _figure(size)
    from matplotlib import rc_context

    with rc_context(_STYLE):
        return figure, figure.subplots(rows, columns, **options)


def _figure(size: tuple[float, float]) -> Figure:
    """A figure of its own, without pyplot's global state; its size is in inches."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependency("matplotlib", "the report", extra="figures") from None
    with rc_context(_STYLE):
        return Figure(figsize=size, layout="constrained")


def _svg(figure: Figure) -> str:
    """The figure as SVG text, from its opening tag on."""
    from matplotlib import rc_context

    stream = io.StringIO()
    with rc_context(_STYLE), warnings.catch_warnings():
        # Of letters that Matplotlib's own font lacks: the reader's browser draws them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
