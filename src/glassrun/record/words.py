"""The fingerprint's sum over 64-bit words (see `fingerprint`), in NumPy, for what is read without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

Words = np.ndarray[Any, np.dtype[np.uint64]]

BLOCK = 2**15  # words worked on at a time: with its temporary and its multipliers it stays in a core's second cache
SMALL = 2**10  # up to so many words, copying a part costs less than the calls that it saves
CONSTANT = 0xBF58476D1CE4E5B9
_FACTOR, _FIRST_SHIFT, _SECOND_SHIFT = np.uint64(CONSTANT), np.uint64(29), np.uint64(32)
_LOW_63 = np.uint64(2**63 - 1)
NO_WORDS: Words = np.empty(0, np.uint64)  # their fingerprint is 0


def multipliers(start: int, count: int) -> Words:
    """mᵢ for i in [start, start + count).

    Each step below is a bijection on 63-bit integers, so 2x + 1 is odd and different for every position.

    >>> multipliers(0, 2).tolist()
    [3034093426151678711, 2194983444565470997]
    """
    x = np.arange(start, start + count, dtype=np.uint64)
    x = (x + np.uint64(0x1E3779B97F4A7C15)) & _LOW_63
    x = ((x ^ (x >> np.uint64(30))) * np.uint64(0x3F58476D1CE4E5B9)) & _LOW_63
    x = ((x ^ (x >> np.uint64(27))) * np.uint64(0x14D049BB133111EB)) & _LOW_63
    return np.uint64(2) * (x ^ (x >> np.uint64(31))) + np.uint64(1)


def weighted_sum(words: Words, table: Words) -> int:
    """Σᵢ (aᵢ ⊕ (aᵢ ≫ 32)) · mᵢ modulo 2⁶⁴, with the multipliers in `table`."""
    total = 0
    for start in range(0, len(words), BLOCK):
        total += int(np.add.reduce(_weighted(words[start : start + BLOCK], table[start : start + BLOCK])))
    return total % 2**64


def weighted_sums(parts: Sequence[Words], table: Words) -> list[int]:
    """`weighted_sum` of each of these, all from the same multiplier on; small ones go together.

    Alone, one of 64 words takes 11 µs, nearly all of it for the calls; together with six others 3 µs (measured, AVX2).
    """
    sums = [0] * len(parts)
    for places in _together(parts):
        chosen = [parts[i] for i in places]
        if len(chosen) == 1:
            sums[places[0]] = weighted_sum(chosen[0], table[: len(chosen[0])])
            continue
        weighted = _weighted(np.concatenate(chosen), np.concatenate([table[: len(part)] for part in chosen]))
        starts = list(accumulate(map(len, chosen[:-1]), initial=0))
        for i, value in zip(places, np.add.reduceat(weighted, starts).tolist(), strict=True):
            sums[i] = value
    return sums


def _together(parts: Sequence[Words]) -> list[list[int]]:
    """The places of the parts that have words, in groups: one large part, or small ones of a block in sum."""
    large: list[list[int]] = []
    small: list[list[int]] = []
    free = 0
    for i, part in enumerate(parts):
        size = len(part)
        if size > SMALL:
            large.append([i])
        elif size > free:
            small.append([i])
            free = BLOCK - size
        elif size:
            small[-1].append(i)
            free -= size
    return large + small


def _weighted(block: Words, multiplied: Words) -> Words:
    """(aᵢ ⊕ (aᵢ ≫ 32)) · mᵢ."""
    mixed = block >> _FIRST_SHIFT
    mixed ^= block
    mixed *= _FACTOR
    mixed ^= mixed >> _SECOND_SHIFT
    mixed *= multiplied
    return mixed


def of_bytes(data: bytes) -> int:
    """The fingerprint of a tensor that has these bytes.

    >>> of_bytes(bytes(8)) == of_bytes(bytes(5)) == 0
    True
    """
    words = np.frombuffer(data + bytes(-len(data) % 8), dtype="<u8")
    return weighted_sum(words, multipliers(0, len(words)))


def combine(entries: Iterable[tuple[str, int | None]]) -> str:
    """One 64-bit value, in hexadecimal, for several (stored name, fingerprint or None for absent) in this order."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in entries:
        digest.update(f"{name}={'absent' if value is None else f'{value:016x}'}\n".encode())
    return digest.hexdigest()
