"""The workers of a run and what they say to each other; every sum over them has a fixed order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from glassrun.errors import WorkerLost
from glassrun.train.shards import Partial, TreeSum

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store


@dataclass(frozen=True)
class Workers:
    """This worker's `rank` among `world_size`; a power of two of them."""

    rank: int = 0
    world_size: int = 1

    @classmethod
    def join(cls, rank: int, world_size: int, store: str | Store) -> Workers:
        """Meet the others through a file that the launcher names, or a store of theirs; alone, nothing is started."""
        if world_size > 1:
            with _connected():
                dist.init_process_group(
                    "gloo",
                    store=dist.FileStore(store, world_size) if isinstance(store, str) else store,  # type: ignore[attr-defined]
                    rank=rank,
                    world_size=world_size,
                    timeout=timedelta(minutes=30),
                )
        return cls(rank, world_size)

    def leave(self) -> None:
        """Take leave of the others."""
        if self.world_size > 1:
            dist.destroy_process_group()

    def gather(self, values: Sequence[int]) -> list[list[int]]:
        """Every worker's integers in [0, 2⁶⁴), by rank; all give equally many."""
        if self.world_size == 1:
            return [list(values)]
        own = torch.tensor([value - 2**64 if value >= 2**63 else value for value in values], dtype=torch.int64)
        everyone = [torch.empty_like(own) for _ in range(self.world_size)]
        with _connected():
            dist.all_gather(everyone, own)
        return [[value % 2**64 for value in part.tolist()] for part in everyone]

    def tree_sum(self, partial: Partial, tree: TreeSum) -> None:
        """Go on with the tree across workers: `partial` becomes the sum over all slices, the same on every worker."""
        if self.world_size == 1:
            return
        present = [[bool(bit) for bit in part] for part in self.gather([int(p) for p in partial.present])]
        if all(part == present[0] for part in present):
            for dtype, flat in partial.flat.items():
                partial.flat[dtype].copy_(self._reduce(flat))
            return
        self._sum_with_absent(partial, present, tree)

    def _reduce(self, flat: Tensor) -> Tensor:
        """Chunk i of everyone goes to worker i, is summed there by the tree, and is gathered back."""
        chunks = torch.empty_like(flat)
        with _connected():
            dist.all_to_all_single(chunks, flat)
        parts = list(chunks.chunk(self.world_size))
        while len(parts) > 1:
            parts = [left.add_(right) for left, right in zip(parts[::2], parts[1::2], strict=True)]
        summed = torch.empty_like(flat)
        with _connected():
            dist.all_gather(list(summed.chunk(self.world_size)), parts[0])
        return summed

    def _sum_with_absent(self, partial: Partial, present: list[list[bool]], tree: TreeSum) -> None:
        """The rare case that a tensor is absent on some workers only: everyone gets everything and sums it alike."""
        parts = []
        gathered = {
            dtype: [torch.empty_like(flat) for _ in range(self.world_size)] for dtype, flat in partial.flat.items()
        }
        for dtype, flat in partial.flat.items():
            with _connected():
                dist.all_gather(gathered[dtype], flat)
        for rank in range(self.world_size):
            flat_by_dtype = {dtype: flats[rank] for dtype, flats in gathered.items()}
            parts.append(Partial(flat_by_dtype, tree.layout.views(flat_by_dtype), list(present[rank])))
        while len(parts) > 1:
            for left, right in zip(parts[::2], parts[1::2], strict=True):
                left.add(right)
            parts = parts[::2]
        for dtype, flat in parts[0].flat.items():
            partial.flat[dtype].copy_(flat)
        partial.present = parts[0].present


@contextmanager
def _connected() -> Iterator[None]:
    """Tell a connection that breaks as what it is: another worker has gone."""
    try:
        yield
    except RuntimeError as error:
        raise WorkerLost(f"the connection to another worker broke: {str(error).partition('. ')[0]}") from None
