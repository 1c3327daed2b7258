"""The keys of all examples of a data set: kept in lock files and run folders, and compared to name what changed.

A key stands for an example's own content (see `data.source.Split`), so no data are needed to say which examples of a
recorded data set are changed, missing, added or in another order.
"""

from __future__ import annotations

import json
import struct
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from glassrun.digest import canonical_json
from glassrun.errors import DataError

if TYPE_CHECKING:
    from glassrun.data.source import Split

Keys = Mapping[str, Sequence[bytes]]  # of each split, in its order; 16 bytes each
Kind = Literal["changed", "missing", "added", "reordered"]

KEY_BYTES = 16
_MAGIC = b"glassrun keys 1\n"
_MOST_PAIRS = 10**6  # that are compared in one place in full; beyond, frequent keys are left out of the search
_SHOWN = 3  # examples that are named in a sentence


@dataclass(frozen=True)
class Place:
    """An example that is not as recorded: its index and key as recorded and as found, None where it is not there."""

    index: int | None
    found_index: int | None
    key: str | None
    found_key: str | None


@dataclass(frozen=True)
class Finding:
    """All examples of a split with which the same has happened.

    Arguments:
        split: its name.
        kind: changed, missing, added or reordered.
        places: of the examples, in the order in which they were recorded or, if added, found.
        recorded: how many examples the split had.
    """

    split: str
    kind: Kind
    places: tuple[Place, ...]
    recorded: int

    @property
    def count(self) -> int:
        return len(self.places)

    def to_plain(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "kind": self.kind,
            "count": self.count,
            "recorded": self.recorded,
            "examples": [vars(place) for place in self.places],
        }


def keys_of(splits: Mapping[str, Split]) -> dict[str, list[bytes]]:
    """The keys of every split."""
    return {name: split.keys() for name, split in splits.items()}


# --- comparing -------------------------------------------------------------------------------------------------------


def compare(recorded: Keys, found: Keys) -> list[Finding]:
    """What has happened to the examples of each split; empty if, and only if, all are the same in the same order.

    An example that stands between the same neighbours with another content is changed. Those that are only further
    along because others were added or are missing before them are not reordered.

    >>> [(f.kind, f.count) for f in compare({"train": [b"a", b"b", b"c"]}, {"train": [b"a", b"x", b"c", b"d"]})]
    [('changed', 1), ('added', 1)]
    """
    findings = []
    for split in dict.fromkeys((*recorded, *found)):
        before, after = list(recorded.get(split, ())), list(found.get(split, ()))
        kinds: dict[Kind, list[Place]] = {"changed": [], "missing": [], "added": [], "reordered": []}
        for index, found_index in _pairs(before, after) if before != after else ():
            key = None if index is None else before[index]
            found_key = None if found_index is None else after[found_index]
            kind: Kind = "reordered" if key == found_key else "changed"
            if key is None or found_key is None:
                kind = "added" if key is None else "missing"
            kinds[kind].append(Place(index, found_index, _hex(key), _hex(found_key)))
        findings += [
            Finding(split, kind, tuple(sorted(places, key=_order)), len(before))
            for kind, places in kinds.items()
            if places
        ]
    return findings


def _hex(key: bytes | None) -> str | None:
    return None if key is None else key.hex()


def describe(findings: Sequence[Finding], source: str) -> list[str]:
    """One line for each finding: the split, how many, and the first few by index and key.

    Arguments:
        findings: see `compare`.
        source: the data source's name; a text is told by its lines.
    """
    return [_sentence(finding, source) for finding in findings]


def _sentence(finding: Finding, source: str) -> str:
    lines = source in ("text", "python-topics")
    total = f"{finding.recorded} {'lines' if lines else 'examples'}"
    added = finding.kind == "added"
    how_many = f"{finding.count} added to {total}" if added else f"{finding.count} of {total} {finding.kind}"
    shown = [_named(place, lines=lines) for place in finding.places[:_SHOWN]]
    return f"{finding.split}: {how_many}: {', '.join(shown)}{', …' if finding.count > _SHOWN else ''}"


def _named(place: Place, *, lines: bool) -> str:
    """Where an example is and was, and the start of its keys; people count lines from 1."""
    indices = [index for index in (place.index, place.found_index) if index is not None]
    keys = [key[:12] for key in dict.fromkeys((place.key, place.found_key)) if key]
    name, first = ("line", 1) if lines else ("index", 0)
    now = f", now {indices[-1] + first}" if indices[-1] != indices[0] else ""
    return f"{name} {indices[0] + first}{now} (key {', now '.join(keys)})"


def _order(place: Place) -> tuple[int, int]:
    return (
        -1 if place.index is None else place.index,
        -1 if place.found_index is None else place.found_index,
    )


