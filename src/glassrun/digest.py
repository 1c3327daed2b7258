"""Digests: one text for a plain value, one cryptographic hash for bytes."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """The one text of a plain value: sorted keys, no white space, shortest round-trip floats.

    >>> canonical_json({"b": 1e-3, "a": [True, None]})
    '{"a":[true,null],"b":0.001}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_bytes(data: bytes) -> str:
    """The digest of bytes: BLAKE2b of 128 bits, in hexadecimal.

    >>> digest_bytes(b"glass")
    '60c14e3a3ee7275132b057ac76e3c3a2'
    """
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_value(value: Any) -> str:
    """The digest of a plain value's canonical JSON."""
    return digest_bytes(canonical_json(value).encode())
