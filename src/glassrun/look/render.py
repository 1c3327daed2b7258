"""Parts to a page: one HTML file with everything inside, which opens with no network."""

from __future__ import annotations

import base64
import hashlib
import importlib
import inspect
import json
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from glassrun.errors import MissingDependency
from glassrun.look.page import Part, View
from glassrun.look.views import payload


def render(
    *,
    title: str,
    subtitle: str,
    parts: Sequence[Part],
    tiles: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
) -> str:
    """The page as text; the same parts give the same text.

    It loads nothing: its policy lets the one script that is inside run, and no other. Without scripts, and on paper,
    the static pictures stand where the views are.

    Arguments:
        title, subtitle: of the page.
        parts: in their order; with more than two a list of contents stands above them.
        tiles: a name and its value each, shown large.
        notes: what could not be shown, and why.

    Raises:
        MissingDependency: jinja2 is not installed.
    """
    touched = any(figure.view for part in parts for figure in part.figures)
    script = "\n" + static("glass.js") + static("page.js") if touched else ""
    return str(
        _template().render(
            title=title,
            subtitle=subtitle,
            tiles=tiles,
            notes=notes,
            parts=parts,
            style="\n" + static("page.css") + static("glass.css"),
            script=script,
            policy=_policy(script),
        )
    )


def static(name: str) -> str:
    """The text of a file of `static/`: `glass.js` and `glass.css` are what a notebook needs as well."""
    return resources.files("glassrun.look").joinpath("static", name).read_text(encoding="utf-8")


def _template() -> Any:
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise MissingDependency("jinja2", "the report", extra="figures") from None
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters |= {
        "paragraphs": _paragraphs,
        "own_names": _own_names,
        "data": _data,
        "source": _source,
    }
    return environment.from_string(static("page.html"))


def _policy(script: str) -> str:
    """What the browser may do with the page: draw, and run this one script."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"'sha256-{digest}'" if script else "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _paragraphs(text: str) -> Any:
    """Text with empty lines between its paragraphs and `code` in it, as HTML."""
    from markupsafe import Markup, escape

    found = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    marked = [re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(part))) for part in found]
    return Markup("".join(f"\n  <p>{part}</p>" for part in marked))


def _own_names(svg: str, prefix: str) -> Any:
    """A picture whose names inside are its own: Matplotlib calls the same parts of two pictures the same."""
    from markupsafe import Markup

    return Markup(re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", svg))


def _data(view: View) -> Any:
    """A view as JSON that can end no script element."""
    from markupsafe import Markup

    return Markup(json.dumps(payload(view), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))


def _source(name: str) -> str:
    """The source text of a function or class by its dotted name."""
    return inspect.getsource(resolved(name))


def resolved(name: str) -> Any:
    """The object of a dotted name.

    >>> resolved("glassrun.look.render.resolved") is resolved
    True
    """
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(f"no module holds {name}")
