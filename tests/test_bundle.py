"""Bundles through the command line: what would run is shown, what runs is the recorded code, on the bundled data."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import glassrun as api
from bundles import entries_of, forged
from glassrun import bundle as bundles
from glassrun.bundle import as_text
from glassrun.digest import canonical_json, digest_bytes
from glassrun.errors import GlassrunError
from glassrun.record.ledger import Line, link
from support import Command, Done, Made, glassrun

pytestmark = pytest.mark.usefixtures("warm_workers")

MODEL = (
    "from torch import nn\nfrom my_layers import WIDTH\n\n\ndef model(num_classes):\n"
    "    return nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, num_classes))\n"
)


def refused(done: Done) -> str:
    """One clear message, exit code 2, no traceback, and no verdict."""
    assert done.code == 2, done
    assert "Traceback" not in done.err + done.out
    assert "identical" not in done.out
    assert "different:" not in done.out
    assert any(line.startswith("error: ") for line in done.err.splitlines()), done.err
    return done.err


@pytest.fixture(scope="module")
def packed(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a model of the user's, packed with everything; the project that it came from is gone."""
    home, project = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("project")
    (project / "my_model.py").write_text(MODEL)
    (project / "my_layers.py").write_text("WIDTH = 13\n")
    for name in ("images", "labels"):
        shutil.copy(made.folder / name, project)
    recipe = made.recipe("odd-cnn", model={"import": "my_model:model"}, **{"train.steps": 4})
    recipe["data"]["path"] = "images,labels"
    (project / "recipe.json").write_text(json.dumps(recipe))
    done = glassrun("train", "recipe.json", "--out", "run", "--workers", 1, cwd=project)
    assert done.code == 0, done.err
    bundle = home / "run.glassrun"
    done = glassrun("pack", "run", "--out", bundle, "--with-data", "--with-checkpoints", "--json", cwd=project)
    assert done.json == {"bundle": str(bundle), "bytes": bundle.stat().st_size}
    shutil.rmtree(project)
    return bundle


@pytest.fixture(scope="module")
def chain(packed: Path) -> str:
    return str(json.loads(entries_of(packed)["run.json"])["chain"])


# --- without trust ---------------------------------------------------------------------------------------------------


def test_without_trust_it_shows_what_would_run_and_runs_nothing(packed: Path, chain: str, command: Command) -> None:
    done = command("replay", packed)
    assert "--trust" in refused(done)
    for part in (
        str(packed),
        chain,
        "my_model.py",
        "my_layers.py",
        "my_model:model",
        "4 steps",
        "in the bundle",
        "step 2",
    ):
        assert part in done.out
    assert "step 1/4" not in done.err


def test_the_same_as_json(packed: Path, chain: str, command: Command) -> None:
    done = command("replay", packed, "--json")
    assert done.code == 2
    found = done.json
    assert found["chain"] == chain
    assert found["code"]["own"] == ["my_layers.py", "my_model.py"]
    assert found["code"]["changed"] == []
    assert found["data"]["bundled"] is True
    assert found["checkpoints"] == [2, 4]
    assert found["environment"] == []
    assert found["unpacked_bytes"] > found["bytes"] > 0


def test_code_and_versions_that_are_not_those_here_are_named(packed: Path, tmp_path: Path) -> None:
    def change(header: dict[str, Any]) -> None:
        header["environment"]["packages"]["numpy"] = "0.1"
        header["environment"]["packages"]["absent-package"] = "3"
        header["environment"]["numerics"]["cpu"] = "Another CPU 9000"
        header["environment"]["python"] = "CPython 2.7.18"

    path = with_header(packed, tmp_path, change)
    found = bundles.preview(path)["environment"]
    assert found[0].startswith("cpu: recorded Another CPU 9000, here ")
    assert "python: recorded CPython 2.7.18" in found[1]
    assert "absent-package: recorded 3, here not installed" in found
    assert any(line.startswith("numpy: recorded 0.1, here ") for line in found)


def test_terminals_are_not_told_to_hide_anything(packed: Path, tmp_path: Path) -> None:
    path = with_header(
        packed, tmp_path, lambda header: header["environment"]["packages"].update(evil="1\x1b[2K\rpackages fine\n")
    )
    shown = as_text(bundles.preview(path))
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert "\\x1b[2K\\r" in shown


# --- with trust ------------------------------------------------------------------------------------------------------


def test_with_trust_it_runs_the_recorded_code_on_the_bundled_data(packed: Path, chain: str, tmp_path: Path) -> None:
    """Modules of the same names in the working folder are not what the run recorded."""
    (tmp_path / "my_model.py").write_text("1 / 0\n")
    (tmp_path / "my_layers.py").write_text("WIDTH = 7\n")
    done = glassrun("replay", packed, "--trust", "--workers", 1, cwd=tmp_path)
    assert done.code == 0, done.err
    assert f"identical: 4 steps (1 to 4) and 3 evaluations gave the recorded bits; chain {chain}" in done.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my_layers.py", "my_model.py"]


