"""A batch of any form as named leaves in one canonical order, so that equal batches have equal fingerprints."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glassrun.record.fingerprint import stored_name
from glassrun.record.readings import Reading, readable

_DEEPEST = 32


@dataclass(frozen=True)
class Leaves:
    """What a batch holds.

    Attributes:
        entries: name and fingerprint of each leaf; the name holds type and shape.
        examples: as `length` counts them.
        unread: the types of what cannot be read.
    """

    entries: list[tuple[str, Reading]]
    examples: int
    unread: list[str]


def read(batch: Any, fingerprints: Callable[[Sequence[Tensor]], list[Reading]]) -> Leaves:
    """The leaves of tensors, arrays, numbers, texts and bytes in nested mappings, sequences, sets and dataclasses.

    Mappings go by the text of their keys, whatever order they were filled in.

    Arguments:
        batch: None stands for no batch.
        fingerprints: reads tensors.
    """
    found = [] if batch is None else list(_leaves(batch, "batch"))
    tensors = {name: leaf for name, leaf in found if isinstance(leaf, Tensor) and readable(leaf)}
    readings = dict(zip(tensors, fingerprints(list(tensors.values())), strict=True))
    entries: list[tuple[str, Reading]] = []
    unread = []
    for name, leaf in found:
        if name in readings:
            entries.append((stored_name(name, leaf), readings[name]))
        elif (text := _as_bytes(leaf)) is not None:
            kind, data = text
            entries.append((f"{name} {kind}", int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")))
        else:
            entries.append((f"{name} {type(leaf).__qualname__} unread", 0))
            unread.append(type(leaf).__qualname__)
    return Leaves(entries, _length(found), unread)


def length(batch: Any) -> int:
    """How many examples a batch holds: the length of its first tensor or array, 0 where there is none."""
    return _length(_leaves(batch, "batch"))


def _length(leaves: Iterable[tuple[str, Any]]) -> int:
    return next((len(leaf) for _, leaf in leaves if isinstance(leaf, (Tensor, np.ndarray)) and leaf.ndim), 0)


def _leaves(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    inner: list[tuple[str, Any]]
    if depth > _DEEPEST:  # it may hold itself
        yield name, object()
        return
    if isinstance(value, Mapping):
        inner = sorted(((repr(key), value[key]) for key in value), key=lambda entry: entry[0])
    elif is_dataclass(value) and not isinstance(value, type):
        inner = [(field.name, getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, Set):
        inner = [(str(place), item) for place, item in enumerate(sorted(value, key=repr))]
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview)):
        inner = [(str(place), item) for place, item in enumerate(value)]
    elif isinstance(value, np.ndarray) and value.dtype.hasobject:
        inner = [(str(place), item) for place, item in enumerate(value.reshape(-1).tolist())]
    else:
        yield name, value
        return
    # An empty list is something. A loader may make lists of tuples, so all sequences are alike.
    yield f"{name}{'{}' if isinstance(value, Mapping) else '[]'}", len(inner)
    for key, item in inner:
        yield from _leaves(item, f"{name}[{key}]", depth + 1)


def _as_bytes(leaf: Any) -> tuple[str, bytes] | None:
    """The kind and the bytes of a leaf that is no tensor, or None where it cannot be read."""
    if isinstance(leaf, (np.ndarray, np.generic)):
        shape = "x".join(map(str, leaf.shape)) or "scalar"
        return f"numpy {leaf.dtype.str} {shape}", np.ascontiguousarray(leaf).tobytes()
    if isinstance(leaf, enum.Enum):
        return "enum", f"{type(leaf).__qualname__}.{leaf.name}".encode()
    if isinstance(leaf, str):
        return "str", leaf.encode("utf-8", "surrogatepass")
    if isinstance(leaf, (bytes, bytearray, memoryview)):
        return "bytes", bytes(leaf)
    if isinstance(leaf, float):
        return "float", leaf.hex().encode()
    if isinstance(leaf, (bool, int, complex, type(None), torch.dtype, torch.device)):
        return type(leaf).__name__, repr(leaf).encode()
    return None
