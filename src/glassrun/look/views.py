"""What people may touch: arrays in, `View` out. `static/glass.js` has one function for each kind."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassrun.look.page import View

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Maps:
    """The attention weights of one layer.

    Arguments:
        name: of the layer, for people.
        weights: Float[heads, query, key]; with snapshots Float[frames, heads, query, key].
        queries, keys: the tokens as they are shown.
        query_title, key_title: what rows and columns are.
    """

    name: str
    weights: Array
    queries: Sequence[str]
    keys: Sequence[str]
    query_title: str = "query"
    key_title: str = "key"


def attention(layers: Sequence[Maps], *, steps: Sequence[int] = ()) -> View:
    """Attention maps: choose layer and head, hover a token or a cell for its weight.

    Arguments:
        layers: at least one.
        steps: of the frames, if the weights have them: then a slider goes through the steps.
    """
    return View(
        "attention",
        {
            "steps": list(steps),
            "layers": [
                {
                    "name": layer.name,
                    "queries": list(layer.queries),
                    "keys": list(layer.keys),
                    "query_title": layer.query_title,
                    "key_title": layer.key_title,
                }
                for layer in layers
            ],
        },
        {f"weights.{number}": layer.weights for number, layer in enumerate(layers)},
    )


def heatmap(
    values: Array,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    row_title: str = "row",
    column_title: str = "column",
    value_title: str = "value",
    signed: bool = False,
) -> View:
    """One dense map: hover a cell for its value.

    Arguments:
        values: Float[rows, columns].
        rows, columns: their labels; numbers from 0 where there are none.
        row_title, column_title, value_title: what they are.
        signed: whether zero is the middle of the scale.
    """
    values_of = {
        "rows": list(rows),
        "columns": list(columns),
        "row_title": row_title,
        "column_title": column_title,
        "value_title": value_title,
        "signed": signed,
    }
    return View("heatmap", values_of, {"values": values})


@dataclass(frozen=True)
class Pictures:
    """A layer's feature maps, or other pictures on one scale.

    Arguments:
        name: of the layer, for people.
        values: Float[pictures, height, width]; with snapshots Float[frames, pictures, height, width].
        labels: of the pictures, for example the filters' names.
        signed: whether zero is the middle of the scale.
        first: which picture is shown before the reader chooses.
    """

    name: str
    values: Array
    labels: Sequence[str] = ()
    signed: bool = False
    first: int = 0


def pictures(groups: Sequence[Pictures], *, steps: Sequence[int] = ()) -> View:
    """Pictures of several layers: choose the layer, step through its filters, hover a point for its value."""
    return View(
        "pictures",
        {
            "steps": list(steps),
            "groups": [
                {"name": g.name, "labels": list(g.labels), "signed": g.signed, "first": g.first} for g in groups
            ],
        },
        {f"pictures.{number}": group.values for number, group in enumerate(groups)},
    )


@dataclass(frozen=True)
class Line:
    """One curve: Float[points] over Float[points]."""

    name: str
    x: Array
    y: Array
    faint: bool = False


@dataclass(frozen=True)
class Panel:
    """Curves over one axis.

    Arguments:
        title: what the y axis is.
        lines: at least one.
        log: whether the y axis is logarithmic.
        marks: places on the x axis with a word each.
    """

    title: str
    lines: Sequence[Line]
    log: bool = False
    marks: Sequence[tuple[float, str]] = ()


def curves(panels: Sequence[Panel], *, x_title: str = "step") -> View:
    """Curves in panels one above the other over one x axis: zoom, and hover for the values."""
    return View(
        "curves",
        {
            "x_title": x_title,
            "panels": [
                {
                    "title": panel.title,
                    "log": panel.log,
                    "marks": [[place, word] for place, word in panel.marks],
                    "lines": [{"name": line.name, "faint": line.faint} for line in panel.lines],
                }
                for panel in panels
            ],
        },
        {
            f"{axis}.{number}.{index}": getattr(line, axis)
            for number, panel in enumerate(panels)
            for index, line in enumerate(panel.lines)
            for axis in ("x", "y")
        },
    )


def choice(title: str, options: Mapping[str, View]) -> View:
    """Several views in one place, of which the reader chooses one by its name."""
    return View(
        "choice",
        {"title": title, "options": [{"name": n, "kind": v.kind, "values": v.values} for n, v in options.items()]},
        {f"{number}/{name}": a for number, v in enumerate(options.values()) for name, a in v.arrays.items()},
    )


def payload(view: View) -> dict[str, Any]:
    """The view as JSON can hold it, as `draw` of `static/glass.js` takes it.

    Returns:
        kind and values as they are, and of each array its type, its shape and its numbers: base64 of little-endian
        float16, which keeps three digits, or float32 for curves and for what float16 has no range for.

    Raises:
        ValueError: an array is empty.
    """
    exact = view.kind == "curves" or any(option["kind"] == "curves" for option in view.values.get("options", ()))
    return {
        "kind": view.kind,
        "values": dict(view.values),
        "arrays": {name: _packed(np.asarray(array), exact=exact) for name, array in view.arrays.items()},
    }


def _packed(array: NDArray[Any], *, exact: bool) -> dict[str, Any]:
    if not array.size:
        raise ValueError(f"expected numbers to show, found an array of shape {array.shape}")
    kind = "float32" if exact or not _fits_half(array) else "float16"
    numbers = np.ascontiguousarray(array, dtype="<f4" if kind == "float32" else "<f2")
    return {"type": kind, "shape": list(array.shape), "data": base64.b64encode(numbers.tobytes()).decode()}


def _fits_half(array: NDArray[Any]) -> bool:
    """Whether the largest value is one that float16 holds with all its digits; what is NaN has no value."""
    known = np.abs(array[np.isfinite(array)])
    largest = float(known.max()) if known.size else 0.0
    smallest_normal, top = float(np.finfo(np.float16).smallest_normal), float(np.finfo(np.float16).max)
    return largest == 0.0 or 100 * smallest_normal <= largest <= top
