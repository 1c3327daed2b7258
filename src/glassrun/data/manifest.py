"""The data manifest: what the data of a run are, wherever they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import count, zip_longest
from pathlib import Path
from typing import Any

from glassrun.data.source import Split
from glassrun.digest import digest_value

# Where the bytes came from. They are recorded and compared in messages, but what counts is what came out of them.
_ORIGIN = ("files", "versions")


def manifest(
    source: str,
    *,
    splits: Mapping[str, Split],
    rule: str,
    preprocessing: Sequence[Mapping[str, Any]],
    files: Mapping[str, str] | None = None,
    versions: Mapping[str, str] | None = None,
    left_out: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Describe data as plain values.

    Arguments:
        source: the source's name.
        splits: each gets its number of examples and the digest over them.
        rule: how an example's split follows.
        preprocessing: the steps between the files and the model, with their parameters.
        files: file name (without folders) to digest.
        versions: packages that the data come from.
        left_out: examples of each split that are not used.
    """
    return {
        "source": source,
        "splits": {name: {"examples": len(split), "digest": split.digest()} for name, split in splits.items()},
        "rule": rule,
        "preprocessing": [dict(step) for step in preprocessing],
        "left_out": dict(left_out or {}),
        "files": dict(files or {}),
        "versions": dict(versions or {}),
    }


def manifest_digest(described: Mapping[str, Any]) -> str:
    """The digest of what the data are: equal for equal examples, wherever and in whatever packing they lie."""
    return digest_value({name: value for name, value in described.items() if name not in _ORIGIN})


def file_digest(path: Path) -> str:
    """The digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def file_digests(paths: Iterable[Path]) -> dict[str, str]:
    """The digest of each file by its name without folders; of equal names the second gets a number."""
    found: dict[str, str] = {}
    for path in paths:
        names = (path.name if number == 1 else f"{path.name} ({number})" for number in count(1))
        found[next(name for name in names if name not in found)] = file_digest(path)
    return found


def differences(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """One line for each thing that is not the same; first the packages that the data come from."""
    found: list[str] = []
    for names in (("versions",), sorted({*recorded, *here} - {"versions"})):
        _compare({name: recorded.get(name) for name in names}, {name: here.get(name) for name in names}, "", found)
    return found


def _compare(a: Any, b: Any, where: str, found: list[str]) -> None:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for name in sorted({*a, *b}):
            _compare(a.get(name), b.get(name), f"{where} {name}".strip(), found)
    elif isinstance(a, list) and isinstance(b, list) and all(isinstance(item, Mapping) for item in (*a, *b)):
        for place, (x, y) in enumerate(zip_longest(a, b)):
            _compare(x, y, f"{where} {(x or y).get('step', place)}", found)
    elif a != b:
        found.append(f"{where}: recorded {_short(a)}, here {_short(b)}")


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
