"""A model's folder or file from anywhere, read as what it is: data that a stranger may have made.

No code of it runs, no pickle is obeyed, and no name in it leads out of the folder.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from glassrun.errors import ModelError

CONFIG = "config.json"
_MOST_JSON = 32 * 2**20  # bytes; the index of the largest models has under one


class Folder:
    """A folder that holds a model."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def file(self, name: str) -> Path:
        """A file of the folder.

        Raises:
            ModelError: there is none, or the name leads out of the folder.
        """
        if name in ("", ".", "..") or PurePosixPath(name).name != name or "\\" in name or "\0" in name:
            raise ModelError(f"{self.path}: expected the name of a file in this folder, found {name!r}")
        path = self.path / name
        try:
            target = path.resolve()
            found, is_file = target.exists(), target.is_file()
        except (OSError, ValueError, RuntimeError) as error:  # too long, a loop of links, no Unicode
            raise ModelError(f"{self.path}: {name!r:.100} is no name of a file: {type(error).__name__}") from None
        if not any(target.is_relative_to(root) for root in self._roots()):
            raise ModelError(f"{path}: it is a link that leads out of the folder. Copy the file to where the link is")
        if not is_file:
            raise ModelError(f"{path}: {'it is no file' if found else 'no such file'}")
        return path

    def json(self, name: str) -> dict[str, Any]:
        """A file's JSON object.

        Raises:
            ModelError: there is none, or it is of another form.
        """
        path = self.file(name)
        try:
            if path.stat().st_size > _MOST_JSON:
                raise ModelError(f"{path}: expected at most {_MOST_JSON:,} bytes, found {path.stat().st_size:,}")
            values = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"{path}: expected JSON: {error}") from None
        if not isinstance(values, dict):
            raise ModelError(f"{path}: expected a mapping, found {type(values).__name__}")
        return values

    def _roots(self) -> list[Path]:
        """Where its files may lie: the hub's cache keeps them beside the folder and has links to them in it."""
        own = self.path.resolve()
        return [own, own.parent.parent / "blobs"] if own.parent.name == "snapshots" else [own]
