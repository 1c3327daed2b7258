"""Figures of what goes on over the steps of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassrun.look.figures.style import ACCENT, INK, LIGHT, LINES, WARM, WIDTH, styled, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def curves(
    steps: Sequence[int],
    loss: Sequence[float],
    rate: Sequence[float],
    evaluations: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    warmup_steps: int,
) -> Figure:
    """Loss and learning rate by step, one above the other, with the end of the warmup marked.

    The loss is on a log scale if it falls by more than ten times.

    Arguments:
        steps: of the training loss and the learning rate.
        loss: of each step's batch.
        rate: learning rate of each step.
        evaluations: split name to its steps and losses.
        warmup_steps: where the warmup ends; 0 for none.
    """
    figure, (top, bottom) = subplots(2, 1, size=(7.6, 4.6), sharex=True, height_ratios=(2, 1))
    top.plot(steps, loss, color=LIGHT, linewidth=0.8, label="training, each batch")
    if len(loss) >= 50:
        window = max(len(loss) // 50, 5)
        smooth = np.convolve(np.asarray(loss), np.ones(window) / window, mode="valid")
        top.plot(steps[window - 1 :], smooth, color=INK, linewidth=1.4, label=f"training, mean of {window} batches")
    for (name, (places, values)), color in zip(evaluations.items(), (WARM, ACCENT), strict=False):
        top.plot(places, values, "o-", color=color, markersize=4, linewidth=1.2, label=name)
    if min(loss) > 0 and max(loss) > 10 * min(loss):
        top.set_yscale("log")
    top.set_ylabel("loss")
    top.legend(frameon=False, fontsize=8)
    bottom.plot(steps, rate, color=ACCENT, linewidth=1.4)
    bottom.set_ylim(bottom=0)
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("step")
    bottom.xaxis.get_major_locator().set_params(integer=True)
    bottom.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    if 0 < warmup_steps < steps[-1]:
        for axes in (top, bottom):
            axes.axvline(warmup_steps, color=LIGHT, linestyle=":", linewidth=1)
        bottom.annotate(
            f"warmup ends, step {warmup_steps}", (warmup_steps, 0), (4, 4), textcoords="offset points", color=INK
        )
    return figure


@styled
def loss_curves(columns: Mapping[str, Mapping[str, NDArray[Any]]]) -> Figure:
    """Losses of runs that should be the same, and below how far each is from the first; the rows share their scales.

    Arguments:
        columns: a column's title to the losses of its runs by name, Float[steps]; as many steps in each.
    """
    figure, grid = subplots(
        2, len(columns), size=(WIDTH, 4.2), sharex=True, sharey="row", height_ratios=(3, 2), squeeze=False
    )
    for column, (title, runs) in enumerate(columns.items()):
        top, bottom = grid[:, column]
        first = next(iter(runs.values()))
        steps = np.arange(1, len(first) + 1)
        for number, (name, losses) in enumerate(runs.items()):
            style = {"color": LINES[number % len(LINES)], "linewidth": 2.6 if number == 0 else 1.0, "label": name}
            top.plot(steps, losses, **style)
            if number:
                bottom.plot(steps, losses - first, **(style | {"linewidth": 1.2}))
        if all(np.array_equal(losses, first) for losses in runs.values()):
            bottom.annotate("exactly 0 at every step", (0.5, 0.9), xycoords="axes fraction", ha="center", color=INK)
        top.set_title(title, color=INK)
        top.legend(frameon=False, fontsize=8)
        bottom.axhline(0, color=LIGHT, linewidth=0.6, zorder=0)
        bottom.set_xlabel("step")
    grid[0, 0].set_ylabel("training loss")
    grid[1, 0].set_ylabel("difference from\nthe first run")
    return figure


@styled
def first_difference(a: NDArray[Any], b: NDArray[Any], step: int, name: str) -> Figure:
    """Losses of two runs that part, and how far they are apart, from the step on at which any recorded value differs.

    Arguments:
        a, b: the losses, Float[steps].
        step: of the first difference, from 1.
        name: of the value that differs there.
    """
    figure, (top, bottom) = subplots(2, 1, size=(WIDTH, 4.0), sharex=True, height_ratios=(3, 2))
    steps = np.arange(1, len(a) + 1)
    top.plot(steps, a, color=LINES[0], linewidth=3.0, label="run A")
    top.plot(steps, b, color=LINES[1], linewidth=1.0, label="run B")
    top.set_ylabel("training loss")
    top.legend(frameon=False, fontsize=8)
    apart = np.abs(a - b)
    there = apart > 0
    bottom.plot(steps[there], apart[there], ".-", color=WARM, markersize=3, linewidth=1.0)
    bottom.set_yscale("log")
    bottom.set_ylabel("|loss A − loss B|")
    bottom.set_xlabel("step")
    for axes in (top, bottom):
        axes.axvline(step, color=INK, linestyle=":", linewidth=1)
    bottom.annotate(
        f"step {step}: {name} differs",
        (step, 0.08),
        (-4, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right",
        color=INK,
    )
    return figure
