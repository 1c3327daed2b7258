"""What studies measured: a mark for each seed, and a line through the means, or at each where the levels are names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

from glassrun.look.figures.style import INK, LINES, WIDTH, plain, styled, subplots
from glassrun.look.stored import Level, Measurement, Panel, select, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLES = ("-", "--", ":")  # the next one where the colours begin again
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
_MOST_IN_A_ROW = 3
_HEIGHT = 2.7  # inches of a row
_APART = 0.6  # of the place of a name, that its marks take
_LETTERS_IN_AN_INCH = 9  # of the labels below an axis, with space between them
_LETTERS_OF_LEGEND = 12  # in an inch
_LETTERS_OF_A_LINE = 7  # the place of a line in the legend, before its name
_HEIGHT_OF_LEGEND = 0.4  # inches, of its title and a row


@styled
def measured(measurements: Sequence[Measurement], panels: Sequence[Panel]) -> Figure:
    """The panels beside each other, three in a row (four in two rows), and below them what the colours stand for.

    Where a seed has no number, as the loss of a run that diverged, a cross stands at the upper edge.

    Arguments:
        measurements: of every seed and setting.
        panels: which of their values are drawn, and how.
    """
    columns = 2 if len(panels) == 4 else min(len(panels), _MOST_IN_A_ROW)
    rows = -(-len(panels) // columns)
    width = WIDTH if columns > 1 else WIDTH * 0.7
    below = _HEIGHT_OF_LEGEND if any(panel.by for panel in panels) else 0.0
    figure, grid = subplots(rows, columns, size=(width, _HEIGHT * rows + 0.2 + below), squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw(axes, panel, [found for found in measurements if _shown(found, panel)])
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    _explain(figure, list(zip(grid.flat, panels, strict=False)))
    return figure


def _shown(found: Measurement, panel: Panel) -> bool:
    factors = {panel.x, *([panel.by] if panel.by else [])}
    return panel.y in found.values and factors <= set(found.setting) and panel.where.items() <= found.setting.items()


def _draw(axes: Any, panel: Panel, shown: Sequence[Measurement]) -> None:
    levels = list(dict.fromkeys(found.setting[panel.x] for found in shown))
    numeric = all(not isinstance(level, str) for level in levels)
    levels = sorted(levels) if numeric else levels
    places: dict[Level, float] = {level: level if numeric else place for place, level in enumerate(levels)}  # type: ignore[misc]
    scale = 100.0 if panel.percent else 1.0
    missing: list[tuple[float, str]] = []
    series = list(dict.fromkeys(found.setting[panel.by] for found in shown)) if panel.by else [None]
    for number, name in enumerate(series):
        color, mark = LINES[number % len(LINES)], _MARKS[number % len(_MARKS)]
        own = {panel.by: name} if panel.by and name is not None else {}
        beside = 0.0 if numeric else _APART * (number - (len(series) - 1) / 2) / len(series)
        means: list[tuple[float, float]] = []
        for level in levels:
            values = select(shown, panel.y, own | {panel.x: level})
            numbers = [scale * value for value in values if value is not None]
            place = places[level] + beside
            axes.plot([place] * len(numbers), numbers, mark, color=color, markersize=4, markerfacecolor="none")
            if len(numbers) < len(values):
                missing.append((place, color))
            if (found := spread(values)) is not None:
                means.append((place, scale * found.mean))
        label = None if name is None else plain(f"{name:g}" if isinstance(name, float) else str(name))
        # A line would say that there is something between two names.
        style = _STYLES[number // len(LINES) % len(_STYLES)] if numeric else "_"
        x, y = [place for place, _ in means], [mean for _, mean in means]
        axes.plot(x, y, style, color=color, linewidth=1.4, markersize=14, markeredgewidth=1.4, label=label)
    _label(axes, panel, levels, numeric=numeric)
    for place, color in missing:
        axes.plot([place], [0.98], "x", color=color, transform=axes.get_xaxis_transform(), clip_on=False)


def _explain(figure: Figure, drawn: Sequence[tuple[Any, Panel]]) -> None:
    """One legend for all panels, which would hide lines inside of them; each its own where they differ."""
    by = [(axes, panel.by, axes.get_legend_handles_labels()) for axes, panel in drawn if panel.by]
    if not by:
        return
    look: dict[str, Any] = {"frameon": False, "fontsize": 8, "title_fontsize": 8}
    _, first, (lines, names) = by[0]
    if all(factor == first and found == names for _, factor, (_, found) in by):
        beside = int(figure.get_figwidth() * _LETTERS_OF_LEGEND / (max(map(len, names)) + _LETTERS_OF_A_LINE))
        columns = max(1, min(beside, len(names)))
        figure.legend(lines, names, title=plain(first), loc="outside lower center", ncols=columns, **look)
        return
    for axes, factor, (lines, names) in by:
        axes.legend(lines, names, title=plain(factor), **look)


def _label(axes: Any, panel: Panel, levels: Sequence[Level], *, numeric: bool) -> None:
    if numeric:
        if panel.log_x:
            axes.set_xscale("log")
        if len(levels) <= 8:
            axes.set_xticks(levels, _apart(levels, _width(axes), log=panel.log_x))
            axes.minorticks_off()
    else:
        long = max(len(str(level)) for level in levels) * len(levels) > _LETTERS_IN_AN_INCH * _width(axes)
        axes.set_xticks(range(len(levels)), [plain(str(level)) for level in levels], rotation=30 if long else 0)
        if long:
            for text in axes.get_xticklabels():
                text.set_horizontalalignment("right")
        axes.set_xlim(-0.5, len(levels) - 0.5)
    if panel.log_y:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        if high < 30 * low:
            from matplotlib.ticker import LogLocator, NullFormatter

            # There are few powers of ten, and what stands between them would be written as such.
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(plain(panel.x))
    # A label that is longer than its axis goes on beside itself.
    axes.set_ylabel(fill(plain(panel.y) + (", %" if panel.percent else ""), int(_LETTERS_IN_AN_INCH * _HEIGHT)))
    if panel.title:
        axes.set_title(plain(panel.title), color=INK)


def _apart(levels: Sequence[Any], width: float, *, log: bool) -> list[str]:
    """The labels of numbers along an axis of so many inches, empty where one would stand in the one after it."""
    ends = [math.log(level) if log else float(level) for level in (levels[0], levels[-1])]
    labels: list[str] = []
    place = math.inf  # where the label after this one begins, from the last one down
    for level in reversed(levels):
        along = (math.log(level) if log else float(level)) - ends[0]
        middle = width * along / ((ends[1] - ends[0]) or 1.0)
        half = len(f"{level:g}") / _LETTERS_IN_AN_INCH / 2
        free = middle + half <= place
        labels.append(f"{level:g}" if free else "")
        place = middle - half if free else place
    return labels[::-1]


def _width(axes: Any) -> float:
    """Inches, without the axis's own labels."""
    return float(axes.figure.get_size_inches()[0]) / int(axes.get_subplotspec().get_gridspec().ncols) - 0.7
