"""Keyed randomness: every random number of a run follows from its seed and from what it is for.

There is no generator state to save or to lose: a key is a pure function of (seed, purpose, …).
"""

from __future__ import annotations

import hashlib


def derive(seed: int, *purpose: str | int) -> int:
    """A number in [0, 2⁶³) for one purpose, by BLAKE2b over the seed and the purpose's parts.

    Parts are length-prefixed and typed, so that ("ab", "c"), ("a", "bc") and ("1",), (1,) give different keys.

    >>> derive(1, "dropout", 7, 0) == derive(1, "dropout", 7, 0)
    True
    >>> derive(1, "order", 1) == derive(1, "order", "1")
    False
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in (seed, *purpose):
        text = f"{type(part).__name__[0]}{part}".encode()
        digest.update(len(text).to_bytes(4, "little") + text)
    return int.from_bytes(digest.digest(), "little") >> 1
