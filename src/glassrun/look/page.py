"""What a page is made of: parts with text, formulas, figures and tables. Pages are drawn by `render`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class View:
    """Numbers that people may touch, drawn in the static picture's place by `static/glass.js`.

    Arguments:
        kind: which of the renderer's views draws it.
        values: titles, labels and settings: what JSON can hold.
        arrays: the dense numbers by name; how they are written, `views.payload` says.
    """

    kind: str
    values: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A figure with its title and what is to be seen in it.

    Arguments:
        svg: the static picture; it is what is printed, and what is there without JavaScript; empty where the figures
            after it are stills of the same.
        title: stands above it.
        caption: stands below it.
        description: what a reader who cannot see it is told; the caption where it is empty.
        view: what takes its place where JavaScript runs.
        still: shown only on paper and without JavaScript, because the view of a figure before it holds the same.
    """

    svg: str
    title: str = ""
    caption: str = ""
    description: str = ""
    view: View | None = None
    still: bool = False


@dataclass(frozen=True)
class Table:
    """A table; `numbers` are the columns that hold numbers; a folded one opens on a click."""

    rows: Sequence[Sequence[str]]
    head: Sequence[str] = ()
    title: str = ""
    numbers: Sequence[int] = ()
    folded: bool = False


@dataclass(frozen=True)
class Part:
    """A part of a page.

    Arguments:
        title: its heading.
        question: the question that it answers; exhibits have one.
        formula: MathML, `<math>…</math>`.
        text: paragraphs, parted by an empty line; what stands in backticks is code.
        figures, tables: in this order.
        code: shown as it is.
        source: the functions that it shows, for example `glassrun.functional.attention.attention`.
        notes: what could not be shown, and why.
    """

    title: str
    text: str = ""
    question: str = ""
    formula: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    code: str = ""
    source: Sequence[str] = ()
    notes: Sequence[str] = ()
