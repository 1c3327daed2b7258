"""The recorded environment in the forms that people use: pip's requirements, a Conda environment, a Dockerfile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from glassrun.errors import BundleError

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_ADDRESS = re.compile(r"(?:git\+)?(?:https|ssh)://[^\s#'\"\\]+")
_OWN_INDEX = "Versions with a plus sign, such as 2.13.0+cpu, come from an index of the package's own: --extra-index-url"


def pinned(environment: Mapping[str, Any]) -> list[str]:
    """One requirement for each distribution that an installer can get again: exact versions, commits and addresses.

    pip itself, glassrun (whose code a bundle brings along) and what was installed from a folder are not among them.

    Raises:
        BundleError: a name or a version is none.
    """
    return [line for line in _lines(environment) if not line.startswith("#")]


def requirements_txt(environment: Mapping[str, Any]) -> str:
    """For `pip install -r`; what an installer cannot get again stands in comments, with its commit."""
    head = f"# The exact versions of a run on {environment['python']}. {_OWN_INDEX}.\n"
    return head + "".join(f"{line}\n" for line in _lines(environment))


def environment_yml(environment: Mapping[str, Any], name: str) -> str:
    """For `conda env create -f`: Python from Conda, all else from pip, as the run had it."""
    lines = [
        f"# The exact versions of a run. {_OWN_INDEX}.",
        f"name: {name!r}",
        "channels: [conda-forge, nodefaults]",
        "dependencies:",
        f"  - python={python_version(environment)}",
        "  - pip",
        "  - pip:",
        *(f"      - {line!r}" if not line.startswith("#") else f"      {line}" for line in _lines(environment)),
    ]
    return "\n".join(lines) + "\n"


def dockerfile(environment: Mapping[str, Any]) -> str:
    """For `docker build` in the unpacked bundle's folder."""
    return (
        "# The exact versions of a run. Not built when it was packed.\n"
        f"FROM python:{python_version(environment)}-slim\n"
        "WORKDIR /bundle\n"
        "COPY requirements.txt .\n"
        "RUN pip install --no-cache-dir -r requirements.txt\n"
        "# glassrun and what was installed from a folder are not among them: install them here.\n"
        "COPY . .\n"
    )


def python_version(environment: Mapping[str, Any]) -> str:
    """Major, minor and micro of the recorded Python.

    >>> python_version({"python": "CPython 3.11.7"})
    '3.11.7'
    """
    found = re.fullmatch(r"\w+ (\d+\.\d+\.\d+)\S*", environment["python"])
    if not found:
        raise BundleError(
            f"run.json: environment.python: expected a name and a version, found {environment['python']!r}"
        )
    return found.group(1)


def _lines(environment: Mapping[str, Any]) -> list[str]:
    origins = environment["origins"]
    return [_line(name, version, origins.get(name)) for name, version in sorted(environment["packages"].items())]


def _line(name: str, version: str, origin: Mapping[str, Any] | None) -> str:
    # These become arguments of an installer: what is no name could be one of its options.
    if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
        raise BundleError(f"run.json: environment.packages: {name!r} {version!r} is no package and version")
    if name == "glassrun":
        return f"# {name} {version}{_commit(origin)}: the files that ran are in code.zip"
    if name == "pip":
        return f"# {name} {version}: the installer"
    if origin is None:
        return f"{name}=={version}"
    address = str(origin.get("url"))
    if not _ADDRESS.fullmatch(address):
        return f"# {name} {version}{_commit(origin)}: installed from a folder; the files that ran are in code.zip"
    commit = origin.get("commit")
    return f"{name} @ {address}@{commit}" if commit and _VERSION.fullmatch(str(commit)) else f"{name} @ {address}"


def _commit(origin: Mapping[str, Any] | None) -> str:
    git = (origin or {}).get("git")
    if not isinstance(git, Mapping) or not _VERSION.fullmatch(str(git.get("commit"))):
        return ""
    return f" at commit {git['commit']}{' with changes' if git.get('changed') else ''}"
