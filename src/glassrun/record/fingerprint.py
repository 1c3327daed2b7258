"""The fingerprint of a tensor: 64 bits over its bytes, computed where it lies, additive over parts.

The bytes are read as little-endian 64-bit words w₀, w₁, …, the last one padded with zeros. Then

    aᵢ = (wᵢ ⊕ (wᵢ ≫ 29)) · c   mod 2⁶⁴
    fingerprint = Σᵢ (aᵢ ⊕ (aᵢ ≫ 32)) · mᵢ   mod 2⁶⁴

with ≫ the logical shift, c the odd constant 0xBF58476D1CE4E5B9, and mᵢ the odd multiplier of position i, which never
repeats. Being a sum, it can be computed by parts, each worker its own.

The mixing is there because an odd multiplier leaves the top bit of a word at the top: unmixed, the signs of two float32
in odd places can be flipped unseen. One shift by 32 alone is not enough: it takes a sign that is flipped in *both*
float32 of a word out again, so that a tensor and its negative had the same fingerprint whenever the number of words was
even (measured). So the first shift is no multiple of an element's width, and a product carries every bit upwards before
the second shift brings it down.

It tells different bits apart; it does not resist somebody who looks for a collision. For that there are digests.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from glassrun.record import words as in_numpy
from glassrun.record.words import combine as combine


def multipliers(start: int, count: int) -> Tensor:
    """mᵢ for i in [start, start + count): Int64[count], to be read modulo 2⁶⁴."""
    return torch.from_numpy(in_numpy.multipliers(start, count).view(np.int64))


class Fingerprinter:
    """Computes fingerprints; keeps the multipliers that it has needed so far, one table for each device."""

    def __init__(self) -> None:
        self._array = in_numpy.multipliers(0, 0)
        self._tables: dict[torch.device, Tensor] = {}

    def __call__(self, tensor: Tensor, first_word: int = 0) -> int:
        """The fingerprint of a tensor, or of the part of one that starts at its word `first_word`.

        Arguments:
            tensor: any shape, any dtype with whole bytes, on any device.
            first_word: position of the tensor's first word; fingerprints of parts add up modulo 2⁶⁴.

        Returns:
            An integer in [0, 2⁶⁴).
        """
        value = self.begin(tensor, first_word)
        return value if isinstance(value, int) else int(value.item()) % 2**64

    def begin(self, tensor: Tensor, first_word: int = 0) -> int | Tensor:
        """The same, but on another device than the CPU Int64[] that is read modulo 2⁶⁴: nothing is waited for."""
        words = as_words(tensor)
        last_word = first_word + words.numel()
        if words.is_cpu:  # NumPy's 64-bit arithmetic takes 0.6 times as long as torch's (measured)
            table = self._on_cpu(last_word)[first_word:last_word]
            return in_numpy.weighted_sum(words.numpy().view(np.uint64), table)
        return weighted_sum_torch(words, self._on_device(words.device, last_word)[first_word:last_word])

    def of_each(self, tensors: Sequence[Tensor]) -> list[int]:
        """The fingerprints of several tensors; of small ones on the CPU sooner than one by one."""
        if not all(tensor.is_cpu for tensor in tensors):
            return [self(tensor) for tensor in tensors]
        return self.of_words([as_words(tensor).numpy().view(np.uint64) for tensor in tensors])

    def of_words(self, parts: Sequence[in_numpy.Words]) -> list[int]:
        """The same of words that are there already."""
        return in_numpy.weighted_sums(parts, self._on_cpu(max(map(len, parts), default=0)))

    def reserve(self, tensors: Iterable[Tensor]) -> None:
        """Make the multipliers for all these tensors now; after that several threads may read them at once."""
        for tensor in tensors:
            if tensor.is_cpu:
                self._on_cpu(-(-tensor.numel() * tensor.itemsize // 8))

    def _on_cpu(self, count: int) -> in_numpy.Words:
        if len(self._array) < count:
            self._array = in_numpy.multipliers(0, max(count, in_numpy.BLOCK))
        return self._array

    def _on_device(self, device: torch.device, count: int) -> Tensor:
        table = self._tables.get(device)
        if table is None or len(table) < count:
            table = self._tables[device] = multipliers(0, count).to(device)
        return table


class Fixed:
    """The words of tensors on the CPU that stay where they are and are read again and again.

    Looking for them anew each time takes longer than summing those of a small tensor (measured).

    >>> Fixed([torch.tensor([3, -1])])[0].tolist()
    [3, 18446744073709551615]
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = list(tensors)
        self._words = [self._find(tensor) for tensor in self._tensors]
        self._places = [words.ctypes.data for words in self._words]

    def __len__(self) -> int:
        return len(self._tensors)

    def __getitem__(self, i: int) -> in_numpy.Words:
        """The words of tensor i as they are now."""
        # Elsewhere: `.data` was replaced, or the words are a copy because the bytes are no multiple of 8.
        here = self._tensors[i].data_ptr() == self._places[i]
        return self._words[i] if here else self._find(self._tensors[i])

    def _find(self, tensor: Tensor) -> in_numpy.Words:
        return as_words(tensor).numpy().view(np.uint64)


def weighted_sum_torch(words: Tensor, table: Tensor) -> Tensor:
    """The same sum on any device: Int64[], to be read modulo 2⁶⁴."""
    mixed = (words >> 29).bitwise_and_(2**35 - 1).bitwise_xor_(words).mul_(in_numpy.CONSTANT - 2**64)
    return (mixed >> 32).bitwise_and_(2**32 - 1).bitwise_xor_(mixed).mul_(table).sum()


def as_words(tensor: Tensor) -> Tensor:
    """The bytes of a tensor in row-major order as Int64[words], zero-padded; a view where that is possible."""
    if sys.byteorder != "little":
        raise RuntimeError("fingerprints are defined over little-endian bytes")
    whole = tensor.detach().resolve_conj().resolve_neg()
    if whole.is_complex():
        whole = torch.view_as_real(whole).resolve_neg()
    flat = whole.contiguous().reshape(-1)
    if flat.numel() == 1:  # counts as contiguous whatever its stride is, but has no view as bytes then
        flat = flat.clone(memory_format=torch.contiguous_format)
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
