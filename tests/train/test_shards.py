"""The fixed tree: to the bit what a tree of pairwise sums, written out, gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from glassrun.exact import bits, exact_sum, from_bits
from glassrun.train.loop import prints_of_each
from glassrun.train.memory import Layout
from glassrun.train.shards import Partial, TreeSum, divided, own_slices
from glassrun.train.workers import Workers

PROPERTY = settings(max_examples=30, deadline=None)
POWERS = [1, 2, 4, 8, 16]
SHAPES = [(3, 5), (7,), (), (2, 3, 11), (0, 5)]
CPU = torch.device("cpu")
Slice = list[Tensor | None]


def pairwise(values: list[Tensor | None]) -> Tensor | None:
    """((0 + 1) + (2 + 3)) + …: the tree by its definition; what is absent is no summand."""
    if len(values) == 1:
        return values[0]
    left, right = pairwise(values[: len(values) // 2]), pairwise(values[len(values) // 2 :])
    if left is None or right is None:
        return right if left is None else left
    return left + right


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Equal to the bit."""
    if a is None or b is None:
        return a is b
    return (
        a.shape == b.shape
        and a.dtype == b.dtype
        and a.contiguous().numpy().tobytes() == b.contiguous().numpy().tobytes()
    )


def tree_of(slices: list[Slice], like: list[Tensor]) -> TreeSum:
    tree = TreeSum(Layout(like, 16), CPU)
    for tensors in slices:
        tree.add(tensors)
    return tree


def taken(tree: TreeSum) -> Slice:
    """The sums, copied, with the memory given back."""
    total = tree.take()
    sums = [None if t is None else t.clone() for t in total.tensors()]
    tree.release(total)
    return sums


