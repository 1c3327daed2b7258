"""Two runs side by side: what differs is named, what is equal is said to be, what cannot be compared has its reason."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import glassrun as api
from glassrun.cli import app
from glassrun.errors import ConfigError
from glassrun.look import compare as compared
from glassrun.look.compare import compare
from glassrun.look.page import Part
from glassrun.run import Run
from in_process import trained
from support import Made


@pytest.fixture(scope="module")
def runs(made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("compared")

    found = {
        "cnn": trained(made.recipe("odd-cnn"), folder / "cnn"),
        "slow": trained(made.recipe("odd-cnn"), folder / "slow", schedule__warmup_steps=3),
        "wide": trained(made.recipe("odd-cnn"), folder / "wide", model__channels=[5, 11], seed=8),
        "lm": trained(made.recipe("odd-lm"), folder / "lm"),
    }
    shutil.copytree(found["cnn"].path, folder / "again")
    return found | {"again": api.load(folder / "again")}


@dataclass(frozen=True)
class Page:
    """A page, its parts as they went to be drawn, and its notes."""

    text: str
    parts: dict[str, Part]
    notes: list[str]


@pytest.fixture(scope="module")
def pages(runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    """The run `cnn` beside each of the others."""
    folder, found, drawn = tmp_path_factory.mktemp("pages"), {}, []
    draw = compared.render

    def watched(**options: Any) -> str:
        drawn.append({part.title: part for part in options["parts"]})
        return draw(**options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compared, "render", watched)
        for name in ("again", "slow", "wide", "lm"):
            notes: list[str] = []
            written = compare(runs["cnn"], runs[name], folder / name, tell=notes.append)
            found[name] = Page(written.read_text(), drawn[-1], notes)
    return found


def test_equal_runs_are_equal_everywhere(pages: dict[str, Page]) -> None:
    parts, notes = pages["again"].parts, pages["again"].notes
    assert notes == []
    assert "Nothing that is recorded" in parts["What differs"].text
    assert parts["Loss and learning rate"].text.startswith("Identical: all 6 steps")
    inside = parts["The same input in both"]
    assert all(row[2:] == ("0", "0.0 %") for row in inside.tables[0].rows)
    assert all(row[4] in ("+0.0000", "+0.00 points") for row in parts["Metrics"].tables[0].rows)


def test_the_first_difference_and_its_field_are_named(runs: dict[str, Run], pages: dict[str, Page]) -> None:
    parts, notes = pages["slow"].parts, pages["slow"].notes
    assert notes == []
    assert ("config schedule.warmup_steps", "2", "3") in parts["What differs"].tables[1].rows
    course = parts["Loss and learning rate"]
    lines = [(x.step, y.step) for x, y in zip(runs["cnn"].ledger, runs["slow"].ledger, strict=True)]
    first = next(x.step for x, y in lines if x != y)
    assert f"In step {first}, phase optimizer" in course.text
    view = course.figures[0].view
    assert view is not None
    assert view.values["panels"][0]["marks"] == [[float(first), f"first difference: step {first}"]]
    assert np.allclose(view.arrays["y.0.1"], [y.loss for _, y in lines])
    assert course.code == "glassrun diff cnn slow"


def test_maps_differ_by_what_the_models_differ_by(runs: dict[str, Run], pages: dict[str, Page]) -> None:
    parts = pages["slow"].parts
    view = next(f.view for f in parts["The same input in both"].figures if f.view and f.view.kind == "pictures")
    weights = [
        next(p for p in runs[name].model.parameters() if p.ndim == 4).detach().numpy()[:, 0] for name in ("cnn", "slow")
    ]
    assert np.allclose(view.arrays["pictures.2"], weights[0] - weights[1])
    assert np.abs(view.arrays["pictures.2"]).max() > 0


def test_layers_that_only_one_has_are_named(pages: dict[str, Page]) -> None:
    parts = pages["wide"].parts
    inside = parts["The same input in both"]
    assert len(inside.tables[0].rows) == 1  # the first layer has five maps in both
    assert [note[:10] for note in inside.notes] == ["Only in A:", "Only in B:"]
    assert "11 × 4 × 4" in inside.notes[1]


def test_other_tasks_are_compared_as_far_as_it_goes(pages: dict[str, Page]) -> None:
    parts, notes = pages["lm"].parts, pages["lm"].notes
    assert list(parts) == ["What differs", "Loss and learning rate", "Metrics"]
    assert len(notes) == 1
    assert "classify in A and language-model in B" in notes[0]
    metrics = {row[1] for row in parts["Metrics"].tables[0].rows}
    assert {"accuracy", "perplexity"} <= metrics


def test_the_same_runs_give_the_same_page(runs: dict[str, Run], pages: dict[str, Page], tmp_path: Path) -> None:
    again = compare(runs["cnn"], runs["slow"], tmp_path / "again.html").read_text()
    assert again == pages["slow"].text
    assert again.startswith("<!doctype html>")
    assert str(runs["cnn"].path) not in again


def test_a_run_beside_itself_is_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two runs"):
        compare(runs["cnn"], api.load(runs["cnn"].path), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_command(runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["report", str(runs["cnn"].path), str(runs["lm"].path)])
    assert (done.exit_code, done.stdout) == (0, "report: compare.html\n")
    assert done.stderr.startswith("note: What happens inside")
    assert Path("compare.html").stat().st_size > 10_000
    refused = CliRunner().invoke(app, ["report", str(runs["cnn"].path), "--out", "x.html"])
    assert isinstance(refused.exception, ConfigError)
    assert "only for two runs" in str(refused.exception)
