"""What each session of a run was computed with: another environment or other code can be seen afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import glassrun as api
from glassrun.digest import canonical_json, digest_bytes, digest_value
from support import Command, Made, glassrun

MODEL = (
    "from torch import nn\n\n\ndef model(num_classes):\n"
    "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
)


@pytest.fixture(scope="module")
def project(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the user's, and a run of it that was killed just before its end."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "my_model.py").write_text(MODEL)
    recipe = made.recipe("odd-cnn", model={"import": "my_model:model"}, **{"train.steps": 2})
    (folder / "recipe.json").write_text(json.dumps(recipe))
    assert glassrun("train", "recipe.json", "--out", "run", "--workers", 1, cwd=folder).code == 0
    change(folder / "run", status="running", chain=None, steps=None, metrics_digest=None)
    return folder


@pytest.fixture
def interrupted(project: Path, tmp_path: Path) -> Path:
    shutil.copytree(project, tmp_path / "project")
    header = json.loads((project / "run" / "run.json").read_bytes())
    places = [str(tmp_path / "project") if place == str(project) else place for place in header["import_path"]]
    change(tmp_path / "project" / "run", import_path=places)
    return tmp_path / "project" / "run"


def change(run: Path, **values: Any) -> None:
    """Fields of `run.json`, None to take one away, with a checksum that fits."""
    header = json.loads((run / "run.json").read_bytes()) | values
    del header["checksum"]
    header = {name: value for name, value in header.items() if value is not None or name == "reason"}
    header["checksum"] = digest_bytes(canonical_json(header).encode())
    (run / "run.json").write_text(json.dumps(header))


Resumed = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def resumed(interrupted: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> Resumed:
    """Goes on with the run and returns its sessions."""

    def call() -> list[dict[str, Any]]:
        monkeypatch.chdir(interrupted.parent)
        done = command("resume", interrupted, "--workers", 1)
        assert done.code == 0, done.err
        sessions: list[dict[str, Any]] = api.load(interrupted).folder.header["sessions"]
        return sessions

    return call


def test_a_session_on_the_same_environment_has_the_same_digests(interrupted: Path, resumed: Resumed) -> None:
    header = api.load(interrupted).folder.header
    first, second = resumed()
    assert first["numerics"] == second["numerics"] == digest_value(header["environment"]["numerics"])
    assert first["code"] == second["code"] == header["code"]["digest"]
    assert second["after_step"] == 2
    assert not {"environment", "changed_code"} & second.keys()


def test_a_session_elsewhere_or_with_other_code_says_what_it_was(interrupted: Path, resumed: Resumed) -> None:
    environment = json.loads((interrupted / "run.json").read_bytes())["environment"]
    here = dict(environment["numerics"])
    environment["numerics"]["cpu"] = "Another CPU 9000"
    change(interrupted, environment=environment)
    changed = f"# as it was\n{MODEL}"
    (interrupted.parent / "my_model.py").write_text(changed)
    first, second = resumed()
    assert second["environment"] == here
    assert second["numerics"] == digest_value(here)
    assert second["changed_code"] == {"my_model.py": digest_bytes(changed.encode())}
    assert second["code"] != first["code"]
