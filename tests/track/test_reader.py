"""What a run folder tells trackers."""

from __future__ import annotations

import json
import math
import shutil
from datetime import datetime
from pathlib import Path

import pytest

import glassrun as api
from glassrun.errors import RunFolderError
from glassrun.record.run_folder import RunFolder
from glassrun.track import reader
from glassrun.track.reader import Reader
from in_process import trained
from support import Made


@pytest.fixture(scope="module")
def finished(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("finished") / "run"
    return trained(made.recipe("odd-cnn"), run).path


def test_rows_are_the_ledger_and_the_evaluations(finished: Path) -> None:
    folder = RunFolder.open(finished)
    rows = Reader(folder).rows()
    lines, metrics = folder.lines(), folder.metrics()
    assert [row.step for row in rows] == [1, 2, 3, 4, 5, 6]
    for row, line in zip(rows, lines, strict=True):
        assert row.values["train/loss"] == line.step.loss
        assert row.values["train/learning_rate"] == line.step.learning_rate
        assert row.values["train/gradient_norm"] == line.step.gradient_norm
        assert row.values["train/examples_per_second"] == pytest.approx(12 / line.seconds)
    told = {(row.step, name): value for row in rows for name, value in row.values.items() if "train/" not in name}
    assert told == {
        (line["step"], f"{line['split']}/{name}"): line[name] for line in metrics for name in ("loss", "accuracy")
    }


def test_times_follow_from_what_is_recorded(finished: Path) -> None:
    folder = RunFolder.open(finished)
    rows = Reader(folder).rows()
    assert rows == Reader(folder).rows()
    began = datetime.fromisoformat(folder.header["sessions"][0]["started"]).timestamp()
    assert Reader(folder).started == 1000 * began
    seconds = [line.seconds for line in folder.lines()]
    for row in rows:
        assert row.time == pytest.approx(1000 * (began + sum(seconds[: row.step])), abs=1)


@pytest.mark.parametrize("cut", [0, 1, 500])
def test_what_is_added_is_read_once_and_torn_lines_when_they_are_whole(
    cut: int, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    whole = RunFolder.open(finished)
    expected = Reader(whole).rows()
    ledger, metrics = (run / "ledger.jsonl").read_bytes(), (run / "metrics.jsonl").read_bytes()
    folder = RunFolder.open(run)
    (run / "metrics.jsonl").write_bytes(b"")
    (run / "ledger.jsonl").write_bytes(ledger[:cut])
    growing = Reader(folder)
    rows = growing.rows()
    for size in range(cut, len(ledger) + 100, 97):
        (run / "ledger.jsonl").write_bytes(ledger[:size])
        rows += growing.rows()
    (run / "metrics.jsonl").write_bytes(metrics)
    rows += growing.rows()
    assert growing.rows() == []
    together: dict[int, dict[str, float]] = {}
    for row in rows:
        assert row.time == expected[row.step - 1].time
        assert not together.get(row.step, {}).keys() & row.values.keys()
        together.setdefault(row.step, {}).update(row.values)
    assert together == {row.step: dict(row.values) for row in expected}


def test_a_changed_line_is_not_sent(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    folder = RunFolder.open(run)
    path = run / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"epoch": 1', b'"epoch": 2', 1))
    with pytest.raises(RunFolderError, match=r"ledger\.jsonl, line 1"):
        Reader(folder).rows()


def test_what_is_not_finite_is_left_out(made: Made, tmp_path: Path) -> None:
    with pytest.raises(api.GlassrunError):
        trained(made.recipe("odd-cnn", **{"optimizer.lr": 1e30, "optimizer.eps": 1e-30}), tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    assert folder.status == "stopped"
    rows = Reader(folder).rows()
    assert all(math.isfinite(value) for row in rows for value in row.values.values())
    assert "train/learning_rate" in rows[-1].values
    assert reader.tags(folder)["glassrun.status"] == "stopped"


def test_parameters_are_all_fields_of_the_recipe_but_where_it_is_tracked(finished: Path) -> None:
    folder = RunFolder.open(finished)
    found = reader.parameters(folder)
    assert found["optimizer.lr"] == 3e-3
    assert found["model.channels"] == [5, 13]
    assert not any(name.startswith("track") for name in found)
    flat = json.dumps(folder.recipe.plain())
    assert all(name.rpartition(".")[2] in flat for name in found)


def test_tags_say_what_the_run_is(finished: Path) -> None:
    folder = RunFolder.open(finished)
    found = reader.tags(folder)
    assert found["glassrun.chain"] == folder.lines()[-1].chain
    assert found["glassrun.parameters"] == folder.lines()[-1].step.parameters
    assert found["glassrun.steps"] == "6"
    assert found["glassrun.status"] == "complete"
    assert found["glassrun.workers"] == "1"
    for name in ("config_digest", "data_digest"):
        assert found[f"glassrun.{name}"] == folder.header[name]
    assert found["glassrun.code_digest"] == folder.header["code"]["digest"]
    assert found["glassrun.run"] == folder.header["id"]
    assert all(isinstance(value, str) and value for value in found.values())


def test_two_runs_of_one_recipe_have_names_of_their_own(finished: Path, made: Made, tmp_path: Path) -> None:
    again = trained(made.recipe("odd-cnn"), tmp_path / "again").folder
    first = RunFolder.open(finished)
    assert again.lines()[-1].chain == first.lines()[-1].chain
    assert again.header["id"] != first.header["id"]


def test_files_are_those_of_the_folder_and_the_newest_checkpoint_on_demand(finished: Path) -> None:
    folder = RunFolder.open(finished)
    own = [path.name for path in reader.files(folder, with_checkpoint=False)]
    assert set(own) == {
        "code.zip",
        "config.yaml",
        "data.keys",
        "ledger.jsonl",
        "ledger.tensors",
        "metrics.jsonl",
        "run.json",
    }
    more = reader.files(folder, with_checkpoint=True)[len(own) :]
    assert {path.relative_to(finished).as_posix() for path in more} == {
        f"checkpoints/step-000006/{name}" for name in ("model.safetensors", "optimizer.safetensors", "state.json")
    }
