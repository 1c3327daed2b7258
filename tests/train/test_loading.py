"""Batches: a pure function of (config, data, step), with or without threads."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glassrun.data import text
from glassrun.data.order import Order
from glassrun.sections.data import PythonTopicsData
from glassrun.tasks.classify import Classify
from glassrun.tasks.language_model import LanguageModelling
from glassrun.train.attributes import Attributes
from glassrun.train.loading import Slices, TrainingBatches, ahead, collate, evaluation_slices


class Numbered:
    """Examples whose image and label say which they are, in which epoch they were asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def example(self, index: int, epoch: int) -> dict[str, Any]:
        return {"image": np.full((1, 1, 1), epoch, dtype=np.float32), "label": index}


TASK = Classify(SimpleNamespace(facts={"num_classes": 2}))  # type: ignore[arg-type]
ATTRIBUTES = Attributes(torch.nn.Identity(), TASK)


def batches_of(count: int = 11, *, size: int = 6, slice_size: int = 3, places: range = range(2)) -> TrainingBatches:
    split: Any = Numbered(count)
    return TrainingBatches(split, TASK, ATTRIBUTES, seed=5, size=size, slice_size=slice_size, places=places)


def batch_of(make: TrainingBatches, step: int) -> Slices:
    return make.slices(make.examples(step))


def seen(slices: Slices) -> list[tuple[int, int]]:
    """The (epoch, index) of all examples of a worker's slices."""
    return [
        (int(image.item()), int(label.item()))
        for batch in slices.batches
        for image, label in zip(batch["image"], batch["label"], strict=True)
    ]


def test_slices_are_the_batch_of_the_order_cut_in_turn() -> None:
    make = batches_of()
    for step in range(1, 9):  # over several epochs of 11
        made = batch_of(make, step)
        assert seen(made) == Order(5, 11).batch(step, 6)
        assert [len(batch["label"]) for batch in made.batches] == [3, 3]
        assert made.epoch == Order(5, 11).batch(step, 6)[0][0]
        assert made.examples == 6
        assert made.places == range(2)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_share_a_batch_without_gap_or_overlap(workers: int) -> None:
    own = 4 // workers
    for step in (1, 2, 3):
        makers = [batches_of(size=12, places=range(worker * own, (worker + 1) * own)) for worker in range(workers)]
        parts = [batch_of(make, step) for make in makers]
        assert [pair for part in parts for pair in seen(part)] == Order(5, 11).batch(step, 12)
        assert all(part.examples == 12 for part in parts)  # of the whole batch


def test_a_batch_depends_on_its_step_alone() -> None:
    make = batches_of()
    forwards = [seen(batch_of(make, step)) for step in range(1, 6)]
    backwards = [seen(batch_of(make, step)) for step in range(5, 0, -1)]
    assert forwards == backwards[::-1]
    assert len({tuple(batch) for batch in forwards}) == 5


def same(a: Slices, b: Slices) -> bool:
    return (
        (a.places, a.epoch, a.examples) == (b.places, b.epoch, b.examples)
        and len(a.batches) == len(b.batches)
        and all(x.keys() == y.keys() for x, y in zip(a.batches, b.batches, strict=True))
        and all(torch.equal(x[name], y[name]) for x, y in zip(a.batches, b.batches, strict=True) for name in x)
    )


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("steps", [range(1, 30), range(17, 25), range(1, 2), range(1, 1)])
def test_batches_made_ahead_are_identical(threads: int, steps: range) -> None:
    dataset = text.load_python_topics(PythonTopicsData(source="python-topics", context=16), 1)
    make = TrainingBatches(
        dataset.splits["train"], LanguageModelling(dataset), ATTRIBUTES, seed=3, size=6, slice_size=3, places=range(2)
    )
    expected = [batch_of(make, step) for step in steps]
    found = [make.slices(examples) for examples in ahead(make.examples, steps, threads)]
    assert len(found) == len(expected)
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("threads", [1, 3])
def test_order_holds_when_a_later_batch_is_ready_first(threads: int) -> None:
    """With several threads the first step waits until a later one is made."""
    later = threading.Event()

    def make(step: int) -> int:
        if step == 1 and threads > 1:
            assert later.wait(30)
        if step == 2:
            later.set()
        return step

    assert list(ahead(make, range(1, 20), threads)) == list(range(1, 20))  # type: ignore[arg-type]


