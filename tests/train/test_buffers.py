"""What slices do to buffers: floating ones are averaged by the tree, others must agree."""

import pytest
import torch
from torch import Tensor, nn

from glassrun.errors import ModelError
from glassrun.record.fingerprint import Fingerprinter
from glassrun.train.buffers import Slots, StepBuffers, same_bits
from glassrun.train.memory import own_parameters_and_buffers
from glassrun.train.workers import Workers


class Holder(nn.Module):
    """A floating buffer, a floating one that never changes, a counter, and one of one element."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.arange(5.0))
        self.register_buffer("constant", torch.full((3,), -0.0))
        self.inner = nn.Module()
        self.inner.register_buffer("count", torch.tensor(7))
        self.register_buffer("seen", torch.tensor([False, True, False]), persistent=False)


def step(module: nn.Module, slices: list, shards: int | None = None) -> None:  # type: ignore[type-arg]
    """One step: each slice is a function that does what a forward would do."""
    own_parameters_and_buffers(module)
    buffers = StepBuffers(module, shards or len(slices), Fingerprinter())
    one_step(buffers, slices)


def one_step(buffers: StepBuffers, slices: list) -> None:  # type: ignore[type-arg]
    buffers.begin()
    for forward in slices:
        forward()
        buffers.collect()
    buffers.finish(Workers())


def pairwise(values: list[Tensor]) -> Tensor:
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    return pairwise(values[:half]) + pairwise(values[half:])


@pytest.mark.parametrize("shards", [1, 2, 4, 8])
def test_floating_buffers_are_averaged_by_the_tree(shards: int) -> None:
    module = Holder()
    generator = torch.Generator().manual_seed(5)
    values = [torch.randn(5, generator=generator) * 10.0**i for i in range(shards)]
    step(module, [lambda v=v: module.mean.copy_(v) for v in values])
    assert same_bits(module.mean, pairwise(values) / shards)


def test_every_slice_starts_from_the_buffers_of_the_step() -> None:
    module = Holder()
    found: list[list[float]] = []

    def forward() -> None:
        found.append(module.mean.tolist())
        module.mean.add_(1.0)

    step(module, [forward] * 4)
    assert found == [[0.0, 1.0, 2.0, 3.0, 4.0]] * 4
    assert module.mean.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_slice_that_changes_nothing_counts_with_the_buffers_of_the_step() -> None:
    module = Holder()
    step(module, [lambda: None, lambda: module.mean.add_(4.0), lambda: None, lambda: None])
    assert module.mean.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_what_no_slice_changed_keeps_its_bits() -> None:
    """Averaging would not: (x + x + x + x) / 4 overflows for large x."""
    module = Holder()
    module.constant = torch.tensor([3e38, -0.0, float("nan")])
    before = module.constant.clone()
    step(module, [lambda: module.mean.add_(1.0)] * 4)
    assert same_bits(module.constant, before)


def test_a_buffer_that_only_changed_to_minus_zero_has_changed() -> None:
    module = Holder()
    module.mean.zero_()
    step(module, [lambda: module.mean.fill_(-0.0)] * 2)
    assert same_bits(module.mean, torch.full((5,), -0.0))


def test_counters_that_agree_are_taken() -> None:
    module = Holder()

    def forward() -> None:
        module.inner.count.add_(1)
        module.seen[0] = True

    step(module, [forward] * 4)
    assert int(module.inner.count) == 8  # one more for the step, not for each slice
    assert module.seen.tolist() == [True, True, False]


@pytest.mark.parametrize("odd_one", [0, 1, 3])
def test_counters_that_disagree_are_an_error_that_names_the_buffer(odd_one: int) -> None:
    module = Holder()
    with pytest.raises(ModelError, match=r"buffer inner\.count \(int64 \[\]\) got different values"):
        step(module, [lambda i=i: module.inner.count.add_(2 if i == odd_one else 1) for i in range(4)])


def test_booleans_that_disagree_are_named_too() -> None:
    module = Holder()
    with pytest.raises(ModelError, match="buffer seen"):
        step(module, [lambda i=i: module.seen.logical_or_(torch.tensor(i == 1)) for i in range(2)])


def test_a_forward_that_replaces_its_buffer_tensor() -> None:
    module = Holder()
    own_parameters_and_buffers(module)
    mean, count = module.mean, module.inner.count
    buffers = StepBuffers(module, 4, Fingerprinter())

    def forward(i: int) -> None:
        module.mean = module.mean + i
        module.inner.count = module.inner.count + 1

    for _ in range(2):
        one_step(buffers, [lambda i=i: forward(i) for i in range(4)])
    assert module.mean is mean
    assert module.inner.count is count
    assert module.mean.tolist() == [3.0, 4.0, 5.0, 6.0, 7.0]
    assert int(module.inner.count) == 9
    assert module.mean.data_ptr() % 64 == 0


def test_a_buffer_that_is_replaced_by_one_in_a_graph() -> None:
    module = Holder()
    weight = nn.Parameter(torch.ones(5))

    def forward() -> None:
        module.mean = module.mean * weight * 2

    step(module, [forward] * 2)
    assert module.mean.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert not module.mean.requires_grad


@pytest.mark.parametrize(
    "value",
    [torch.zeros(6), torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.int64), torch.zeros(1, 5), None],
)
def test_a_buffer_that_changes_its_form_is_an_error_that_names_it(value: Tensor | None) -> None:
    module = Holder()
    with pytest.raises(ModelError, match="buffer mean changed its form"):
        step(module, [lambda: setattr(module, "mean", value)])


def test_a_buffer_that_is_filled_for_the_first_time_by_a_slice() -> None:
    """`register_buffer("cache", None)`, filled in the forward: the second slice must not start from the first's."""
    module = nn.Module()
    module.register_buffer("cache", None)
    found: list[Tensor | None] = []

    def forward() -> None:
        found.append(module.cache)
        module.cache = torch.tensor([float(len(found))])

    try:
        step(module, [forward] * 2)
    except ModelError as error:
        assert "cache" in str(error)  # noqa: PT017 - refusing it is as good as keeping it
    else:
        assert found == [None, None]


