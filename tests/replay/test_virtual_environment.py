"""A virtual environment with the recorded versions, made by a real pip from wheels that the test writes itself."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from glassrun.errors import BundleError
from glassrun.replay.virtual_environment import make


def wheel(folder: Path, name: str, version: str, requires: str = "") -> None:
    """A package of one module that knows its version."""
    information = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{information}/METADATA": metadata + (f"Requires-Dist: {requires}\n" if requires else ""),
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text.encode())}\n")
    files[f"{information}/RECORD"] = "".join(lines) + f"{information}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only place that pip is configured to look."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels


def environment(**packages: str) -> dict[str, Any]:
    here = ".".join(map(str, sys.version_info[:3]))
    return {"python": f"CPython {here}", "packages": packages, "origins": {}}


def test_it_has_exactly_the_recorded_versions(configured: Path, tmp_path: Path) -> None:
    """Also where a package asks for another version of one: what ran is what is installed."""
    for version in ("1.0", "2.0"):
        wheel(configured, "kiln", version)
    wheel(configured, "bead", "3.1", requires="kiln>=2")
    said: list[str] = []
    recorded = environment(bead="3.1", kiln="1.0", glassrun="0.1.0", pip="0.1")
    python = make(tmp_path / "environment", recorded, index=None, say=said.append)
    script = "import kiln, bead, importlib.util as u; print(kiln.VERSION, bead.VERSION, u.find_spec('torch'))"
    done = subprocess.run([str(python), "-I", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1.0", "3.1", "None"]
    assert said == [f"making a virtual environment with 2 packages in {tmp_path / 'environment'}"]


def test_a_version_that_pip_cannot_get_is_said(configured: Path, tmp_path: Path) -> None:
    wheel(configured, "kiln", "1.0")
    with pytest.raises(BundleError, match=r"pip could not install the recorded versions: .*kiln==9"):
        make(tmp_path / "environment", environment(kiln="9"), index=None, say=lambda _: None)


def test_another_micro_version_of_python_is_said(tmp_path: Path) -> None:
    major, minor = sys.version_info[:2]
    recorded = environment() | {"python": f"CPython {major}.{minor}.99"}
    said: list[str] = []
    make(tmp_path / "environment", recorded, index=None, say=said.append)
    assert said[0].startswith(f"the run was recorded on Python {major}.{minor}.99; the environment is made with ")
