"""Batches for this worker: a pure function of (config, data, step), made ahead of time by threads if wanted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from glassrun.data.order import Order
from glassrun.data.source import Split
from glassrun.tasks.base import Batch, Task
from glassrun.train.memory import owned


@dataclass(frozen=True)
class Slices:
    """This worker's slices of one global batch: their places in the batch, and their tensors."""

    places: range
    batches: list[Batch]
    epoch: int
    examples: int


class TrainingBatches:
    """The training batches of a run, this worker's slices of each."""

    def __init__(self, split: Split, task: Task, *, seed: int, size: int, slice_size: int, places: range) -> None:
        self.split = split
        self.task = task
        self.size = size
        self.slice_size = slice_size
        self.places = places
        self.order = Order(seed, len(split))

    def __call__(self, step: int) -> Slices:
        """The slices of step `step`, which counts from 1."""
        chosen = self.order.batch(step, self.size)
        batches = [
            collate(
                self.task,
                [self.split.example(index, epoch) for epoch, index in chosen[start : start + self.slice_size]],
            )
            for start in (place * self.slice_size for place in self.places)
        ]
        return Slices(self.places, batches, epoch=int(chosen[0][0]), examples=self.size)


def evaluation_slices(
    split: Split, task: Task, *, size: int, shards: int, places: range
) -> Iterator[tuple[int, Batch]]:
    """This worker's slices of an evaluation, each with its place among all of them; the last ones may be short.

    A split is cut into batches and these into slices exactly as in training, in the split's own order.
    """
    slice_size = size // shards
    for place, start in enumerate(range(0, len(split), slice_size)):
        if place % shards in places:
            indices = range(start, min(start + slice_size, len(split)))
            yield place, collate(task, [split.example(index, 0) for index in indices])


def collate(task: Task, examples: Sequence[Any]) -> Batch:
    """One slice's tensors, each in storage of its own."""
    return {name: owned(tensor) for name, tensor in task.collate(examples).items()}


def ahead(make: Callable[[int], Slices], steps: range, threads: int) -> Iterator[Slices]:
    """make(step) for every step in order; with threads, up to two batches a thread are made ahead."""
    if threads == 0:
        yield from map(make, steps)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="loading") as pool:
        remaining = iter(steps)
        pending: deque[Future[Slices]] = deque(pool.submit(make, step) for step in islice(remaining, 2 * threads))
        try:
            while pending:
                batch = pending.popleft().result()
                pending.extend(pool.submit(make, step) for step in islice(remaining, 1))
                yield batch
        finally:
            for future in pending:
                future.cancel()
