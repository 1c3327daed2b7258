"""A virtual environment with exactly the versions that a run recorded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from glassrun.errors import BundleError
from glassrun.record import requirements

# Run by the new environment's Python, which has nothing of ours.
_VERSIONS = (
    "import importlib.metadata as m, json, re; "
    "print(json.dumps({re.sub('[-_.]+', '-', d.metadata['Name']).lower(): d.version for d in m.distributions()}))"
)


def make(folder: Path, environment: Mapping[str, Any], *, index: str | None, say: Callable[[str], None]) -> Path:
    """Build the recorded environment with pip, which follows its own configuration.

    Arguments:
        folder: made here.
        environment: as `run.json` records it.
        index: an address that pip searches beside those that it is configured to.
        say: called with what is done, as it takes minutes.

    Returns:
        The environment's interpreter.

    Raises:
        BundleError: this machine has not the Python, or pip not the versions.
    """
    wanted = requirements.pinned(environment)
    python = _interpreter(requirements.python_version(environment), say)
    say(f"making a virtual environment with {len(wanted)} packages in {folder}")
    _run([python, "-m", "venv", str(folder)], "the virtual environment cannot be made")
    own = folder / "bin" / "python"
    listing = folder / "requirements.txt"
    listing.write_text("".join(f"{line}\n" for line in wanted), encoding="utf-8")
    # Every package is listed, so none is to be chosen by what another one asks for.
    command = [str(own), "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-deps"]
    command += ["--extra-index-url", index] if index else []
    _run([*command, "-r", str(listing)], "pip could not install the recorded versions")
    _check(own, environment, wanted)
    return own


def _interpreter(version: str, say: Callable[[str], None]) -> str:
    """A Python with the recorded major and minor version."""
    minor = version.rpartition(".")[0]
    here = ".".join(map(str, sys.version_info[:3]))
    if here.rpartition(".")[0] == minor:
        found: str | None = sys.executable
    else:
        found = shutil.which(f"python{minor}")
    if found is None:
        raise BundleError(f"--make-env: the run was recorded on Python {version}, and there is no python{minor} here")
    if found != sys.executable or here != version:
        say(f"the run was recorded on Python {version}; the environment is made with {found}")
    return found


def _check(python: Path, environment: Mapping[str, Any], wanted: list[str]) -> None:
    found = json.loads(_run([str(python), "-c", _VERSIONS], "the new environment does not start"))
    names = {line.partition(" @ ")[0].partition("==")[0] for line in wanted}
    for name, version in environment["packages"].items():
        if name in names and found.get(name) != version:
            raise BundleError(f"--make-env: expected {name} {version}, pip installed {found.get(name)}")


def _run(command: list[str], failure: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise BundleError(f"--make-env: {failure}: {error}") from None
    if done.returncode:
        told = " ".join((done.stderr.strip() or done.stdout.strip()).split())[-600:]
        raise BundleError(f"--make-env: {failure}: {told}")
    return done.stdout