def draws(shards: int, seed: int, dtype: torch.dtype = torch.float32) -> list[Slice]:
    """Numbers over many magnitudes, so that every other order of summation gives other bits."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [
            (torch.randn(s, generator=generator) * 10 ** (4 * torch.randn(s, generator=generator))).to(dtype)
            for s in SHAPES
        ]
        for _ in range(shards)
    ]


LIKE = [torch.empty(shape) for shape in SHAPES]


@pytest.mark.parametrize("shards", POWERS)
@pytest.mark.parametrize("seed", range(5))
def test_the_sum_is_the_tree_to_the_bit(shards: int, seed: int) -> None:
    slices = draws(shards, seed)
    found = taken(tree_of(slices, LIKE))
    for i, total in enumerate(found):
        assert same(total, pairwise([tensors[i] for tensors in slices]))


def test_the_numbers_tell_the_tree_from_other_orders() -> None:
    """Else the tests above could not fail."""
    slices = draws(8, 0)
    in_order = slices[0][0]
    for tensors in slices[1:]:
        in_order = in_order + tensors[0]  # type: ignore[operator]
    assert not same(in_order, pairwise([tensors[0] for tensors in slices]))


@pytest.mark.parametrize("shards", POWERS)
def test_memory_is_reused_without_a_trace(shards: int) -> None:
    tree = TreeSum(Layout(LIKE, 16), CPU)
    for seed in range(4):
        slices = draws(shards, seed)
        for tensors in slices:
            tree.add(tensors)
        found = taken(tree)
        assert all(same(total, pairwise([tensors[i] for tensors in slices])) for i, total in enumerate(found))


def test_each_dtype_is_summed_in_its_own() -> None:
    like = [torch.empty(3, dtype=torch.float64), torch.empty(5, dtype=torch.bfloat16), torch.empty(7)]
    generator = torch.Generator().manual_seed(3)
    slices: list[Slice] = [[torch.randn(t.shape, generator=generator).to(t.dtype) for t in like] for _ in range(4)]
    for i, total in enumerate(taken(tree_of(slices, like))):
        expected = pairwise([tensors[i] for tensors in slices])
        assert total is not None
        assert expected is not None
        assert total.dtype == like[i].dtype
        assert torch.equal(total, expected)


@PROPERTY
@given(st.sampled_from(POWERS), st.integers(0, 1000), st.data())
def test_absent_tensors_are_no_summands(shards: int, seed: int, data: st.DataObject) -> None:
    present = data.draw(st.lists(st.tuples(*[st.booleans()] * len(SHAPES)), min_size=shards, max_size=shards))
    slices: list[Slice] = [
        [tensor if there else None for tensor, there in zip(tensors, row, strict=True)]
        for tensors, row in zip(draws(shards, seed), present, strict=True)
    ]
    tree = tree_of(draws(shards, seed + 1), LIKE)  # something else lay in its memory before
    taken(tree)
    for tensors in slices:
        tree.add(tensors)
    for i, total in enumerate(taken(tree)):
        assert same(total, pairwise([tensors[i] for tensors in slices]))


@pytest.mark.parametrize("shards", POWERS)
def test_absent_everywhere_stays_absent(shards: int) -> None:
    like = [torch.empty(3), torch.empty(5)]
    slices: list[Slice] = [[torch.ones(3), None] for _ in range(shards)]
    found = taken(tree_of(slices, like))
    assert found[1] is None
    assert same(found[0], torch.full((3,), float(shards)))


@pytest.mark.parametrize("shards", POWERS)
@pytest.mark.parametrize("there", ["all", "first", "last"])
def test_minus_zero_is_kept_so_nothing_starts_from_zeros(shards: int, there: str) -> None:
    minus = torch.full((5,), -0.0)
    places = {"all": set(range(shards)), "first": {0}, "last": {shards - 1}}[there]
    slices: list[Slice] = [[minus if i in places else None] for i in range(shards)]
    (found,) = taken(tree_of(slices, [minus]))
    assert same(found, minus)


def test_the_tensors_given_are_copied_not_kept() -> None:
    tree = TreeSum(Layout([torch.empty(3)], 1), CPU)
    gradient = torch.ones(3)
    tree.add([gradient])
    gradient.fill_(7.0)
    tree.add([gradient])
    assert same(taken(tree)[0], torch.full((3,), 8.0))
    assert gradient.tolist() == [7.0] * 3


@pytest.mark.parametrize("count", [3, 5, 6, 7])
def test_a_number_of_slices_that_is_no_power_of_two_is_our_mistake(count: int) -> None:
    with pytest.raises(AssertionError):
        tree_of(draws(count, 0), LIKE).take()


def test_tensors_of_another_form_are_not_taken() -> None:
    with pytest.raises((RuntimeError, IndexError)):
        tree_of([[torch.ones(4)]], [torch.empty(3)])


# --- over several workers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", POWERS)
def test_workers_own_all_slices_once_in_order(shards: int) -> None:
    for world_size in (w for w in POWERS if w <= shards):
        owned = [list(own_slices(shards, rank, world_size)) for rank in range(world_size)]
        assert [place for part in owned for place in part] == list(range(shards))
        assert {len(part) for part in owned} == {shards // world_size}


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_the_trees_of_workers_put_together_are_the_tree(world_size: int) -> None:
    """What each worker has is a subtree; their sums, pair by pair, give the bits of one worker."""
    slices = draws(8, 7)
    slices[3][1] = slices[6][1] = None
    parts: list[Partial] = [
        tree_of([slices[i] for i in own_slices(8, rank, world_size)], LIKE).take() for rank in range(world_size)
    ]
    while len(parts) > 1:
        for left, right in zip(parts[::2], parts[1::2], strict=True):
            left.add(right)
        parts = parts[::2]
    for i, total in enumerate(parts[0].tensors()):
        assert same(total, pairwise([tensors[i] for tensors in slices]))


def test_one_worker_alone_needs_nobody() -> None:
    workers = Workers()
    tree = tree_of(draws(4, 0), LIKE)
    before = [t.clone() for t in tree._levels[-1].tensors()]  # type: ignore[union-attr]
    total = tree.take()
    assert workers.tree_sum(total, tree, [3, 5]) == [[3, 5]]
    assert all(same(a, b) for a, b in zip(total.tensors(), before, strict=True))
    assert workers.gather([1, 2**64 - 1]) == [[1, 2**64 - 1]]


@PROPERTY
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)), st.randoms())
def test_an_exact_sum_has_no_order(values: list[float], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(values)
    random.shuffle(shuffled)
    assert bits(exact_sum(shuffled)) == bits(exact_sum(values))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_an_exact_sum_over_what_is_not_finite_is_nan(bad: float) -> None:
    assert exact_sum([1.0, bad, 2.0]) != exact_sum([1.0, bad, 2.0])


@PROPERTY
@given(st.floats())
def test_the_bits_of_a_double_round_trip(value: float) -> None:
    assert 0 <= bits(value) < 2**64
    assert from_bits(bits(value)).hex() == value.hex()


@PROPERTY
@given(costs=st.lists(st.integers(1, 1000), max_size=30), parts=st.sampled_from(POWERS))
def test_work_is_divided_so_that_no_part_has_more_than_one_task_above_another(costs: list[int], parts: int) -> None:
    found = divided(costs, parts)
    assert len(found) == parts
    assert sorted(place for part in found for place in part) == list(range(len(costs)))
    loads = [sum(costs[place] for place in part) for part in found]
    assert max(loads) - min(loads) <= max(costs, default=0)


def test_the_fingerprints_of_weights_and_biases_in_turn_are_shared_out_by_size() -> None:
    tensors = [torch.empty(size) for _ in range(8) for size in (100_000, 10)]
    first, second = prints_of_each(tensors, 2)
    assert len(first) == len(second)
    sizes = [sum(tensors[i].numel() for i in part if i is not None) for part in (first, second)]
    assert sizes == [400_040, 400_040]
