"""Where ranks that torchrun started find each other, and part: keys and values at the address that it gives.

torchrun starts all ranks again after a failure, and may give them the same store, in which the values of the last start
still stand. Its count of restarts is no name for a start: each machine counts for itself, and one that comes back
begins at 0. So rank 0 makes up a name, and a start has begun when rank 0 has confirmed under it that it heard from
everyone, from each a word that no earlier start can know.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

from glassrun.errors import WorkerLost

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

_PATIENCE = timedelta(minutes=5)  # for all ranks to load torch and be there
_FAREWELL = 60.0  # seconds that rank 0, which may keep the store, gives the others to read that it is the end
_OFFER = "glassrun"


class Meeting:
    """One start of all ranks; `store` is theirs alone."""

    def __init__(self, place: dict[str, Any], rank: int) -> None:
        """Meet the others.

        Arguments:
            place: `host`, `port`, `ranks`, and whether to `serve` the store there.
            rank: of this process.

        Raises:
            WorkerLost: the store cannot be reached, or somebody does not come.
        """
        self.rank, self.ranks = rank, place["ranks"]
        with _connected():
            shared = dist.TCPStore(  # type: ignore[attr-defined]
                place["host"],
                place["port"],
                is_master=place["serve"],
                timeout=_PATIENCE,
                wait_for_workers=False,
                multi_tenant=True,
            )
            name = _lead(shared, self.ranks) if rank == 0 else _follow(shared, rank)
            self.store = dist.PrefixStore(name, shared)  # type: ignore[attr-defined]

    def say(self, values: dict[str, Any]) -> None:
        """Rank 0 tells everyone."""
        with _connected():
            self.store.set("said", json.dumps(values))

    def hear(self) -> dict[str, Any]:
        """What rank 0 says."""
        with _connected():
            heard: dict[str, Any] = json.loads(self.store.get("said"))
            return heard

    def part(self) -> None:
        """Wait until rank 0 is done, so that no rank is gone while the others may have to start again."""
        with _connected():
            if self.rank:
                _until_there(self.store, "end")
                self.store.set(f"left/{self.rank}", "")
                return
            self.store.set("end", "")
            with suppress(RuntimeError):
                self.store.wait([f"left/{rank}" for rank in range(1, self.ranks)], timedelta(seconds=_FAREWELL))


def _lead(shared: Store, ranks: int) -> str:
    """Rank 0: offer a name, hear everyone's word under it, confirm them."""
    name = secrets.token_hex(8)
    shared.set(_OFFER, name)
    words = [shared.get(f"{name}/word/{rank}").decode() for rank in range(1, ranks)]
    shared.set(f"{name}/begun", json.dumps(words))
    return name


def _follow(shared: Store, rank: int) -> str:
    """The others: give a word under the name that is offered, until it is confirmed; an old offer never confirms it."""
    word = secrets.token_hex(8)
    while True:
        name: str = shared.get(_OFFER).decode()
        shared.set(f"{name}/word/{rank}", word)
        if shared.check([f"{name}/begun"]) and word in json.loads(shared.get(f"{name}/begun")):
            return name
        time.sleep(0.05)


def _until_there(store: Store, key: str) -> None:
    while not store.check([key]):
        time.sleep(0.2)


@contextmanager
def _connected() -> Iterator[None]:
    """Tell that the store cannot be reached, or that nobody came, as the loss that it is."""
    try:
        yield
    except RuntimeError as error:  # torch's DistError
        raise WorkerLost(f"the ranks do not reach each other: {str(error).partition('. ')[0]}") from None
