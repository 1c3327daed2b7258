"""Figures of what goes on over the steps of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from glassrun.look.figures.style import ACCENT, INK, LIGHT, WARM, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
