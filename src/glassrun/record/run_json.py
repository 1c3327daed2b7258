"""`run.json`, the header of a run: written with a checksum, read defensively."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassrun.digest import canonical_json, digest_bytes
from glassrun.errors import RunFolderError

FORMAT = 1
TRAINED, RECORDED = "trained", "recorded"  # from a recipe, or by another program's loop


def encode(header: Mapping[str, Any]) -> bytes:
    """The file's content.

    Raises:
        RunFolderError: a value cannot be written as UTF-8.
    """
    try:
        checksum = digest_bytes(canonical_json(header).encode())
    except UnicodeEncodeError as error:
        wrong = error.object[max(error.start - 40, 0) : error.end + 40]
        raise RunFolderError(
            f"run.json holds text in UTF-8, and here is something else, as in the name of a folder: {wrong!a}. "
            "Rename it"
        ) from None
    return (json.dumps({**header, "checksum": checksum}, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read(path: Path) -> dict[str, Any]:
    """What it says, its checksum and format checked.

    Raises:
        RunFolderError: it is missing, changed, or of another format.
    """
    try:
        header = json.loads(path.read_bytes())
        checksum = header.pop("checksum") if isinstance(header, dict) else None
        unchanged = checksum == digest_bytes(canonical_json(header).encode())
    except FileNotFoundError:
        raise RunFolderError(f"{path.parent}: this is no run folder: it has no run.json") from None
    except KeyError:
        raise RunFolderError(f"{path}: not the header of a run: it has no checksum") from None
    except (ValueError, OSError, RecursionError) as error:
        raise RunFolderError(f"{path}: cannot be read: {error}. Restore it from a copy") from None
    if not isinstance(header, dict):
        raise RunFolderError(f"{path}: not the header of a run: it has no checksum")
    if not unchanged:
        raise RunFolderError(f"{path}: its checksum does not match its content: it was changed. Restore it from a copy")
    if header.get("format") != FORMAT:
        raise RunFolderError(f"{path}: format {header.get('format')}; this glassrun reads format {FORMAT}")
    if header.get("kind") not in (TRAINED, RECORDED):
        raise RunFolderError(f"{path}: expected the kind {TRAINED} or {RECORDED}, found {header.get('kind')!r}")
    return header