def _pairs(before: list[bytes], after: list[bytes]) -> Iterator[tuple[int | None, int | None]]:
    """(index before, index after) of all that is not the same; None on the side where there is none.

    What both begin and end with is left out first, since most data change in few places.
    """
    shorter = min(len(before), len(after))
    head = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    tail = next((i for i in range(shorter - head) if before[-1 - i] != after[-1 - i]), shorter - head)
    for index, found_index in _inside(before[head : len(before) - tail], after[head : len(after) - tail]):
        yield None if index is None else index + head, None if found_index is None else found_index + head


def _inside(before: list[bytes], after: list[bytes]) -> Iterator[tuple[int | None, int | None]]:
    """The same for lists that begin and end differently.

    Keys that occur once on both sides are anchors; what lies between two neighbouring anchors is compared there. So a
    large data set takes little longer than a walk through it, however much has changed.
    """
    anchors, moved = _anchors(before, after)
    yield from moved
    apart = {index for index, _ in moved}, {index for _, index in moved}
    left: list[tuple[list[int], list[int]]] = []  # what stands in one place without a partner of the same key
    for (start, found_start), (stop, found_stop) in pairwise([(-1, -1), *anchors, (len(before), len(after))]):
        here = [index for index in range(start + 1, stop) if index not in apart[0]]
        there = [index for index in range(found_start + 1, found_stop) if index not in apart[1]]
        matcher = SequenceMatcher(
            None,
            [before[index] for index in here],
            [after[index] for index in there],
            autojunk=len(here) * len(there) > _MOST_PAIRS,
        )
        left += [(here[a:b], there[c:d]) for tag, a, b, c, d in matcher.get_opcodes() if tag != "equal"]
    again = _same_keys(left, before, after)
    yield from again
    apart = {index for index, _ in again}, {index for _, index in again}
    for here, there in left:
        old = [index for index in here if index not in apart[0]]
        new = [index for index in there if index not in apart[1]]
        both = min(len(old), len(new))
        yield from zip(old[:both], new[:both], strict=True)
        yield from ((index, None) for index in old[both:])
        yield from ((None, index) for index in new[both:])


def _anchors(before: list[bytes], after: list[bytes]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The (index before, index after) of keys that occur once on both sides: those that kept their order, and the rest.

    The rest is as small as can be: what kept its order is a longest increasing subsequence (by patience sorting).
    """
    once, found_once = _once(before), _once(after)
    pairs = [(index, found_once[key]) for key, index in once.items() if key in found_once]
    ends: list[int] = []  # the smallest index after that ends an increasing subsequence of each length
    lengths = []
    for _, found_index in pairs:
        lengths.append(bisect_left(ends, found_index))
        ends[lengths[-1] : lengths[-1] + 1] = [found_index]
    anchors, moved = [], []
    length = len(ends) - 1
    for pair, own in zip(reversed(pairs), reversed(lengths), strict=True):
        if own == length:  # the last of a length is the smallest, so it goes before the one that was chosen
            anchors.append(pair)
            length -= 1
        else:
            moved.append(pair)
    return anchors[::-1], moved[::-1]


def _once(keys: list[bytes]) -> dict[bytes, int]:
    """The index of each key that occurs once, in order."""
    counts = Counter(keys)
    return {key: index for index, key in enumerate(keys) if counts[key] == 1}


def _same_keys(
    left: list[tuple[list[int], list[int]]], before: list[bytes], after: list[bytes]
) -> list[tuple[int, int]]:
    """The (index before, index after) of equal keys in different places, the first with the first."""
    elsewhere = defaultdict[bytes, deque[int]](deque)
    for _, there in left:
        for index in there:
            elsewhere[after[index]].append(index)
    return [
        (index, elsewhere[before[index]].popleft()) for here, _ in left for index in here if elsewhere[before[index]]
    ]


# --- the file in a run folder ----------------------------------------------------------------------------------------


def encode(keys: Keys) -> bytes:
    """The file `data.keys`: what it is, the sizes of the splits, then all keys."""
    sizes = canonical_json([[name, len(own)] for name, own in keys.items()]).encode()
    return _MAGIC + struct.pack("<Q", len(sizes)) + sizes + b"".join(key for own in keys.values() for key in own)


def decode(data: bytes, where: str) -> dict[str, list[bytes]]:
    """The keys in such a file.

    Raises:
        DataError: it is no such file, or damaged; `where` names it.
    """
    start = len(_MAGIC) + 8
    damaged = DataError(f"{where}: expected the keys of a run's examples, found something else or a part of it")
    if data[: len(_MAGIC)] != _MAGIC or len(data) < start:
        raise damaged
    (length,) = struct.unpack_from("<Q", data, len(_MAGIC))
    try:
        sizes = [(str(name), int(size)) for name, size in json.loads(data[start : start + length])]
    except (ValueError, TypeError, RecursionError):
        raise damaged from None
    at = start + length
    if min((size for _, size in sizes), default=0) < 0 or at + KEY_BYTES * sum(n for _, n in sizes) != len(data):
        raise damaged
    keys = {}
    for name, size in sizes:
        keys[name] = [data[at + KEY_BYTES * i : at + KEY_BYTES * (i + 1)] for i in range(size)]
        at += KEY_BYTES * size
    return keys