def test_shared_buffers_are_averaged_once() -> None:
    module = Holder()
    module.inner.register_buffer("also_mean", module.mean)
    step(module, [lambda: module.mean.add_(2.0), lambda: module.inner.also_mean.add_(4.0)])
    assert module.mean.tolist() == [3.0, 4.0, 5.0, 6.0, 7.0]
    assert module.inner.also_mean is module.mean


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_batch_norm(shards: int) -> None:
    """Running statistics are the mean over slices of what each slice alone would make of them."""
    generator = torch.Generator().manual_seed(11)
    batches = [torch.randn(3, 7, generator=generator) * 3 + 1 for _ in range(shards)]
    module = nn.BatchNorm1d(7)
    step(module, [lambda b=b: module(b) for b in batches])
    means = [0.1 * batch.mean(0) for batch in batches]
    variances = [0.9 + 0.1 * batch.var(0, unbiased=True) for batch in batches]
    torch.testing.assert_close(module.running_mean, torch.stack(means).mean(0), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(module.running_var, torch.stack(variances).mean(0), rtol=1e-6, atol=1e-7)
    assert int(module.num_batches_tracked) == 1


def test_a_module_without_buffers() -> None:
    module = nn.Linear(3, 5)
    step(module, [lambda: None] * 2)
    assert list(module.named_buffers()) == []


def test_an_empty_buffer() -> None:
    module = nn.Module()
    module.register_buffer("empty", torch.empty(0, 3))
    step(module, [lambda: None] * 2)
    assert module.empty.shape == (0, 3)


def test_same_bits() -> None:
    nan = torch.tensor([float("nan")])
    assert same_bits(nan, nan.clone())
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert same_bits(torch.arange(6.0).reshape(2, 3).t(), torch.arange(6.0).reshape(2, 3).t().clone())


def test_slots_put_every_name_back() -> None:
    """Replaced under one name of two, filled where None was, registered anew: all as it was afterwards."""
    module = nn.Sequential(nn.BatchNorm1d(3), Holder())
    module[1].register_buffer("also", module[0].running_mean)
    module[1].register_buffer("cache", None)
    before = dict(module.named_buffers(remove_duplicate=False))
    slots = Slots(module)
    assert slots.of(module[0].running_mean) == [(module[0], "running_mean"), (module[1], "also")]
    module[1].also = torch.ones(3)
    module[1].cache = torch.ones(2)
    module[0].register_buffer("new", torch.ones(1), persistent=False)
    slots.restore()
    after = dict(module.named_buffers(remove_duplicate=False))
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert module[1].cache is None


def test_a_shared_buffer_replaced_under_its_second_name() -> None:
    module = Holder()
    module.inner.register_buffer("also_mean", module.mean)
    step(module, [lambda v=v: setattr(module.inner, "also_mean", torch.full((5,), v)) for v in (2.0, 4.0)])
    assert module.mean.tolist() == [3.0] * 5
    assert module.inner.also_mean is module.mean


def test_a_buffer_that_the_forward_registers_is_gone_after_the_slice() -> None:
    module = nn.Module()
    found: list[bool] = []

    def forward() -> None:
        found.append(hasattr(module, "cache"))
        if not hasattr(module, "cache"):
            module.register_buffer("cache", torch.tensor([1.0]))

    step(module, [forward] * 2)
    assert found == [False, False]
    assert not hasattr(module, "cache")
