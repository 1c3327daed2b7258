"""The ranks of a loop that runs on several processes: they agree, and are compared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from glassrun.errors import ConfigError


class Ranks:
    """This process's `rank` among `world_size`. They talk through a group of their own, beside the loop's."""

    def __init__(self) -> None:
        self._group: Any = None
        self.rank, self.world_size = 0, 1
        if dist.is_available() and dist.is_initialized():
            self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        elif int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ConfigError(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but torch.distributed is not initialised yet. Call "
                "init_process_group before glassrun.record: the ranks must know each other, and only one may write"
            )
        if self.world_size > 1:
            self._group = dist.new_group(backend="gloo")

    def gather(self, values: Sequence[int]) -> list[list[int]]:
        """Every rank's integers in [0, 2⁶⁴), by rank; all give equally many."""
        if self.world_size == 1:
            return [list(values)]
        own = torch.tensor([value - 2**64 if value >= 2**63 else value for value in values], device="cpu")
        everyone = [torch.empty_like(own) for _ in range(self.world_size)]
        dist.all_gather(everyone, own, group=self._group)
        return [[value % 2**64 for value in part.tolist()] for part in everyone]

    def close(self) -> None:
        """Take leave of the others; the loop may have done it already."""
        if self._group is not None and dist.is_initialized():
            dist.destroy_process_group(self._group)
