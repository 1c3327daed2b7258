"""Exhibits as one page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from glassrun.errors import ConfigError
from glassrun.look.exhibits.base import Material
from glassrun.look.exhibits.registry import EXHIBITS, find
from glassrun.look.render import render
from glassrun.record.files import write_atomic
from glassrun.run import Run


def write(
    name: str | None,
    *,
    everything: bool = False,
    run: Run | None = None,
    text: str | None = None,
    image: Path | None = None,
    pictures: Path | None = None,
    out: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Path:
    """Make the page of one exhibit or of all; returns its path.

    Arguments:
        name: of the exhibit, or None with `everything`.
        run: shown where it fits; without it, or where it does not fit, the exhibits train small runs of their own.
        text, image: a sentence or a picture of the user's.
        pictures: a folder that also takes each figure as SVG.
        out: the page; by default `NAME.html` or `exhibits.html` in the working folder.
        tell: called with what goes on.

    Raises:
        BadInput: there is no such exhibit, or what was given cannot be shown.
    """
    if everything == (name is not None):
        raise ConfigError(f"say which exhibit, or --all. There are: {', '.join(EXHIBITS)}")
    chosen = list(EXHIBITS.values()) if name is None else [find(name)]
    with TemporaryDirectory() as scratch:
        material = Material(Path(scratch), run=run, text=text, image=image, tell=tell)
        parts = [exhibit.make(material) for exhibit in chosen]
    page = render(title=chosen[0].title if name else "The exhibits", subtitle="", parts=parts)
    path = out or Path("exhibits.html" if name is None else f"{name}.html")
    write_atomic(path, page.encode())
    return path
