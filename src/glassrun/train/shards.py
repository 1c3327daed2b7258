"""Logical shards and the fixed tree: sums over the slices of a batch whose order no number of workers can change.

A batch is cut into S slices, S a power of two; worker r of W owns the S/W neighbouring slices from r·S/W. Values of the
slices are summed pairwise, neighbours first:

    ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7))

Inside a worker a counter in binary does it with log₂(S/W) + 1 buffers; across workers `Workers.tree_sum` goes on where
it stopped. A tensor that is absent (None) in a slice is absent from the sum, not zero in it: nothing is ever
initialised with zeros, because 0 + −0.0 is +0.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from glassrun.record.fingerprint import Fixed
from glassrun.train.memory import Layout


def summed_in(tensor: Tensor) -> Tensor:
    """The form, without memory, in which a tensor is summed: half precision would lose what a slice adds, so float32.

    >>> summed_in(torch.zeros(3, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    half = tensor.dtype in (torch.bfloat16, torch.float16)
    return torch.empty(tensor.shape, dtype=torch.float32 if half else tensor.dtype, device="meta")


def own_slices(shards: int, rank: int, world_size: int) -> range:
    """The slices of a worker.

    >>> [list(own_slices(8, rank, 4)) for rank in range(4)]
    [[0, 1], [2, 3], [4, 5], [6, 7]]
    """
    each = shards // world_size
    return range(rank * each, (rank + 1) * each)


def divided(costs: Sequence[int], parts: int) -> list[list[int]]:
    """Places of tasks, divided so that each part costs about the same: the dearest first, each to the cheapest part.

    >>> divided([8, 1, 9, 2, 7], 2)
    [[2, 3, 1], [0, 4]]
    """
    found: list[list[int]] = [[] for _ in range(parts)]
    load = [0] * parts
    for place in sorted(range(len(costs)), key=lambda place: -costs[place]):
        part = min(range(parts), key=load.__getitem__)
        found[part].append(place)
        load[part] += costs[place]
    return found


@dataclass
class Partial:
    """The sum over some neighbouring slices: flat memory, each tensor's view of it, and which tensors are present."""

    flat: dict[torch.dtype, Tensor]
    views: list[Tensor]
    present: list[bool]

    @cached_property
    def words(self) -> Fixed:
        """The words of the views, for their fingerprints."""
        return Fixed(self.views)

    def tensors(self) -> list[Tensor | None]:
        """The sum of each tensor, None where it was absent in all slices."""
        return [view if present else None for view, present in zip(self.views, self.present, strict=True)]

    def add(self, right: Partial) -> None:
        """This partial becomes the sum of itself (left) and its right neighbour."""
        if self.present == right.present:  # what is absent in both is summed too, and never read
            for dtype, flat in self.flat.items():
                flat.add_(right.flat[dtype])
            return
        for i, (left_view, right_view) in enumerate(zip(self.views, right.views, strict=True)):
            if self.present[i] and right.present[i]:
                left_view.add_(right_view)
            elif right.present[i]:
                left_view.copy_(right_view)
        self.present = [a or b for a, b in zip(self.present, right.present, strict=True)]


class TreeSum:
    """Sums tensors over a worker's slices, added in order, by the fixed tree; its memory is reused step after step."""

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self.layout = layout
        self.device = device
        self._levels: list[Partial | None] = []
        self._spare: list[Partial] = []

    def add(self, tensors: Sequence[Tensor | None]) -> None:
        """Add the next slice's tensors."""
        partial = self.new()
        for i, tensor in enumerate(tensors):
            partial.present[i] = tensor is not None
            if tensor is not None:
                partial.views[i].copy_(tensor)
        level = 0
        while level < len(self._levels) and (left := self._levels[level]) is not None:
            left.add(partial)
            self._spare.append(partial)
            self._levels[level], partial = None, left
            level += 1
        self._levels[level : level + 1] = [partial]

    def take(self) -> Partial:
        """The sum over all slices added, a power of two of them; give it back with `release`."""
        *lower, total = self._levels
        assert not any(lower), "the number of slices is a power of two"
        assert total is not None, "take follows add"
        self._levels = []
        return total

    def new(self) -> Partial:
        """Memory for one more partial sum."""
        if self._spare:
            return self._spare.pop()
        flat = self.layout.new(self.device)
        return Partial(flat, self.layout.views(flat), [False] * len(self.layout.segments))

    def release(self, partial: Partial) -> None:
        """Give a partial's memory back."""
        self._spare.append(partial)
