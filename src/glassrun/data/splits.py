"""Which split an example belongs to, by a hash of its own content: adding examples moves none of the others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
WITHOUT_TEST = {"train": 0.9, "validation": 0.1}  # where the source brings a test set of its own


def content_key(*parts: bytes) -> bytes:
    """16 bytes that stand for an example: BLAKE2b over its parts, each with its length."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def by_hash(keys: Sequence[bytes], shares: dict[str, float] = SHARES) -> dict[str, NDArray[np.int64]]:
    """The indices of each split's examples, in the order of `keys`.

    Arguments:
        keys: what each example's split depends on, 16 bytes each.
        shares: of each split; they sum to one.
    """
    values = np.frombuffer(b"".join(key[:8] for key in keys), dtype="<u8") / 2.0**64
    bounds = np.cumsum(list(shares.values()))[:-1]
    places = np.searchsorted(bounds, values, side="right")
    return {name: np.flatnonzero(places == place) for place, name in enumerate(shares)}


def digest_of_keys(keys: Sequence[bytes]) -> str:
    """One digest for many examples in their order."""
    return hashlib.blake2b(b"".join(keys), digest_size=16).hexdigest()
