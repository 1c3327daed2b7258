"""Parts to a page: one HTML file with everything inside, which opens with no network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

from glassrun.errors import MissingDependency
from glassrun.look.page import Part


def render(
    *,
    title: str,
    subtitle: str,
    parts: Sequence[Part],
    tiles: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
) -> str:
    """The page as text.

    Arguments:
        title, subtitle: of the page.
        parts: in their order.
        tiles: a value and its name each, shown large.
        notes: what could not be shown, and why.
    """
    return str(_template().render(title=title, subtitle=subtitle, tiles=tiles, notes=notes, parts=parts))


def _template() -> Any:
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise MissingDependency("jinja2", "the report", extra="figures") from None
    text = resources.files("glassrun.look").joinpath("report.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(text)
