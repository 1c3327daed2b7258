"""Figures of loss and learning rate with steps marked, of one run or of two together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glassrun.look.figures.style import ACCENT, INK, LIGHT, LINES, WIDTH, plain, styled, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Course:
    """How a run went: its name, its steps, and loss and learning rate after each."""

    name: str
    steps: Sequence[int]
    loss: Sequence[float]
    rate: Sequence[float]


@styled
def courses(runs: Sequence[Course], marks: Sequence[tuple[int, str]] = ()) -> Figure:
    """Loss above, learning rate below, over the same steps; later runs are dashed, so that equal ones are both seen.

    The loss is on a log scale if it falls by more than ten times.

    Arguments:
        runs: one or two.
        marks: steps with a word each; an empty word is a mark alone.
    """
    figure, (top, bottom) = subplots(2, 1, size=(WIDTH, 3.8), sharex=True, height_ratios=(2, 1))
    losses = [loss for run in runs for loss in run.loss]
    for number, run in enumerate(runs):
        style = {"color": ACCENT if len(runs) == 1 else LINES[number], "linestyle": "-" if number == 0 else (0, (4, 3))}
        top.plot(run.steps, run.loss, linewidth=1.1, label=plain(run.name), **style)
        bottom.plot(run.steps, run.rate, linewidth=1.4, **style)
    if min(losses) > 0 and max(losses) > 10 * min(losses):
        top.set_yscale("log")
    for step, word in marks:
        for axes in (top, bottom):
            axes.axvline(step, color=INK if word else LIGHT, linestyle=":", linewidth=0.9)
        if word:  # below a loss that is still high, or above one that has come down
            early = step < max(run.steps[-1] for run in runs) / 2
            top.annotate(
                word,
                (step, 0 if early else 0.6),
                (4 if early else -4, 5),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="left" if early else "right",
                color=INK,
            )
    top.set_ylabel("training loss")
    if len(runs) > 1:
        top.legend(frameon=False, fontsize=8)
    bottom.set_ylim(bottom=0)
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("step")
    bottom.xaxis.get_major_locator().set_params(integer=True)
    bottom.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    return figure
