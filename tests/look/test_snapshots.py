"""The part "Over training": it shows what the files hold and what the model has, and says what is damaged."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import glassrun as api
from glassrun.capturing.capture import capture
from glassrun.look.inside import probe
from glassrun.look.page import Part
from glassrun.look.snapshots import _told, part
from glassrun.record.snapshots import paths, planned
from glassrun.run import Run
from glassrun.train.snapshots import Snapshot, read
from in_process import trained
from support import Made


@pytest.fixture(scope="module")
def runs(made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("snapshots")
    return {name: trained(made.recipe(name), folder / name, record__snapshots=4) for name in ("odd-cnn", "odd-pairs")}


@pytest.fixture(scope="module")
def parts(runs: dict[str, Run]) -> dict[str, Part]:
    return {name: shown(run) for name, run in runs.items()}


def shown(run: Run) -> Part:
    found = part(run)
    assert found is not None
    return found


def test_frames_are_what_the_files_hold(runs: dict[str, Run], parts: dict[str, Part]) -> None:
    figures = {figure.title: figure for figure in parts["odd-pairs"].figures}
    view = figures["Attention forming"].view
    assert view is not None
    assert view.values["steps"] == planned(4, 6) == [1, 2, 4, 6]
    files = [read(path) for path in paths(runs["odd-pairs"].path)]
    for name, array in view.arrays.items():
        number = name.removeprefix("weights.")
        assert np.array_equal(array, np.stack([file.arrays[f"attention.{number}"] for file in files]))


def test_the_last_frame_is_the_model_as_it_ended(runs: dict[str, Run], parts: dict[str, Part]) -> None:
    run = runs["odd-pairs"]
    view = next(figure.view for figure in parts["odd-pairs"].figures if figure.title == "Attention forming")
    assert view is not None
    captured = capture(run.model, probe(run).inputs)
    assert len(captured.attention) == len(view.arrays)
    for seen, array in zip(captured.attention.values(), view.arrays.values(), strict=True):
        np.testing.assert_allclose(array[-1], seen.weights[0].numpy(), atol=1e-6)


def test_a_cnn_shows_filters_and_maps_beside_the_curves(runs: dict[str, Run], parts: dict[str, Part]) -> None:
    found = parts["odd-cnn"]
    titles = [figure.title for figure in found.figures]
    assert titles == ["Loss and learning rate", "Filters forming", "Feature maps forming"]
    assert all(figure.view is not None and "<svg" in figure.svg for figure in found.figures)
    course = found.figures[0].view
    assert course is not None
    losses = [line.step.loss for line in runs["odd-cnn"].ledger]
    assert np.allclose(course.arrays["y.0.0"], losses)
    assert [place for place, _ in course.values["panels"][0]["marks"]] == [1, 2, 4, 6]
    first, last = (read(paths(runs["odd-cnn"].path)[place]).arrays["filters"] for place in (0, -1))
    moved = 100 * np.linalg.norm(last - first) / np.linalg.norm(first)
    assert f"moved by {moved:.0f} %" in found.text


def test_entropy_in_the_text_is_that_of_the_rows(runs: dict[str, Run], parts: dict[str, Part]) -> None:
    found = re.search(r"it is (\d+\.\d\d) bits at step 1 and (\d+\.\d\d) at step 6", parts["odd-pairs"].text)
    assert found is not None
    for place, told in ((0, found[1]), (-1, found[2])):
        snapshot = read(paths(runs["odd-pairs"].path)[place])
        maps = [torch.from_numpy(array) for name, array in snapshot.arrays.items() if name.startswith("attention.")]
        bits = [float(torch.distributions.Categorical(rows).entropy().mean()) / np.log(2) for rows in maps]
        assert float(told) == pytest.approx(np.mean(bits), abs=0.006)


def test_without_snapshots_there_is_no_part(runs: dict[str, Run], tmp_path: Path) -> None:
    copy = shutil.copytree(runs["odd-cnn"].path, tmp_path / "copy")
    shutil.rmtree(copy / "snapshots")
    assert part(api.load(copy)) is None


def test_filters_that_began_as_zeros_have_no_share_to_tell() -> None:
    first, last = (Snapshot(step, {}, {"filters": np.full((1, 1, 3, 3), step - 1.0, np.float32)}) for step in (1, 2))
    assert "filters" not in _told([first, last])
    assert "moved by 100 %" in _told([last, Snapshot(3, {}, {"filters": 2 * last.arrays["filters"]})])


def test_a_damaged_and_a_strange_one_are_left_out_and_named(runs: dict[str, Run], tmp_path: Path) -> None:
    copy = shutil.copytree(runs["odd-cnn"].path, tmp_path / "copy")
    first, second, third, last = paths(copy)
    data = bytearray(second.read_bytes())
    data[-100] ^= 1
    second.write_bytes(data)
    shutil.copy(third, first)  # of another step than its name says
    shutil.copy(paths(runs["odd-pairs"].path)[-1], last)
    found = part(api.load(copy))
    assert found is not None
    assert len(found.notes) == 3
    assert "it is of step 4" in found.notes[0]
    assert "step-000002" in found.notes[1]
    assert "damaged" in found.notes[1]
    assert "another run" in found.notes[2]


def test_all_damaged_leaves_the_notes(runs: dict[str, Run], tmp_path: Path) -> None:
    copy = shutil.copytree(runs["odd-cnn"].path, tmp_path / "copy")
    for path in paths(copy):
        path.write_bytes(b"")
    found = part(api.load(copy))
    assert found is not None
    assert not found.figures
    assert len(found.notes) == 4


def test_the_same_run_gives_the_same_part(runs: dict[str, Run], parts: dict[str, Part]) -> None:
    once, again = parts["odd-cnn"], shown(runs["odd-cnn"])
    assert [figure.svg for figure in once.figures] == [figure.svg for figure in again.figures]
    assert str(runs["odd-cnn"].path) not in once.text
