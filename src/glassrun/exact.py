"""Numbers whose bits count: sums that are exactly rounded, and doubles as integers."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import fsum, isfinite


def exact_sum(values: Sequence[float]) -> float:
    """The sum, exactly rounded, so that its order cannot matter; NaN where a value is not finite."""
    return fsum(values) if all(map(isfinite, values)) else float("nan")


def bits(value: float) -> int:
    """A double's 64 bits, as they are sent between workers.

    >>> from_bits(bits(-0.1))
    -0.1
    """
    return int.from_bytes(struct.pack("<d", value), "little")


def from_bits(value: int) -> float:
    """The double that has these 64 bits."""
    return float(struct.unpack("<d", value.to_bytes(8, "little"))[0])
