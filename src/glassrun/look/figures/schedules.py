"""Figures of learning-rate schedules, and of what an optimizer makes of a rate in its first steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from glassrun.look.figures.style import INK, LINES, WIDTH, styled, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Trained:
    """What a training did, by step: Float[steps] each.

    Arguments:
        learning_rate: of the step.
        loss: of its batch.
        length: of the update of all parameters together, ‖Δθ‖₂.
        share: the mean of |Δθ| over the parameters, divided by the peak rate.
    """

    learning_rate: NDArray[Any]
    loss: NDArray[Any]
    length: NDArray[Any]
    share: NDArray[Any]


@styled
def schedules(columns: Mapping[str, Mapping[str, Trained]]) -> Figure:
    """Loss and learning rate by step; the rows share their scales.

    Arguments:
        columns: a column's title to its trainings by name, for example with and without warmup.
    """
    figure, grid = subplots(
        2, len(columns), size=(WIDTH, 4.0), sharex="col", sharey="row", height_ratios=(2, 1), squeeze=False
    )
    for column, (title, trainings) in enumerate(columns.items()):
        for (name, trained), color in zip(trainings.items(), LINES, strict=False):
            for row, values in enumerate((trained.loss, trained.learning_rate)):
                grid[row, column].plot(_steps(values), values, color=color, linewidth=1.2, label=name)
        grid[0, column].set_title(title, color=INK)
        _step_axis(grid[1, column])
    grid[0, 0].set_ylabel("training loss")
    grid[1, 0].set_ylabel("learning rate")
    grid[1, 0].set_ylim(bottom=0)
    grid[1, 0].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    grid[0, 0].legend(frameon=False, fontsize=8)
    return figure


@styled
def update_sizes(columns: Mapping[str, Mapping[str, Trained]], steps: int) -> Figure:
    """How far the first updates move the parameters; the rows share their scales.

    Arguments:
        columns: as for `schedules`.
        steps: how many are shown.
    """
    figure, grid = subplots(2, len(columns), size=(WIDTH, 4.2), sharex="col", sharey="row", squeeze=False)
    for column, (title, trainings) in enumerate(columns.items()):
        for (name, trained), color in zip(trainings.items(), LINES, strict=False):
            for row, values in enumerate((trained.length[:steps], trained.share[:steps])):
                grid[row, column].plot(
                    _steps(values), values, ".-", color=color, markersize=3, linewidth=1.0, label=name
                )
        grid[0, column].set_title(title, color=INK)
        _step_axis(grid[1, column])
    grid[0, 0].set_ylabel("length of the update, ‖Δθ‖₂")
    grid[1, 0].set_ylabel("mean |Δθ| / peak rate")
    for axes in grid[:, 0]:
        axes.set_ylim(bottom=0)
    grid[0, 0].legend(frameon=False, fontsize=8)
    return figure


def _steps(values: NDArray[Any]) -> range:
    return range(1, len(values) + 1)


def _step_axis(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
