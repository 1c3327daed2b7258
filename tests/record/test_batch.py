"""Batches of any form: equal ones have equal entries, others do not, and what cannot be read is told."""

import enum
from collections import UserDict, namedtuple
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from glassrun.record import batch as batches
from glassrun.record.fingerprint import combine
from glassrun.record.readings import Reading, Readings

PROPERTY = settings(max_examples=100, deadline=None)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.binary()
BATCHES = st.recursive(
    LEAVES | st.lists(st.floats(width=32), max_size=4).map(torch.tensor),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def print_of(batch: Any) -> str:
    found = batches.read(batch, Readings(1).fingerprints)
    assert found.unread == []
    return combine((name, value) for name, value in found.entries if isinstance(value, int))


def same(a: Any, b: Any) -> bool:
    """Whether two batches are equal, types and bits too."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Tensor):
        return a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    return a.hex() == b.hex() if isinstance(a, float) else bool(a == b)


@PROPERTY
@given(BATCHES, BATCHES)
def test_batches_have_equal_fingerprints_if_they_are_equal(a: Any, b: Any) -> None:
    assert (print_of(a) == print_of(b)) == same(a, b)


@PROPERTY
@given(st.dictionaries(st.text(max_size=4), st.integers(), min_size=2), st.randoms())
def test_the_order_in_which_a_mapping_was_filled_does_not_count(batch: dict[str, int], random: Any) -> None:
    keys = list(batch)
    random.shuffle(keys)
    assert print_of({key: batch[key] for key in keys}) == print_of(batch)


@PROPERTY
@given(st.lists(st.integers(), min_size=2, unique=True))
def test_the_order_of_a_sequence_counts_and_of_a_set_it_does_not(values: list[int]) -> None:
    assume(values != values[::-1])
    assert print_of(values) != print_of(values[::-1])
    there, back = dict.fromkeys(values).keys(), dict.fromkeys(values[::-1]).keys()  # sets that keep their order
    assert print_of(there) == print_of(back)


@dataclass
class Pair:
    x: Tensor
    y: int


class Kind(enum.Enum):
    TRAIN = 1


class Graph:
    pass


Point = namedtuple("Point", ["x", "y"])


def test_forms_that_hold_the_same_are_the_same() -> None:
    x = torch.ones(2)
    assert (
        print_of({"x": x, "y": 1})
        == print_of(UserDict({"y": 1, "x": x}))
        == print_of(MappingProxyType({"x": x, "y": 1}))
    )
    assert print_of([x, 1]) == print_of((x, 1)) == print_of(Point(x, 1))
    assert print_of(Pair(x, 1)) == print_of(Pair(torch.ones(2), 1))
    assert print_of(np.array([1, "a"], dtype=object)) == print_of(np.array([1, "a"], dtype=object))


@pytest.mark.parametrize(
    "others",
    [
        [torch.ones(2), torch.ones(2, 1), torch.ones(2, dtype=torch.float64), -torch.ones(2), np.ones(2), [1.0, 1.0]],
        [np.ones(2), np.ones((2, 1)), np.ones(2, dtype=np.float32), np.array(["a", "b"]), np.float64(1.0), 1.0],
        [1, 1.0, True, "1", b"1", None, [1], [[1]], {1: 1}, {"1": 1}, 1j, torch.float32, torch.device("cpu")],
        [Kind.TRAIN, "Kind.TRAIN", 1, ()],
        [[], {"": []}, [[]], [[], []]],
        [0.0, -0.0, float("nan"), float("inf")],
        [torch.ones(2, 2).to_sparse(), torch.ones(2, 2), torch.eye(2).to_sparse()],
    ],
    ids=lambda others: type(others[0]).__name__,
)
def test_what_differs_has_other_fingerprints(others: Sequence[Any]) -> None:
    assert len({print_of(other) for other in others}) == len(others)


def test_arrays_are_read_by_their_values_not_their_memory() -> None:
    whole = np.arange(12, dtype=np.int64).reshape(3, 4)
    assert print_of(whole.T) == print_of(whole.T.copy())
    assert print_of(whole[::-1]) == print_of(whole[::-1].copy())
    assert print_of(torch.from_numpy(whole).T) == print_of(torch.from_numpy(whole.T.copy()))
    frozen = whole.copy()
    frozen.flags.writeable = False
    assert print_of(frozen) == print_of(whole)


def test_examples_are_the_length_of_the_first_tensor() -> None:
    def examples(batch: Any) -> int:
        return batches.read(batch, Readings(1).fingerprints).examples

    assert examples(None) == 0
    assert examples("text") == 0
    assert examples([torch.ones(()), torch.ones(7, 2), torch.ones(3)]) == 7
    assert examples({"b": torch.ones(3), "a": np.ones(5)}) == 5


def test_what_cannot_be_read_is_named_and_breaks_nothing() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for batch, unread in (([Graph(), 1], ["Graph"]), (endless, ["object"]), (torch.ones(2, device="meta"), ["Tensor"])):
        assert batches.read(batch, Readings(1).fingerprints).unread == unread


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_no_fingerprint(threads: int) -> None:
    tensors = [torch.arange(size, dtype=torch.float32) for size in (0, 1, 70_001, 3, 65_536, 9)]
    tensors.append(torch.eye(5).to_sparse())
    readings = Readings(threads)
    found: list[Reading] = readings.fingerprints(tensors)
    readings.close()
    assert found == Readings(1).fingerprints(tensors)
