"""Layers that share their parameters against layers that do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from glassrun.look.figures.style import INK, LINES, styled, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKS = ("o", "s", "^", "D", "v", "P")


@styled
def sharing(
    sizes: Sequence[int], accuracies: Mapping[str, Mapping[str, NDArray[Any]]], parameters: Mapping[str, int]
) -> Figure:
    """Accuracy by the number of training images, a panel for each test, and the parameters as bars.

    Arguments:
        sizes: how many images were trained on.
        accuracies: by test and layer, Float[seeds, sizes], from 0 to 1: a line through the means, a mark for each seed.
        parameters: of each layer, in the order of the colours.
    """
    panels = len(accuracies)
    figure, grid = subplots(1, panels + 1, size=(7.6, 2.9), width_ratios=[*(1.0,) * panels, 0.9])
    low = min(float(values.min()) for test in accuracies.values() for values in test.values())
    styles = {name: (LINES[i], _MARKS[i]) for i, name in enumerate(parameters)}
    for axes, (test, by_layer) in zip(grid, accuracies.items(), strict=False):
        for name, values in by_layer.items():
            color, mark = styles[name]
            axes.plot(sizes, 100 * values.mean(0), color=color, linewidth=1.4, label=name)
            for seed in values:
                axes.plot(sizes, 100 * seed, mark, color=color, markersize=4, markerfacecolor="none", alpha=0.8)
        axes.set_xscale("log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set_ylim(max(100 * low - 3, 0), 100.5)
        axes.set_xlabel("training images", fontsize=9)
        axes.set_title(test, color=INK, fontsize=9)
    grid[0].set_ylabel("accuracy, %", fontsize=9)
    grid[0].legend(frameon=False, fontsize=8, loc="lower right")
    _bars(grid[-1], parameters, [color for color, _ in styles.values()])
    return figure


def _bars(axes: Any, parameters: Mapping[str, int], colors: Sequence[str]) -> None:
    places = range(len(parameters))
    axes.barh(places, list(parameters.values()), color=colors, height=0.55)
    axes.set_xscale("log")
    axes.set_xlim(left=min(parameters.values()) / 8, right=max(parameters.values()) * 12)
    axes.set_yticks([])
    axes.minorticks_off()
    axes.set_ylim(len(parameters) - 0.5, -0.7)
    axes.set_xlabel("parameters of both layers", fontsize=9)
    axes.set_title("what is learned", color=INK, fontsize=9)
    for place, (name, count) in zip(places, parameters.items(), strict=True):
        axes.text(count * 1.2, place, f"{count:,}", va="center", fontsize=8, color=INK)
        axes.text(axes.get_xlim()[0], place - 0.42, name, va="center", fontsize=8, color=INK)
