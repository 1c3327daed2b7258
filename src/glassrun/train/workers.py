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
        everyone = [own if rank == self.rank else torch.empty_like(own) for rank in range(self.world_size)]
        self._exchange([own] * self.world_size, everyone)
        return [[value % 2**64 for value in part.tolist()] for part in everyone]

    def _exchange(self, sent: Sequence[Tensor], received: Sequence[Tensor]) -> None:
        """Send `sent[rank]` to each other worker and receive `received[rank]` from it; both contiguous.

        Straight from one to the other: gloo's collectives, which are made for many machines, take two to four times
        as much of the processor for the same (measured with two workers).
        """
        others = [rank for rank in range(self.world_size) if rank != self.rank]
        with _connected():
            under_way = [dist.irecv(received[rank], rank) for rank in others]
            under_way += [dist.isend(sent[rank], rank) for rank in others]
            if not all(message.wait() for message in under_way):  # type: ignore[union-attr]
                raise RuntimeError("a message was given up")

    def tree_sum(self, partial: Partial, tree: TreeSum, told: Sequence[int] = ()) -> list[list[int]]:
        """Go on with the tree across workers: `partial` becomes the sum over all slices, the same on every worker.

        Arguments:
            partial: the sum over this worker's slices.
            tree: where it is from.
            told: what else to tell the others; a message of its own would take longer than what is in it.

        Returns:
            What every worker told, as `gather` does.
        """
        if self.world_size == 1:
            return [list(told)]
        everyone = self.gather([*map(int, partial.present), *told])
        count = len(partial.present)
        present = [[bool(bit) for bit in part[:count]] for part in everyone]
        if all(part == present[0] for part in present):
            for dtype, flat in partial.flat.items():
                partial.flat[dtype].copy_(self._reduce(flat))
        else:
            self._sum_with_absent(partial, present, tree)
        return [part[count:] for part in everyone]

    def _reduce(self, flat: Tensor) -> Tensor:
        """Chunk i of everyone goes to worker i, is summed there by the tree, and goes to everyone."""
        own = flat.chunk(self.world_size)
        parts = list(torch.empty_like(flat).chunk(self.world_size))
        parts[self.rank].copy_(own[self.rank])
        self._exchange(own, parts)
        while len(parts) > 1:
            parts = [left.add_(right) for left, right in zip(parts[::2], parts[1::2], strict=True)]
        summed = torch.empty_like(flat)
        chunks = summed.chunk(self.world_size)
        chunks[self.rank].copy_(parts[0])
        self._exchange([parts[0]] * self.world_size, chunks)
        return summed

    def _sum_with_absent(self, partial: Partial, present: list[list[bool]], tree: TreeSum) -> None:
        """The rare case that a tensor is absent on some workers only: everyone gets everything and sums it alike."""
        parts = []
        gathered = {
            dtype: [torch.empty_like(flat) for _ in range(self.world_size)] for dtype, flat in partial.flat.items()
        }
        for dtype, flat in partial.flat.items():
            gathered[dtype][self.rank].copy_(flat)
            self._exchange([flat] * self.world_size, gathered[dtype])
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