def test_no_more_than_two_batches_a_thread_are_made_ahead() -> None:
    begun: list[int] = []

    def make(step: int) -> int:
        begun.append(step)
        return step

    stream = ahead(make, range(1, 100), 2)  # type: ignore[arg-type]
    for taken in range(1, 11):
        next(stream)
        assert max(begun) <= taken + 4
    stream.close()  # type: ignore[attr-defined]
    assert max(begun) <= 14


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_an_error_comes_out_at_its_step_and_ends_the_threads(threads: int) -> None:
    def make(step: int) -> int:
        if step == 4:
            raise ValueError("step 4")
        return step

    stream = ahead(make, range(1, 20), threads)  # type: ignore[arg-type]
    assert [next(stream) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(ValueError, match="step 4"):
        next(stream)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loading")]


def test_nothing_is_made_ahead_without_threads() -> None:
    begun: list[int] = []
    stream = ahead(lambda step: begun.append(step), range(1, 9), 0)  # type: ignore[arg-type, func-returns-value]
    next(stream)
    next(stream)
    assert begun == [1, 2]


# --- evaluation ------------------------------------------------------------------------------------------------------


def evaluated(count: int, places: range, *, size: int = 12, shards: int = 4) -> list[tuple[int, list[int]]]:
    split: Any = Numbered(count)
    slices = evaluation_slices(split, TASK, ATTRIBUTES, key=(1, "evaluation"), size=size, shards=shards, places=places)
    return [(place, batch["label"].tolist()) for place, batch in slices]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 11, 12, 13, 24, 31])
def test_an_evaluation_sees_every_example_once_in_order(count: int) -> None:
    found = evaluated(count, range(4))
    assert [label for _, labels in found for label in labels] == list(range(count))
    assert [place for place, _ in found] == list(range(-(-count // 3)))
    assert all(len(labels) == 3 for _, labels in found[:-1])


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 11, 31])
def test_workers_share_the_slices_of_an_evaluation(workers: int, count: int) -> None:
    own = 4 // workers
    found = [
        slice_ for worker in range(workers) for slice_ in evaluated(count, range(worker * own, (worker + 1) * own))
    ]
    assert sorted(found) == evaluated(count, range(4))


def test_worker_two_of_two_by_hand() -> None:
    assert evaluated(31, range(2, 4)) == [
        (2, [6, 7, 8]),
        (3, [9, 10, 11]),
        (6, [18, 19, 20]),
        (7, [21, 22, 23]),
        (10, [30]),
    ]


# --- memory ----------------------------------------------------------------------------------------------------------


def test_every_tensor_owns_contiguous_aligned_storage() -> None:
    class Adopting:
        """Gives views of one tensor, shifted by a few bytes and transposed."""

        def collate(self, examples: list[int]) -> dict[str, Tensor]:
            whole = torch.arange(101.0)
            return {"shifted": whole[len(examples) : len(examples) + 6], "turned": whole[1:7].reshape(2, 3).T}

    made = collate(Adopting(), [1, 2, 3])  # type: ignore[arg-type]
    assert made["shifted"].tolist() == [3, 4, 5, 6, 7, 8]
    assert made["turned"].tolist() == [[1, 4], [2, 5], [3, 6]]
    for tensor in made.values():
        assert tensor.is_contiguous()
        assert tensor.data_ptr() % 64 == 0
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.itemsize


def test_slices_of_a_batch_share_no_memory() -> None:
    first, second = batch_of(batches_of(), 1).batches
    before = second["label"].tolist()
    first["label"].fill_(-1)
    first["image"].fill_(-1)
    assert second["label"].tolist() == before
    assert len({tensor.untyped_storage().data_ptr() for batch in (first, second) for tensor in batch.values()}) == 4


def test_what_a_batch_raises_comes_after_the_batches_before_it() -> None:
    """Slices are asked for one step before their turn: that step must still be done and recorded."""
    make = batches_of()
    good = Numbered(11)

    class Broken(Numbered):
        def example(self, index: int, epoch: int) -> dict[str, Any]:
            if epoch == 2:
                raise OSError("the disk is gone")
            return good.example(index, epoch)

    make.split = Broken(11)  # type: ignore[assignment]
    *before, last = make.each(range(1, 9), 0)
    assert [slices.step for slices in before if isinstance(slices, Slices)] == [1]  # of 11 examples, 6 a batch
    assert isinstance(last, OSError)
