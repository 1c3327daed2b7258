"""The report in a real browser with the network off: complete, nothing outside its box, no error."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import glassrun as api
from glassrun.config import SCHEDULES
from glassrun.errors import DataError, RunFolderError
from glassrun.look.exhibits import registry
from glassrun.look.exhibits.base import Material
from glassrun.look.exhibits.registry import EXHIBITS
from glassrun.look.page import Part
from glassrun.look.report import _AFTER_WARMUP
from glassrun.record.run_folder import RunFolder
from in_browser import opened
from in_process import trained
from support import Command, Made

HOSTILE = "<script>document.title='pwned'</script> <b>glass</b> $x_1$ & "


@pytest.fixture(scope="module")
def reports(made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of a small run of each kind; the language model has read a text that would like to be markup."""
    folder = tmp_path_factory.mktemp("reports")
    text = folder / "text.txt"
    text.write_text(HOSTILE * 60)
    recipes = {
        "odd-cnn": made.recipe("odd-cnn"),
        "odd-lm": made.recipe("odd-lm", **{"data.path": str(text)}),
        "odd-pairs": made.recipe("odd-pairs"),
    }
    return {name: api.report(trained(recipe, folder / name)) for name, recipe in recipes.items()}


COMMON = ["Loss and learning rate", "The same bits again", "Config", "Data and environment"]
EXPECTED = {
    "odd-cnn": [*COMMON, "Feature maps", "Confusion matrix"],
    "odd-lm": [*COMMON, "The network", "What it writes"],
    "odd-pairs": [*COMMON, "The network", "What it writes"],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_opens_with_no_network_and_shows_every_part(name: str, browser: Any, reports: dict[str, Path]) -> None:
    made = opened(browser, reports[name])
    page = made.page
    assert made.wrong == []
    run = api.load(reports[name].parent)
    exhibits = [exhibit.title for exhibit in EXHIBITS.values() if exhibit.fits(run)]
    assert len(exhibits) >= 5
    assert sorted(page.locator("h2").all_inner_texts()) == sorted([*EXPECTED[name], *exhibits])
    assert page.locator("section svg").count() >= (3 if name == "odd-cnn" else 4)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    for box in page.locator("section").all():
        assert box.bounding_box()["height"] > 60


@pytest.mark.parametrize("name", EXPECTED)
def test_no_text_of_a_figure_is_cut_off_or_lies_on_another(name: str, browser: Any, reports: dict[str, Path]) -> None:
    """Every label lies inside its figure, and labels of one axis do not overlap."""
    page = opened(browser, reports[name]).page
    page.emulate_media(media="print")  # where every static picture stands
    found = page.evaluate(
        """() => [...document.querySelectorAll('section svg')].map(svg => {
             const frame = svg.getBoundingClientRect();
             const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
             const outside = texts.filter(([_, r]) => r.left < frame.left - 2 || r.right > frame.right + 2 ||
                                                      r.top < frame.top - 2 || r.bottom > frame.bottom + 2);
             const meets = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 3 &&
                                     Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4;
             const over = texts.flatMap(([s, a], i) => texts.slice(i + 1).filter(([t, b]) => meets(a, b))
                                                            .map(([t]) => `${s} on ${t}`));
             return {count: texts.length, outside: outside.map(([s]) => s), over};
           })"""
    )
    assert sum(figure["count"] for figure in found) > 20
    assert [figure["outside"] for figure in found if figure["outside"]] == []
    assert [figure["over"] for figure in found if figure["over"]] == []


def test_shows_the_numbers_of_the_run(browser: Any, reports: dict[str, Path]) -> None:
    page = opened(browser, reports["odd-cnn"]).page
    run = api.load(reports["odd-cnn"].parent)
    text = page.inner_text("body")
    assert run.ledger[-1].chain in text
    assert f"{run.ledger[-1].step.loss:.4f}" in text
    assert "optimizer.lr\t0.003" in text
    assert run.folder.header["environment"]["numerics"]["cpu"] in text
    numbers = page.locator("section:has(h2:text('Confusion')) svg text").all_text_contents()
    counts = [int(number) for number in numbers if number.strip().isdecimal()]
    test = next(line for line in run.metrics if line["split"] == "test")
    assert f"{round(test['accuracy'] * test['examples'])} of {test['examples']} images" in text
    assert sum(counts) >= test["examples"]  # the counts, and the names of the classes


def test_what_a_text_says_is_no_markup(browser: Any, reports: dict[str, Path]) -> None:
    made = opened(browser, reports["odd-lm"])
    assert made.wrong == []
    assert "odd-lm" in made.page.title()
    assert "<script>" in made.page.inner_text("section:has(h2:text('What it writes')) pre")


def test_data_that_are_gone_are_said(reports: dict[str, Path], command: Command, tmp_path: Path) -> None:
    path = shutil.copytree(reports["odd-lm"].parent, tmp_path / "run")
    text, moved = reports["odd-lm"].parents[1] / "text.txt", tmp_path / "moved.txt"
    text.rename(moved)
    try:
        done = command("report", path)
        page = (path / "report.html").read_text(encoding="utf-8")
        found = api.report(api.load(path, data_path=str(moved))).read_text(encoding="utf-8")
    finally:
        moved.rename(text)
    assert done.code == 0
    assert done.err.startswith("note: The model is not looked into here: ")
    assert str(text) in done.err
    assert len(done.err.splitlines()) == 1
    assert "The model is not looked into here" in page
    assert "Loss and learning rate" in page
    assert "The model is not looked into here" not in found


def test_an_exhibit_that_cannot_be_made_says_why_in_its_place(
    reports: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(_: Material) -> Part:
        raise DataError("the picture is torn")

    first = next(iter(EXHIBITS.values()))
    broken = {"broken": replace(first, title="Broken", question="Why?", fits=lambda _: True, make=make)}
    monkeypatch.setattr(registry, "EXHIBITS", broken)
    run = api.load(shutil.copytree(reports["odd-cnn"].parent, tmp_path / "run"))
    page = api.report(run).read_text(encoding="utf-8")
    assert "<h2>Broken</h2>" in page
    assert "Not shown of this run: the picture is torn" in page
    assert "<h2>The network</h2>" in page  # the exhibit that would show it is not there


def test_every_schedule_is_told_in_words() -> None:
    assert _AFTER_WARMUP.keys() == SCHEDULES.keys()


def test_a_run_without_a_step_has_no_report(made: Made, tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", api.Recipe.model_validate_json(_json(made)), [])
    with pytest.raises(RunFolderError, match="no step"):
        api.report(api.load(tmp_path / "run"))


def _json(made: Made) -> str:
    return made.file("odd-cnn").read_text()
