"""Exhibits as one page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from glassrun.errors import ConfigError
from glassrun.look.exhibits.base import Exhibit, Material
from glassrun.look.exhibits.registry import EXHIBITS, find
from glassrun.look.exhibits.studies import with_studies
from glassrun.look.figures.style import Svg, png
from glassrun.look.page import Part
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
        run: shown where it fits; of all exhibits those that it does not fit train small runs of their own.
        text, image: a sentence or a picture of the user's.
        pictures: a folder that also takes each figure, as SVG and as PNG.
        out: the page; by default `NAME.html` or `exhibits.html` in the working folder.
        tell: called with what goes on.

    Raises:
        BadInput: there is no such exhibit, or what was given cannot be shown or would be ignored.
    """
    if everything == (name is not None):
        raise ConfigError(f"expected the name of an exhibit, or --all. There are: {', '.join(EXHIBITS)}")
    chosen = list(EXHIBITS.values()) if name is None else [find(name)]
    refuse_ignored(chosen, run=run, text=text, image=image)
    path = (out or Path("exhibits.html" if name is None else f"{name}.html")).absolute()
    # Told now, not after minutes of training.
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: there is no folder {path.parent}. Make it first, or name another")
    if path.is_dir():
        raise ConfigError(f"--out {path}: expected a file to write, found a folder. Name a file in it")
    if pictures and pictures.exists() and not pictures.is_dir():
        raise ConfigError(f"--pictures {pictures}: expected a folder, found a file. Name another")
    parts = []
    with TemporaryDirectory() as scratch:
        material = Material(Path(scratch), run=run, text=text, image=image, tell=tell)
        for number, exhibit in enumerate(chosen, 1):
            tell(f"{number} of {len(chosen)}: {exhibit.title}")
            parts.append(with_studies(exhibit.name, exhibit.make(material)))
    if pictures:
        _save(pictures, chosen, parts)
    page = render(
        title=chosen[0].title if name else "The exhibits",
        subtitle="" if name else "Each explains one subject on a real model or run.",
        parts=parts,
    )
    write_atomic(path, page.encode())
    return path


def refuse_ignored(chosen: Sequence[Exhibit], *, run: Run | None, text: str | None, image: Path | None) -> None:
    """See that some chosen exhibit shows each thing that was given.

    Raises:
        ConfigError: none does; the message names those that would.
    """
    if run is not None:
        _refuse(chosen, f"--run {run.path}", {name for name, exhibit in EXHIBITS.items() if exhibit.fits(run)})
    for option, given in (("text", text), ("image", image)):
        if given is not None:
            _refuse(chosen, f"--{option}", {name for name, exhibit in EXHIBITS.items() if option in exhibit.takes})


def _refuse(chosen: Sequence[Exhibit], option: str, takers: Collection[str]) -> None:
    names = [exhibit.name for exhibit in chosen]
    if not any(name in takers for name in names):
        shown = ", ".join(name for name in EXHIBITS if name in takers) or "no exhibit"
        raise ConfigError(f"{', '.join(names)}: {option} would be ignored; it is for {shown}. Leave it out")


def _save(folder: Path, chosen: Sequence[Exhibit], parts: Sequence[Part]) -> None:
    """Each figure as `NAME-NUMBER`."""
    folder.mkdir(parents=True, exist_ok=True)
    for exhibit, part in zip(chosen, parts, strict=True):
        drawn = [figure.svg for figure in part.figures if isinstance(figure.svg, Svg)]
        for number, picture in enumerate(drawn, 1):
            path = folder / f"{exhibit.name}-{number}"
            write_atomic(path.with_suffix(".svg"), f'<?xml version="1.0" encoding="utf-8"?>\n{picture}'.encode())
            write_atomic(path.with_suffix(".png"), png(picture.figure))
