"""What git knows of the code that ran: commits, what differs from them, and the submodules'."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from glassrun.digest import digest_bytes

# Changed and untracked files with these endings are named with their digests; of others there may be any number.
_SOURCES = (
    ".c",
    ".cc",
    ".cpp",
    ".cu",
    ".cuh",
    ".cxx",
    ".h",
    ".hpp",
    ".ipynb",
    ".pxd",
    ".py",
    ".pyi",
    ".pyx",
    ".rs",
    ".sh",
)
_MOST_FILES = 1000
_MOST_BYTES = 2**20
# Set inside a git hook, these would make git speak of another repository than the folder's.
_MISLEADING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")


def repositories(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """The git state of each repository that one of the folders lies in, each once; for `run.json`."""
    tops = {top for folder in folders if (top := _git(folder, "rev-parse", "--show-toplevel"))}
    return [found for top in sorted(tops) if (found := repository(Path(top)))]


def repository(folder: Path) -> dict[str, Any] | None:
    """The state of the repository that a folder lies in, or None where there is none, or no commit yet.

    Returns:
        `repository` (its folder's name), `commit`, `branch` (None if detached), `description` (nearest tag), `changed`
        (whether a tracked file differs from the commit), `changed_files` and `untracked_files` (source files by path,
        each with its digest; None for one that is gone or large), `files_left_out` (how many more of those there are),
        `submodules` (the same of each by path; None for one that is not checked out). What git could not tell in time
        is None. Remotes are not in it: their addresses can hold passwords.
    """
    commit, top = _git(folder, "rev-parse", "HEAD"), _git(folder, "rev-parse", "--show-toplevel")
    if commit is None or top is None:
        return None
    root = Path(top)
    return {
        "repository": root.name,
        "commit": commit,
        "branch": _git(root, "symbolic-ref", "--short", "-q", "HEAD"),
        "description": _git(root, "describe", "--tags", "--always"),
        **_differences(root),
        "submodules": _submodules(root),
    }


def _differences(root: Path) -> dict[str, Any]:
    """What differs from the commit, and what git does not track and was not told to ignore."""
    text = _git(root, "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all")
    if text is None:
        return {"changed": None, "changed_files": None, "untracked_files": None, "files_left_out": None}
    entries = [(entry[:2], entry[3:]) for entry in text.split("\0") if entry]
    changed = _sources(path for state, path in entries if state != "??")
    untracked = _sources(path for state, path in entries if state == "??")
    return {
        "changed": any(state != "??" for state, _ in entries),
        "changed_files": {path: _digest(root / path) for path in changed[:_MOST_FILES]},
        "untracked_files": {path: _digest(root / path) for path in untracked[:_MOST_FILES]},
        "files_left_out": sum(max(0, len(paths) - _MOST_FILES) for paths in (changed, untracked)),
    }


def _sources(paths: Iterable[str]) -> list[str]:
    return sorted(path for path in paths if path.lower().endswith(_SOURCES))


def _digest(path: Path) -> str | None:
    try:
        return digest_bytes(path.read_bytes()) if path.stat().st_size <= _MOST_BYTES else None
    except OSError:
        return None


def _submodules(root: Path) -> dict[str, Any]:
    """Of the repository's own submodules; theirs are in their own record."""
    if not (root / ".gitmodules").exists():
        return {}
    text = _git(root, "ls-files", "--stage", "-z") or ""
    paths = [entry.partition("\t")[2] for entry in text.split("\0") if entry.startswith("160000 ")]
    # Where a submodule is not checked out, git would answer for the repository around it.
    return {path: repository(root / path) if (root / path / ".git").exists() else None for path in sorted(paths)}


def _git(folder: Path, *arguments: str) -> str | None:
    """What a git command prints, or None where it fails, or there is no git."""
    variables = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            timeout=30,
            check=True,
            env=variables | {"GIT_OPTIONAL_LOCKS": "0"},  # looking must change nothing
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="backslashreplace").removesuffix("\n")