@pytest.mark.long
def test_a_part_of_it_kept_where_the_user_wants(packed: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept here"
    done = glassrun("replay", packed, "--trust", "--from", 3, "--to", 4, "--unpack", kept, "--json")
    assert done.json["steps_identical"] == 2
    assert done.json["identical"] is True
    assert glassrun("show", kept, "--json").json["steps"] == 4
    assert (kept / "code" / "my_model.py").read_text() == MODEL
    assert "nothing is overwritten" in refused(glassrun("replay", packed, "--trust", "--unpack", kept))


def test_a_forged_run_is_different_and_not_identical(packed: Path, command: Command, tmp_path: Path) -> None:
    """Every digest, checksum, chain and seal was made to fit again: what counts is what comes out."""
    done = command("replay", with_step(packed, tmp_path, 2, parameters="0" * 16), "--trust", "--workers", 1)
    assert done.code == 1
    assert done.out.startswith("different: step 2: phase optimizer")


def test_without_its_data_it_says_so_and_takes_them_from_elsewhere(
    packed: Path, made: Made, command: Command, tmp_path: Path
) -> None:
    entries = {name: data for name, data in entries_of(packed).items() if not name.startswith("data/")}
    path = forged(tmp_path / "b.glassrun", entries)
    assert "not in the bundle: --data-path" in command("replay", path).out
    assert "--data-path" in refused(command("replay", path, "--trust"))
    data = f"{made.folder / 'images'},{made.folder / 'labels'}"
    assert command("replay", path, "--trust", "--data-path", data, "--to", 1, "--workers", 1).code == 0


def test_options_that_would_be_ignored_are_errors(packed: Path, command: Command, tmp_path: Path) -> None:
    assert "--index goes with --make-env" in refused(command("replay", packed, "--trust", "--index", "x"))
    bundles.open_bundle(packed).unpack(tmp_path / "run")
    assert "--trust" in refused(command("replay", tmp_path / "run", "--trust"))
    assert "--unpack and --make-env" in refused(command("replay", tmp_path / "run", "--unpack", "x", "--make-env"))


def test_a_python_that_is_not_here(packed: Path, command: Command, tmp_path: Path) -> None:
    path = with_header(packed, tmp_path, lambda header: header["environment"].update(python="CPython 1.5.2"))
    assert "there is no python1.5 here" in refused(command("replay", path, "--trust", "--make-env"))


@pytest.mark.long
def test_the_recorded_versions_are_built_and_run_in(packed: Path, tmp_path: Path) -> None:
    torch = f"torch=={json.loads(entries_of(packed)['run.json'])['environment']['packages']['torch']}"
    pip = [sys.executable, "-m", "pip", "--quiet", "install", "--dry-run", "--ignore-installed", "--no-deps"]
    if subprocess.run([*pip, torch], capture_output=True).returncode:
        pytest.skip(f"pip can get no {torch} here: its indexes have none")
    kept = tmp_path / "kept"
    done = glassrun("replay", packed, "--trust", "--make-env", "--unpack", kept, "--to", 2)
    assert done.code == 0, done.err
    python = kept / "environment" / "bin" / "python"
    listed = subprocess.run([str(python), "-m", "pip", "freeze", "--all"], capture_output=True, text=True, check=True)
    wanted = (kept / "environment" / "requirements.txt").read_text().splitlines()
    assert torch in wanted
    pins = (line.partition("==") for line in listed.stdout.splitlines())
    assert {f"{re.sub('[-_.]+', '-', name).lower()}=={version}" for name, _, version in pins} >= set(wanted)


def test_a_run_that_is_being_written_or_has_no_step_is_not_packed(
    packed: Path, command: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    bundles.open_bundle(packed).unpack(run)
    folder = api.load(run).folder
    folder.lock()
    assert "another process is writing" in refused(command("pack", run))
    folder.unlock()
    header = json.loads((run / "run.json").read_bytes())
    for name in ("checksum", "chain", "metrics_digest"):
        del header[name]
    header["status"] = "running"
    header["checksum"] = digest_bytes(canonical_json(header).encode())
    (run / "run.json").write_text(json.dumps(header))
    for name in ("ledger.jsonl", "metrics.jsonl"):
        (run / name).write_bytes(b"")
    assert "no step yet" in refused(command("pack", run))
    assert not (tmp_path / "run.glassrun").exists()


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_damaged_bundle_is_refused(packed: Path, command: Command, tmp_path: Path) -> None:
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "b.glassrun").write_bytes(data)
    assert "damaged" in refused(glassrun("replay", tmp_path / "b.glassrun", "--trust"))
    (tmp_path / "b.glassrun").write_bytes(packed.read_bytes()[:-1])
    assert "cut off" in refused(command("replay", tmp_path / "b.glassrun"))


def test_a_bundle_that_is_refused_leaves_nothing_behind(packed: Path, command: Command, tmp_path: Path) -> None:
    entries = entries_of(packed)
    path = forged(tmp_path / "b.glassrun", entries | {"ledger.jsonl": entries["ledger.jsonl"][1:]})
    told = refused(command("replay", path, "--trust", "--unpack", tmp_path / "kept"))
    assert f"{path}: ledger.jsonl, line 1" in told
    assert not (tmp_path / "kept").exists()


LEDGER_CHANGES = ("missing", "repeated", "swapped", "byte", "joined", "emptied")


def changed_lines(lines: list[bytes], what: str, data: st.DataObject) -> list[bytes]:
    """Lines that are missing, repeated, out of order, or have another byte."""
    place = data.draw(st.integers(0, len(lines) - 1))
    found = list(lines)
    if what == "missing":
        del found[place]
    elif what == "repeated":
        found.insert(data.draw(st.integers(0, len(lines))), found[place])
    elif what == "swapped":
        other = data.draw(st.integers(0, len(lines) - 1).filter(lambda other: other != place))
        found[place], found[other] = found[other], found[place]
    elif what == "byte":
        line = bytearray(found[place])
        line[data.draw(st.integers(0, len(line) - 1))] ^= data.draw(st.integers(1, 255))
        found[place] = bytes(line)
    elif what == "joined":
        found[place] = found[place].rstrip(b"\n")
    else:
        found[place] = b"\n"
    return found


@pytest.mark.parametrize("name", ["ledger.jsonl", "metrics.jsonl"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_lines_that_are_changed_missing_repeated_or_out_of_order(
    name: str, data: st.DataObject, packed: Path, command: Command, tmp_path_factory: Any
) -> None:
    """In a bundle whose manifest and seal fit again, and in the folder: a clear error each time, never a verdict."""
    entries = entries_of(packed)
    lines = entries[name].splitlines(keepends=True)
    found = b"".join(changed_lines(lines, data.draw(st.sampled_from(LEDGER_CHANGES)), data))
    if found == entries[name]:
        return
    folder = tmp_path_factory.mktemp("lines")
    path = forged(folder / "b.glassrun", entries | {name: found})
    assert name in refused(command("replay", path, "--trust"))
    bundles.open_bundle(path).unpack(folder / "run")
    assert name in refused(command("show", folder / "run"))
    assert name in refused(command("pack", folder / "run"))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_header_of_another_form_under_checksums_that_fit(
    data: st.DataObject, packed: Path, command: Command, tmp_path_factory: Any
) -> None:
    """Whoever can write a file can write its checksum; a field that is gone or of another type must not crash."""
    path: list[str] = []

    def change(header: dict[str, Any]) -> None:
        values: Any = header
        while isinstance(values, dict) and values and len(path) < 3:
            path.append(data.draw(st.sampled_from(sorted(values))))
            inner = values[path[-1]]
            if not isinstance(inner, dict) or not inner or data.draw(st.booleans()):
                break
            values = inner
        odd = data.draw(st.sampled_from([None, [], {}, "", "evil", -1, 2**70, 0.5, True, [[]], {"a": {}}, "random"]))
        if data.draw(st.booleans()):
            del values[path[-1]]
        else:
            values[path[-1]] = odd

    folder = tmp_path_factory.mktemp("header")
    bundle = with_header(packed, folder, change)
    with suppress(GlassrunError), bundles._place(folder / "unpacked") as place:
        contents = bundles._contents(bundles.open_bundle(bundle), place, whole=True)
        assert as_text(bundles._described(contents, contents.folder.header["environment"]))
        return  # it is a run still: another name, for example
    assert "Traceback" not in refused(command("replay", bundle, "--trust"))


def with_header(packed: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The bundle with another `run.json`, and all that depends on it made to fit."""
    entries = entries_of(packed)
    header = json.loads(entries["run.json"])
    del header["checksum"]
    change(header)
    header["checksum"] = digest_bytes(canonical_json(header).encode())
    entries["run.json"] = json.dumps(header).encode()
    return forged(folder / "b.glassrun", entries, data={"path": ["data/path/0/images", "data/path/1/labels"]})


def with_step(packed: Path, folder: Path, step: int, **changes: Any) -> Path:
    """The bundle with another step in its ledger, and all that depends on it made to fit."""
    bundles.open_bundle(packed).unpack(folder / "run")
    run = api.load(folder / "run")
    value, lines = str(run.folder.header["identity"]), []
    for line in run.ledger:
        changed = type(line.step)(**{**line.step.__dict__, **(changes if line.step.step == step else {})})
        value = link(value, changed)
        lines.append(Line(changed, value, line.seconds).encode())
    entries = {name: data for name, data in entries_of(packed).items() if not name.startswith("checkpoints/")} | {
        "ledger.jsonl": b"".join(lines)
    }
    (folder / "with-ledger").mkdir()
    base = forged(folder / "with-ledger" / "b.glassrun", entries)
    return with_header(base, folder, lambda header: header.update(chain=value))
