"""Batches for this worker: a pure function of (config, data, step), made ahead of time by threads if wanted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from glassrun.data.order import Order, by_length
from glassrun.data.source import Measured, Split
from glassrun.tasks.answers import checked_batch, checked_count
from glassrun.tasks.base import Batch, Task
from glassrun.train.attributes import Attributes
from glassrun.train.memory import owned

Made = TypeVar("Made")


@dataclass(frozen=True)
class Examples:
    """The examples of this worker's slices of one global batch."""

    step: int
    slices: list[list[Any]]
    epoch: int


@dataclass(frozen=True)
class Slices:
    """This worker's slices of one global batch: their places in the batch, their tensors, their losses and tokens."""

    step: int
    places: range
    batches: list[Batch]
    counts: list[int]
    epoch: int
    examples: int


class TrainingBatches:
    """The training batches of a run, this worker's slices of each.

    Threads may fetch examples ahead; they are put together afterwards, in the main thread, since a task that draws from
    generators there must find them set from the key of (seed, "batch", step, place in the batch).
    """

    def __init__(
        self,
        split: Split,
        task: Task,
        attributes: Attributes,
        *,
        seed: int,
        size: int,
        slice_size: int,
        places: range,
        by_length: bool = False,
    ) -> None:
        self.split = split
        self.task = task
        self.attributes = attributes
        self.size = size
        self.slice_size = slice_size
        self.places = places
        self.seed = seed
        self.by_length = by_length
        self.order = Order(seed, len(split))

    def examples(self, step: int) -> Examples:
        """The examples of step `step`, which counts from 1."""
        chosen = self.order.batch(step, self.size)
        first_epoch = chosen[0][0]
        if self.by_length:
            assert isinstance(self.split, Measured), "checked by the recipe"
            lengths = [self.split.length(index) for _, index in chosen]
            chosen = [chosen[place] for place in by_length(lengths, self.size // self.slice_size)]
        starts = [place * self.slice_size for place in self.places]
        slices = [
            [self.split.example(index, epoch) for epoch, index in chosen[start : start + self.slice_size]]
            for start in starts
        ]
        return Examples(step, slices, epoch=int(first_epoch))

    def slices(self, found: Examples) -> Slices:
        """The same as tensors."""
        batches, counts = [], []
        for place, examples in zip(self.places, found.slices, strict=True):
            self.attributes.set_generators(self.seed, "batch", found.step, place)
            batches.append(collate(self.task, examples))
            self.attributes.restore()
            counts.append(self._counts(batches[-1]))
            self.attributes.restore()
        total = [sum(column) for column in zip(*counts, strict=True)]
        return Slices(found.step, self.places, batches, total, found.epoch, self.size)

    def _counts(self, batch: Batch) -> list[int]:
        """How many losses and tokens a slice has, as whole numbers."""
        return [checked_count(self.task.count(batch), "count"), checked_count(self.task.tokens(batch), "tokens")]

    def each(self, steps: range, threads: int) -> Iterator[Slices | Exception]:
        """The slices of each step in order; where they cannot be made, as the last what was raised.

        It is handed on, not raised, because slices are asked for one step before their turn.
        """
        try:
            yield from map(self.slices, ahead(self.examples, steps, threads))
        except Exception as error:  # the user's data or task may raise anything
            yield error


def evaluation_slices(
    split: Split,
    task: Task,
    attributes: Attributes,
    *,
    key: tuple[int | str, ...],
    size: int,
    shards: int,
    places: range,
) -> Iterator[tuple[int, Batch]]:
    """This worker's slices of an evaluation, each with its place among all of them; the last ones may be short.

    Before each the generators are set from `key` and the place: for what the task and the model draw.

    A split is cut into batches and these into slices exactly as in training, in the split's own order.
    """
    slice_size = size // shards
    for place, start in enumerate(range(0, len(split), slice_size)):
        if place % shards in places:
            examples = [split.example(index, 0) for index in range(start, min(start + slice_size, len(split)))]
            attributes.set_generators(*key, place)  # type: ignore[arg-type]
            yield place, collate(task, examples)


def collate(task: Task, examples: Sequence[Any]) -> Batch:
    """One slice's tensors, each in storage of its own."""
    return {name: owned(tensor) for name, tensor in checked_batch(task.collate(examples)).items()}


def ahead(make: Callable[[int], Made], steps: range, threads: int) -> Iterator[Made]:
    """make(step) for every step in order; with threads, up to two a thread are made ahead."""
    if threads == 0:
        yield from map(make, steps)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="loading") as pool:
        remaining = iter(steps)
        pending: deque[Future[Made]] = deque(pool.submit(make, step) for step in islice(remaining, 2 * threads))
        try:
            while pending:
                batch = pending.popleft().result()
                pending.extend(pool.submit(make, step) for step in islice(remaining, 1))
                yield batch
        finally:
            for future in pending:
                future.cancel()
