"""The order of the training examples: a keyed permutation an epoch, without any memory.

A Feistel network (Luby & Rackoff 1988) permutes the numbers below a power of four; a number that comes out beyond the
last example is sent through again until it is inside (cycle walking; Black & Rogaway 2002). So the example at any place
of any epoch is computed on its own, for any number of examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glassrun.keys import derive

_ROUNDS = 6


class Order:
    """The stream of training examples: epoch after epoch, each in a permutation of its own.

    Arguments:
        seed: of the run.
        examples: how many there are.
    """

    def __init__(self, seed: int, examples: int) -> None:
        assert examples > 0, "an empty split is refused before"
        self.seed = seed
        self.examples = examples

    def batch(self, step: int, size: int) -> list[tuple[int, int]]:
        """The (epoch, index) of each example of a step's batch; steps and epochs count from 1.

        The stream is cut into batches without a gap, so one can hold the end of an epoch and the start of the next, and
        nothing is left out.
        """
        positions = range((step - 1) * size, step * size)
        chosen: list[tuple[int, int]] = []
        for epoch in range(positions[0] // self.examples, positions[-1] // self.examples + 1):
            start = max(positions.start, epoch * self.examples)
            stop = min(positions.stop, (epoch + 1) * self.examples)
            places = np.arange(start, stop, dtype=np.uint64) - np.uint64(epoch * self.examples)
            chosen += [(epoch + 1, index) for index in self.indices(places, epoch + 1).tolist()]
        return chosen

    def indices(self, places: NDArray[np.uint64], epoch: int) -> NDArray[np.uint64]:
        """The example at each place of an epoch: UInt64[places], each below the number of examples."""
        half = np.uint64(max(1, -(-(self.examples - 1).bit_length() // 2)))
        keys = [np.uint64(derive(self.seed, "order", epoch, number)) for number in range(_ROUNDS)]
        found = _feistel(places.astype(np.uint64), half, keys)
        while (outside := found >= np.uint64(self.examples)).any():
            found[outside] = _feistel(found[outside], half, keys)
        return found


def by_length(lengths: Sequence[tuple[int, ...]], slices: int) -> list[int]:
    """The places of a batch's examples when each slice gets those that are about as long, so that little is padded.

    They are sorted, cut into slices, and the slices folded: the shortest beside the longest, then such pairs again, and
    so on. So any worker's neighbouring slices, on any number of workers, are about as much work as another's.

    >>> by_length([(7,), (1,), (4,), (2,), (8,), (3,), (6,), (5,)], 4)
    [1, 3, 0, 4, 5, 2, 7, 6]

    Arguments:
        lengths: of each example, what counts most first; among equals the order stays.
        slices: a power of two that divides how many there are.
    """
    places = sorted(range(len(lengths)), key=lengths.__getitem__)
    size = len(places) // slices
    parts = [places[start : start + size] for start in range(0, len(places), size)]
    while len(parts) > 1:
        parts = [parts[number] + parts[-1 - number] for number in range(len(parts) // 2)]
    return parts[0]


def _feistel(x: NDArray[np.uint64], half: np.uint64, keys: list[np.uint64]) -> NDArray[np.uint64]:
    """A permutation of [0, 4^half)."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = x >> half, x & mask
    for key in keys:
        left, right = right, left ^ (_mix(right, key) & mask)
    return (left << half) | right


def _mix(x: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    """A hash of 64 bits (the finaliser of splitmix64; Steele, Lea & Flood 2014)."""
    x = x ^ key
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
