"""How every figure looks: fonts, colours that colour-blind people can tell apart, labels; and how it becomes a file.

A figure function takes arrays and returns a matplotlib `Figure` of its own, made without pyplot's global state.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from glassrun.errors import MissingDependency

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text, so that every script is shown in the reader's fonts
    "svg.hashsalt": "glassrun",  # the same numbers give the same text
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.0,
    "axes.grid": False,
}
WIDTH = 7.6  # inches: a figure as wide as the page
INK, LIGHT, ACCENT, WARM = "#1b2a3a", "#9fb3c8", "#1f77b4", "#d1495b"
# Okabe and Ito 2008: eight colours that stay apart for colour-blind readers; yellow and black are left out.
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
WEIGHTS = "Blues"  # of values from zero up
SIGNED = "RdBu_r"  # of values on both sides of zero
MOST_LABELS = 48  # of an axis; of more, none is shown
_NEIGHBOURS = 32  # labels of an axis that do not lie on each other where two figures stand side by side


def label_ticks(axes: Axes, *, rows: Sequence[str], columns: Sequence[str], turn: bool) -> None:
    """Every label, or every second one where all would lie on each other; numbers where there are too many."""
    if max(len(rows), len(columns)) > MOST_LABELS:
        return
    for axis, labels, rotation in ((axes.xaxis, columns, 90 if turn else 0), (axes.yaxis, rows, 0)):
        every = -(-len(labels) // _NEIGHBOURS)
        shown = [plain(label) for label in labels[::every]]
        axis.set_ticks(range(0, len(labels), every), shown, rotation=rotation, fontsize=7)
    axes.tick_params(length=0, pad=2)
    for spine in axes.spines.values():
        spine.set_visible(False)


def plain(text: str) -> str:
    """Text in which a dollar sign begins no formula."""
    return text.replace("$", r"\$")


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """A figure function all of whose texts take this file's sizes: Matplotlib reads them as each text is made."""

    @wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with _in_style():
            return draw(*args, **kwargs)

    return drawn


def _in_style() -> AbstractContextManager[None]:
    try:
        from matplotlib import rc_context
    except ImportError:
        raise MissingDependency("matplotlib", "a figure", extra="figures") from None
    return rc_context(_STYLE)


def subplots(rows: int, columns: int, *, size: tuple[float, float], **options: Any) -> tuple[Figure, Any]:
    figure = new_figure(size)
    with _in_style():
        return figure, figure.subplots(rows, columns, **options)


def new_figure(size: tuple[float, float]) -> Figure:
    """A figure of its own, without pyplot's global state; its size is in inches."""
    with _in_style():
        from matplotlib.figure import Figure

        return Figure(figsize=size, layout="constrained")


class Svg(str):
    """SVG text that knows the figure it was drawn from, so that this can become a file of another kind."""

    figure: Figure


def svg(figure: Figure) -> Svg:
    """The figure as SVG text, from its opening tag on."""
    stream = io.StringIO()
    with _in_style(), warnings.catch_warnings():
        # Of letters that Matplotlib's own font lacks: the reader's browser draws them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    drawn = Svg(text[text.index("<svg") :])
    drawn.figure = figure
    return drawn


def png(figure: Figure, *, dots_per_inch: int = 144) -> bytes:
    """The figure as a PNG file."""
    stream = io.BytesIO()
    with _in_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(stream, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return stream.getvalue()
