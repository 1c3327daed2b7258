"""The fingerprint of a tensor: 64 bits over its bytes, computed where it lies, additive over parts.

The bytes are read as little-endian 64-bit words w₀, w₁, …, the last one padded with zeros. Then

    fingerprint = Σᵢ (wᵢ ⊕ (wᵢ ≫ 32)) · mᵢ   mod 2⁶⁴

with ≫ the logical shift and mᵢ the odd multiplier of position i, which never repeats. The shift mixes the upper half
of a word into its lower half: without it a change in the top bit of a word (the sign of every second float32) moves
only the top bit of the sum, and two such changes cancel. Being a sum, it can be computed by parts, each worker its own.

It tells different bits apart; it does not resist somebody who looks for a collision. For that there are digests.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

_LOW_63 = 2**63 - 1
_LOW_32 = 2**32 - 1
_BLOCK = 2**15  # words worked on at a time: with its temporary and its multipliers it stays in a core's second cache


def multipliers(start: int, count: int) -> Tensor:
    """mᵢ for i in [start, start + count): Int64[count], to be read modulo 2⁶⁴.

    Each step below is a bijection on 63-bit integers, so 2x + 1 is odd and different for every position.

    >>> [m % 2**64 for m in multipliers(0, 2).tolist()]
    [3034093426151678711, 2194983444565470997]
    """
    x = torch.arange(start, start + count, dtype=torch.int64)
    x = (x + 0x1E3779B97F4A7C15) & _LOW_63
    x = ((x ^ (x >> 30)) * 0x3F58476D1CE4E5B9) & _LOW_63
    x = ((x ^ (x >> 27)) * 0x14D049BB133111EB) & _LOW_63
    return 2 * (x ^ (x >> 31)) + 1


class Fingerprinter:
    """Computes fingerprints; keeps the multipliers that it has needed so far, one table for each device."""

    def __init__(self) -> None:
        self._tables: dict[torch.device, Tensor] = {}

    def __call__(self, tensor: Tensor, first_word: int = 0) -> int:
        """The fingerprint of a tensor, or of the part of one that starts at its word `first_word`.

        Arguments:
            tensor: any shape, any dtype with whole bytes, on any device.
            first_word: position of the tensor's first word; fingerprints of parts add up modulo 2⁶⁴.

        Returns:
            An integer in [0, 2⁶⁴).
        """
        words = as_words(tensor)
        table = self._table(words.device, first_word + len(words))[first_word : first_word + len(words)]
        if words.device.type == "cpu":
            return weighted_sum_numpy(words, table)
        return int(weighted_sum_torch(words, table).item()) % 2**64

    def _table(self, device: torch.device, count: int) -> Tensor:
        table = self._tables.get(device)
        if table is None or len(table) < count:
            table = multipliers(0, max(count, _BLOCK)).to(device)
            self._tables[device] = table
        return table


def weighted_sum_numpy(words: Tensor, table: Tensor) -> int:
    """Σ (w ⊕ (w ≫ 32)) · m on the CPU: NumPy's 64-bit arithmetic takes 0.6 times as long as torch's (measured)."""
    w, m = words.numpy().view(np.uint64), table.numpy().view(np.uint64)
    total = 0
    for start in range(0, len(w), _BLOCK):
        block = w[start : start + _BLOCK]
        mixed = block >> np.uint64(32)
        mixed ^= block
        mixed *= m[start : start + _BLOCK]
        total += int(mixed.sum())
    return total % 2**64


def weighted_sum_torch(words: Tensor, table: Tensor) -> Tensor:
    """The same sum on any device: Int64[], to be read modulo 2⁶⁴."""
    mixed = words >> 32
    return mixed.bitwise_and_(_LOW_32).bitwise_xor_(words).mul_(table).sum()


def as_words(tensor: Tensor) -> Tensor:
    """The bytes of a tensor in row-major order as Int64[words], zero-padded; a view where that is possible."""
    if sys.byteorder != "little":
        raise RuntimeError("fingerprints are defined over little-endian bytes")
    flat = tensor.detach().contiguous().reshape(-1)
    if flat.is_complex():
        flat = torch.view_as_real(flat).reshape(-1)
    missing = -flat.nbytes % 8
    if missing or flat.data_ptr() % 8 or flat.storage_offset() * flat.itemsize % 8:
        padded = torch.zeros(flat.nbytes + missing, dtype=torch.uint8, device=flat.device)
        padded[: flat.nbytes].copy_(flat.view(torch.uint8))
        flat = padded
    return flat.view(torch.int64)


def stored_name(name: str, tensor: Tensor) -> str:
    """The name a fingerprint is stored under, which holds dtype and shape.

    >>> stored_name("head.weight", torch.zeros(2, 3))
    'head.weight float32 2x3'
    """
    shape = "x".join(str(size) for size in tensor.shape) or "scalar"
    return f"{name} {str(tensor.dtype).removeprefix('torch.')} {shape}"


def combine(entries: Iterable[tuple[str, int | None]]) -> str:
    """One 64-bit value, in hexadecimal, for several (stored name, fingerprint or None for absent) in this order."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in entries:
        digest.update(f"{name}={'absent' if value is None else f'{value:016x}'}\n".encode())
    return digest.hexdigest()
