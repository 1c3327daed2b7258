"""Exhibits as one page: what is chosen, what is refused, and the pictures beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glassrun.errors import ConfigError
from glassrun.look.exhibits import page, registry
from glassrun.look.exhibits.base import Exhibit, Material
from glassrun.look.figures.positions import positions
from glassrun.look.figures.style import svg
from glassrun.look.page import Figure, Part
from in_process import trained
from support import Made, glassrun

pytest.importorskip("matplotlib", reason="needs the extra figures")
SEEN: list[Material] = []


def exhibit(name: str, kind: str, *takes: str) -> Exhibit:
    """One that says what it was made from, and fits runs of one kind of model."""

    def make(material: Material) -> Part:
        SEEN.append(material)
        figures = [Figure(svg(positions(np.eye(5)))), Figure("<svg></svg>")]
        return Part(f"Title of {name}", f"text: {material.text}", f"Why {name}?", figures=figures)

    return Exhibit(
        name, f"Title of {name}", "", lambda run: run.recipe.model.kind == kind, make, takes=frozenset(takes)
    )


@pytest.fixture(autouse=True)
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two exhibits of the tests' own in the place of the ten."""
    made = {e.name: e for e in (exhibit("first", "language-model", "text"), exhibit("second", "cnn", "image"))}
    for module in (page, registry):
        monkeypatch.setattr(module, "EXHIBITS", made)
    monkeypatch.chdir(tmp_path)
    SEEN.clear()


def test_one_by_its_name(tmp_path: Path) -> None:
    told: list[str] = []
    written = page.write("first", text="a sentence", tell=told.append)
    assert written == tmp_path / "first.html"
    text = written.read_text(encoding="utf-8")
    assert "text: a sentence" in text
    assert "Why first?" in text
    assert "second" not in text
    assert told == ["1 of 1: Title of first"]
    assert not SEEN[0].scratch.exists()


def test_all_on_one_page_share_their_material(tmp_path: Path) -> None:
    written = page.write(None, everything=True, image=Path("picture.png"), out=tmp_path / "all.html")
    assert "Why first?" in written.read_text(encoding="utf-8")
    assert "Why second?" in written.read_text(encoding="utf-8")
    assert len(SEEN) == 2
    assert SEEN[0] is SEEN[1]


def test_pictures_are_saved_beside(tmp_path: Path) -> None:
    page.write(None, everything=True, pictures=tmp_path / "deep" / "pictures")
    saved = sorted(path.name for path in (tmp_path / "deep" / "pictures").iterdir())
    assert saved == ["first-1.png", "first-1.svg", "second-1.png", "second-1.svg"]
    assert (tmp_path / "deep/pictures/first-1.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "deep/pictures/first-1.svg").read_text(encoding="utf-8")


def test_what_was_not_said_or_twice() -> None:
    for name, everything in ((None, False), ("first", True)):
        with pytest.raises(ConfigError, match="first, second"):
            page.write(name, everything=everything)


def test_a_wrong_name_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match="second"):
        page.write("secnd")


@pytest.mark.parametrize(
    ("name", "given", "option", "taker"),
    [("first", {"image": Path("a.png")}, "--image", "second"), ("second", {"text": "a"}, "--text", "first")],
)
def test_what_would_be_ignored_is_refused(name: str, given: dict[str, object], option: str, taker: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: {option} would be ignored; it is for {taker}"):
        page.write(name, **given)  # type: ignore[arg-type]
    assert SEEN == []


def test_a_run_is_shown_where_it_fits(made: Made, tmp_path: Path) -> None:
    run = trained(made.recipe("odd-cnn", **{"train.steps": 2}), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"first: --run .*run would be ignored; it is for second"):
        page.write("first", run=run)
    page.write("second", run=run)
    page.write(None, everything=True, run=run)
    assert [material.run for material in SEEN] == [run] * 3


def test_a_folder_that_is_not_there_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        page.write("first", out=tmp_path / "nowhere" / "page.html")
    assert SEEN == []


def test_a_page_that_could_not_be_written_is_told_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told: list[str] = []
    with pytest.raises(ConfigError, match="expected a file to write, found a folder"):
        page.write("first", out=tmp_path, tell=told.append)
    with pytest.raises(ConfigError, match="expected a folder, found a file"):
        page.write("first", out=tmp_path / "a.html", pictures=tmp_path / "file", tell=told.append)
    assert (told, SEEN) == ([], [])


def test_bad_input_on_the_command_line_is_one_message() -> None:
    done = glassrun("exhibit", "atention")
    assert done.code == 2
    assert "attention" in done.err
    assert "Traceback" not in done.err
