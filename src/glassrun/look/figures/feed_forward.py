"""Figures of the feed-forward network: each token alone, widened, mostly switched off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassrun.look.figures.style import (
    ACCENT,
    INK,
    LIGHT,
    LINES,
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
    from matplotlib.figure import Figure

_BINS = 80
_MOST_LABELLED = 4  # layers whose bars have room for a number


@styled
def row_changes(changes: Mapping[str, NDArray[Any]], tokens: Sequence[str], place: int) -> Figure:
    """How far the output of each token moves when one token's input is replaced; the panels share the scale.

    Arguments:
        changes: the layer's name to Float[tokens].
        tokens: as they are shown.
        place: of the token that was replaced.
    """
    figure, grid = subplots(
        1, len(changes), size=(WIDTH, 0.9 + 0.17 * len(tokens)), sharex=True, sharey=True, squeeze=False
    )
    places = np.arange(len(tokens))
    for (name, values), axes in zip(changes.items(), grid.flat, strict=True):
        axes.barh(places, values, color=[WARM if number == place else ACCENT for number in places], height=0.7)
        for number in np.flatnonzero(values == 0):
            axes.text(0, number, " 0", va="center", color=LIGHT, fontsize=7)
        axes.set_title(name, color=INK)
        axes.set_xlabel("change of the output, as a share of its length")
        axes.tick_params(axis="y", length=0)
    grid[0, 0].set_yticks(places, [plain(token) for token in tokens], fontsize=7)
    grid[0, 0].set_ylim(len(tokens) - 0.5, -0.5)
    grid[0, 0].set_ylabel("token (the replaced one in red)")
    return figure


@styled
def jacobians(shares: Mapping[str, NDArray[Any]], tokens: Sequence[str]) -> Figure:
    """How much of what moves the output of each token (row) comes from the input of each (column), on one scale.

    Arguments:
        shares: the layer's name to Float[tokens, tokens]; rows sum to one.
        tokens: as they are shown.
    """
    figure, grid = subplots(1, len(shares), size=(WIDTH, WIDTH / len(shares) + 0.1), squeeze=False)
    for number, ((name, values), axes) in enumerate(zip(shares.items(), grid.flat, strict=True)):
        shown = axes.imshow(values, cmap=WEIGHTS, vmin=0.0, vmax=1.0, interpolation="nearest")
        axes.set_title(name, color=INK)
        label_ticks(axes, rows=tokens, columns=tokens, turn=max(map(len, tokens)) > 2)
        axes.set_xlabel("input of token")
        if number == 0:
            axes.set_ylabel("output of token")
    figure.colorbar(shown, ax=list(grid.flat), fraction=0.025, pad=0.01, label="share of the row's norms")
    return figure


@styled
def hidden_features(hidden: Mapping[str, NDArray[Any]], tokens: Sequence[str]) -> Figure:
    """What the activation function leaves of every token's d_ff features, on one scale.

    Arguments:
        hidden: a name to Float[tokens, d_ff].
        tokens: as they are shown.
    """
    height = 0.6 + 0.13 * len(tokens)
    figure, grid = subplots(len(hidden), 1, size=(WIDTH, 0.2 + height * len(hidden)), squeeze=False)
    reach = max(float(np.abs(values).max()) for values in hidden.values())
    for (name, values), axes in zip(hidden.items(), grid.flat, strict=True):
        shown = axes.imshow(values, cmap=SIGNED, vmin=-reach, vmax=reach, aspect="auto", interpolation="nearest")
        axes.set_title(f"{name}, {values.shape[1]} features a token", color=INK)
        axes.set_yticks(range(len(tokens)), [plain(token) for token in tokens], fontsize=7)
        axes.tick_params(axis="y", length=0)
        axes.set_ylabel("token")
    grid[-1, 0].set_xlabel("feature between the two layers")
    figure.colorbar(shown, ax=list(grid.flat), fraction=0.025, pad=0.01, label="value")
    return figure


@styled
def activation_sparsity(values: Mapping[str, NDArray[Any]], shares: Mapping[str, Sequence[float]]) -> Figure:
    """How the features between the two layers are spread, and how many of them are as good as zero in each layer.

    Arguments:
        values: a name to the features of many tokens after the activation function, Float[values].
        shares: the same names to the share near zero in each layer.
    """
    figure, (left, right) = subplots(1, 2, size=(WIDTH, 2.9), width_ratios=(3, 2))
    everything = np.concatenate(list(values.values()))
    edges = np.linspace(float(everything.min()), float(np.quantile(everything, 0.999)), _BINS + 1)
    for (name, features), color in zip(values.items(), LINES, strict=False):
        counts, _ = np.histogram(features, edges)
        left.stairs(counts / len(features), edges, color=color, linewidth=1.4, label=name)
    left.set_yscale("log")
    left.set_xlabel("feature after the activation function")
    left.set_ylabel(f"share of all, by {_BINS} bins")
    left.legend(frameon=False, fontsize=8)
    width = 0.8 / len(shares)
    for number, ((name, found), color) in enumerate(zip(shares.items(), LINES, strict=False)):
        places = np.arange(len(found)) + (number - (len(shares) - 1) / 2) * width
        bars = right.bar(places, found, width=0.92 * width, color=color, label=name)
        if len(found) <= _MOST_LABELLED:
            right.bar_label(bars, [f"{share:.0%}" for share in found], fontsize=7, color=INK)
    layers = max(map(len, shares.values()))
    right.set_xticks(range(layers), [str(number + 1) for number in range(layers)])
    right.set_ylim(0, 1)
    right.set_xlabel("layer")
    right.set_ylabel("share near zero")
    return figure
