"""A checkpoint's folder: `state.json` and the files whose digests it holds. Reading it needs no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassrun.digest import canonical_json, digest_bytes
from glassrun.errors import RunFolderError

FORMAT = 1
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder and what its `state.json` says."""

    path: Path
    step: int
    values: dict[str, Any]

    def file(self, name: str) -> bytes:
        """The content of one of its files.

        Raises:
            RunFolderError: it is missing or was changed.
        """
        path = self.path / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise damaged(path, error.strerror or str(error)) from None
        if digest_bytes(data) != self.values["files"].get(name):
            raise damaged(path, "its digest is not the recorded one: it was changed after it was written")
        return data


def path_of(folder: Path, step: int) -> Path:
    """Where a run folder keeps the checkpoint of a step."""
    return folder / "checkpoints" / f"step-{step:06d}"


def read(path: Path) -> Checkpoint:
    """A checkpoint, its `state.json` and the digests of its files checked.

    Raises:
        RunFolderError: a file is missing or was changed.
    """
    try:
        values = json.loads((path / STATE).read_bytes())
        checksum = values.pop("checksum")
        if checksum != digest_bytes(canonical_json(values).encode()):
            raise ValueError("its checksum does not match its content")
        step = int(values["step"])
        if values["format"] != FORMAT or f"step-{step:06d}" != path.name:
            raise ValueError(f"it is of format {values['format']} and step {step}")
        for name in ("chain", "metrics", "fingerprints", "files"):
            if not isinstance(values[name], dict if name in ("fingerprints", "files") else str):
                raise ValueError(f"{name} is {values[name]!r}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path / STATE, str(error)) from None
    found = Checkpoint(path, step, values)
    for name in (MODEL, OPTIMIZER):
        found.file(name)
    return found


def damaged(path: Path, reason: str) -> RunFolderError:
    """The error for a checkpoint, or a file of one, that cannot be used."""
    folder = path if path.name.startswith("step-") else path.parent
    return RunFolderError(
        f"{path}: this checkpoint is damaged: {reason}. Restore it from a copy, or remove the folder {folder} "
        "to go on from the checkpoint before it"
    )
