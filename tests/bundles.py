"""Help for tests of bundles: take one apart and put it together again, as somebody could who is up to no good."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SEAL = b"glassrun bundle 1 "


def entries_of(bundle: Path) -> dict[str, bytes]:
    """Every entry but the manifest."""
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != "manifest.json"}


def manifest_for(entries: Mapping[str, bytes], **fields: Any) -> bytes:
    """A manifest that fits the entries."""
    described = {
        name: {"bytes": len(data), "digest": hashlib.blake2b(data, digest_size=16).hexdigest()}
        for name, data in entries.items()
    }
    return json.dumps({"format": 1, "glassrun": "0.1.0", "entries": described, "data": {}} | fields).encode()


def write(path: Path, entries: Iterable[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    """A zip of these entries in this order, whatever they are, with a seal that fits."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.comment = SEAL + b"0" * 32
        for name, data in entries:
            archive.writestr(name, data)
    return seal(path)


def seal(path: Path) -> Path:
    """Make the seal fit what the file holds now."""
    data = path.read_bytes()[:-32]
    path.write_bytes(data + hashlib.blake2b(data, digest_size=16).hexdigest().encode())
    return path


def forged(path: Path, entries: Mapping[str, bytes], **fields: Any) -> Path:
    """A bundle of these entries, with a manifest and a seal that fit."""
    whole = {**entries, "manifest.json": manifest_for(entries, **fields)}
    return write(path, sorted(whole.items()))
