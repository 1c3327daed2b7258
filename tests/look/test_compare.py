"""Two runs side by side: what differs is named, what is equal is said to be, what cannot be compared has its reason."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import glassrun as api
from glassrun.errors import ConfigError
from glassrun.look import compare as compared
from glassrun.look.compare import compare
from glassrun.look.page import Part
from glassrun.run import Run
from support import Made, glassrun


@pytest.fixture(scope="module")
def runs(made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("compared")

    def trained(name: str, recipe: str, **overrides: Any) -> Run:
        return api.train(made.recipe(recipe, **overrides), out=folder / name, workers=1)

    found = {
        "cnn": trained("cnn", "odd-cnn"),
        "slow": trained("slow", "odd-cnn", **{"schedule.warmup_steps": 3}),
        "wide": trained("wide", "odd-cnn", **{"model.channels": [5, 11], "seed": 8}),
        "lm": trained("lm", "odd-lm"),
    }
    shutil.copytree(found["cnn"].path, folder / "again")
    return found | {"again": api.load(folder / "again")}


def parts_of(a: Run, b: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[dict[str, Part], list[str]]:
    """The page's parts by title, as they go to be drawn, and the notes."""
    notes: list[str] = []
    caught: dict[str, Part] = {}
    draw = compared.render

    def catching(**options: Any) -> str:
        caught.update({part.title: part for part in options["parts"]})
        return draw(**options)

    monkeypatch.setattr(compared, "render", catching)
    written = compare(a, b, tmp_path / "page.html", tell=notes.append)
    assert written.read_text().startswith("<!doctype html>")
    return caught, notes


def test_equal_runs_are_equal_everywhere(runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parts, notes = parts_of(runs["cnn"], runs["again"], monkeypatch, tmp_path)
    assert notes == []
    assert "Nothing that is recorded" in parts["What differs"].text
    assert parts["Loss and learning rate"].text.startswith("Identical: all 6 steps")
    inside = parts["The same input in both"]
    assert all(row[2:] == ("0", "0.0 %") for row in inside.tables[0].rows)
    assert all(row[4] == "+0.000000" for row in parts["Metrics"].tables[0].rows)


def test_the_first_difference_and_its_field_are_named(
    runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts, notes = parts_of(runs["cnn"], runs["slow"], monkeypatch, tmp_path)
    assert notes == []
    assert ("config", "schedule.warmup_steps", "2", "3") in parts["What differs"].tables[1].rows
    course = parts["Loss and learning rate"]
    lines = [(x.step, y.step) for x, y in zip(runs["cnn"].ledger, runs["slow"].ledger, strict=True)]
    first = next(x.step for x, y in lines if x != y)
    assert f"In step {first}, phase optimizer" in course.text
    view = course.figures[0].view
    assert view is not None
    assert view.values["panels"][0]["marks"] == [[float(first), f"first difference: step {first}"]]
    assert np.allclose(view.arrays["y.0.1"], [y.loss for _, y in lines])
    assert course.code == "glassrun diff cnn slow"


def test_maps_differ_by_what_the_models_differ_by(
    runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts, _ = parts_of(runs["cnn"], runs["slow"], monkeypatch, tmp_path)
    view = next(f.view for f in parts["The same input in both"].figures if f.title == "Filters of the first layer")
    assert view is not None
    weights = [
        next(p for p in runs[name].model.parameters() if p.ndim == 4).detach().numpy()[:, 0] for name in ("cnn", "slow")
    ]
    assert np.allclose(view.arrays["pictures.2"], weights[0] - weights[1])
    assert np.abs(view.arrays["pictures.2"]).max() > 0


def test_layers_that_only_one_has_are_named(
    runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts, _ = parts_of(runs["cnn"], runs["wide"], monkeypatch, tmp_path)
    inside = parts["The same input in both"]
    assert len(inside.tables[0].rows) == 1  # the first layer has five maps in both
    assert [note[:10] for note in inside.notes] == ["Only in A:", "Only in B:"]
    assert "11 × 4 × 4" in inside.notes[1]


def test_other_tasks_are_compared_as_far_as_it_goes(
    runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts, notes = parts_of(runs["cnn"], runs["lm"], monkeypatch, tmp_path)
    assert list(parts) == ["What differs", "Loss and learning rate", "Metrics"]
    assert len(notes) == 1
    assert "classify in A and language-model in B" in notes[0]
    metrics = {row[1] for row in parts["Metrics"].tables[0].rows}
    assert {"accuracy", "perplexity"} <= metrics


def test_the_same_runs_give_the_same_page(runs: dict[str, Run], tmp_path: Path) -> None:
    pages = [compare(runs["cnn"], runs["slow"], tmp_path / name).read_bytes() for name in ("one.html", "two.html")]
    assert pages[0] == pages[1]
    assert str(runs["cnn"].path).encode() not in pages[0]


def test_a_run_beside_itself_is_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two runs"):
        compare(runs["cnn"], api.load(runs["cnn"].path), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_command(runs: dict[str, Run], tmp_path: Path) -> None:
    done = glassrun("report", runs["cnn"].path, runs["lm"].path, cwd=tmp_path)
    assert (done.code, done.out) == (0, "report: compare.html\n")
    assert done.err.startswith("note: What happens inside")
    assert (tmp_path / "compare.html").stat().st_size > 10_000
    refused = glassrun("report", runs["cnn"].path, "--out", tmp_path / "x.html")
    assert refused.code == 2
    assert "only for two runs" in refused.err
