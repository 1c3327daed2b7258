"""A checkpoint's folder: `state.json` and the files whose digests it holds. Reading it needs no torch."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassrun.digest import canonical_json, digest_bytes
from glassrun.errors import RunFolderError
from glassrun.record import words

FORMAT = 1
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"

# What safetensors calls them, and what torch does.
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


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
        texts = [values["chain"], values["metrics"], *(values["files"][name] for name in (MODEL, OPTIMIZER))]
        texts += [values["fingerprints"][what] for what in ("parameters", "buffers", "optimizer")]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a digest or a fingerprint in it is no text")
        for name in ("chain", "metrics", "fingerprints", "files"):
            if not isinstance(values[name], dict if name in ("fingerprints", "files") else str):
                raise ValueError(f"{name} is {values[name]!r}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path / STATE, str(error)) from None
    found = Checkpoint(path, step, values)
    for name in (MODEL, OPTIMIZER):
        found.file(name)
    return found


def fingerprints(checkpoint: Checkpoint) -> dict[str, int]:
    """The fingerprint of every tensor of the model, under its stored name (`head.weight float32 2x3`).

    Raises:
        RunFolderError: its file is not of the safetensors format.
    """
    data = checkpoint.file(MODEL)
    try:
        (length,) = struct.unpack_from("<Q", data)
        listing = json.loads(data[8 : 8 + length])
        listing.pop("__metadata__", None)
        found: dict[str, int] = {}
        for name, entry in listing.items():
            start, stop = (8 + length + int(place) for place in entry["data_offsets"])
            if not 8 + length <= start <= stop <= len(data):
                raise ValueError(f"the tensor {name} lies outside the file")
            shape = "x".join(str(int(size)) for size in entry["shape"]) or "scalar"
            found[f"{name} {_DTYPES[entry['dtype']]} {shape}"] = words.of_bytes(data[start:stop])
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise damaged(checkpoint.path / MODEL, f"not of the safetensors format: {error}") from None
    return found


def damaged(path: Path, reason: str) -> RunFolderError:
    """The error for a checkpoint, or a file of one, that cannot be used."""
    folder = path if path.name.startswith("step-") else path.parent
    return RunFolderError(
        f"{path}: this checkpoint is damaged: {reason}. Restore it from a copy, or remove the folder {folder} "
        "to go on from the checkpoint before it"
    )
