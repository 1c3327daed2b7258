"""Every copy owns contiguous, aligned storage; layouts give each tensor an aligned place."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from glassrun.errors import ModelError
from glassrun.train.memory import Layout, own_parameters_and_buffers, owned
from in_process import state_of
from support import Made

PROPERTY = settings(max_examples=30, deadline=None)
DTYPES = [
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]


def assert_owned(copy: Tensor, original: Tensor) -> None:
    assert copy.data_ptr() % 64 == 0
    assert copy.is_contiguous()
    assert copy.storage_offset() == 0
    assert copy.untyped_storage().nbytes() == copy.nbytes
    assert copy.dtype == original.dtype
    assert copy.shape == original.shape
    assert copy.grad_fn is None
    assert not copy.requires_grad
    assert torch.equal(copy, original)
    if original.numel():
        assert copy.untyped_storage().data_ptr() != original.untyped_storage().data_ptr()


@PROPERTY
@given(st.lists(st.integers(0, 13), max_size=4), st.sampled_from(DTYPES))
def test_owned_of_any_shape_and_dtype(shape: list[int], dtype: torch.dtype) -> None:
    tensor = torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
    assert_owned(owned(tensor), tensor)


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t.t(),
        lambda t: t[:, ::2],
        lambda t: t[3:7, 1:],
        lambda t: t.flip(1),
        lambda t: t[2, 3],
        lambda t: t[:1].expand(5, 13),
        lambda t: torch.as_strided(t, (11, 13), (1, 1)),
        lambda t: t.unfold(1, 5, 3),
        lambda t: t[4:4],
        lambda t: t.requires_grad_() * 2,
    ],
)
def test_owned_of_views(view) -> None:  # type: ignore[no-untyped-def]
    original = view(torch.arange(143.0).reshape(11, 13))
    assert_owned(owned(original), original.detach())


@pytest.mark.parametrize("offset", range(1, 17))
def test_owned_of_storage_at_odd_places(offset: int) -> None:
    original = torch.arange(101.0)[offset : offset + 65]
    assert_owned(owned(original), original)


def test_owned_keeps_bits() -> None:
    original = torch.tensor([-0.0, float("nan"), float("inf"), 5e-324], dtype=torch.float64)
    assert owned(original).view(torch.int64).tolist() == original.view(torch.int64).tolist()


def test_owned_does_not_follow_the_original() -> None:
    original = torch.zeros(3)
    copy = owned(original)
    original.fill_(1.0)
    assert copy.tolist() == [0.0] * 3


class Shares(nn.Module):
    """Tied weights, a buffer under two names, views and odd widths, and a buffer that is not there."""

    def __init__(self) -> None:
        super().__init__()
        pool = torch.arange(300.0)
        self.first = nn.Linear(5, 7)
        self.second = nn.Linear(5, 7)
        self.second.weight = self.first.weight
        self.odd = nn.Parameter(pool[1:14])
        self.turned = nn.Parameter(pool[20:35].reshape(3, 5).t())
        self.norm = nn.BatchNorm1d(7)
        self.register_buffer("table", pool[101:114])
        self.first.register_buffer("same_table", self.table)
        self.register_buffer("nothing", None)


def test_a_module_owns_its_parameters_and_buffers_and_shares_what_it_shared() -> None:
    module = Shares()
    before = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    identities = [id(parameter) for parameter in module.parameters()]
    own_parameters_and_buffers(module)
    after = module.state_dict()
    assert list(after) == list(before)
    for name, tensor in after.items():
        assert tensor.data_ptr() % 64 == 0, name
        assert tensor.is_contiguous(), name
        assert tensor.storage_offset() == 0, name
        assert torch.equal(tensor, before[name]), name
    assert [id(parameter) for parameter in module.parameters()] == identities  # optimizers hold them
    assert module.second.weight is module.first.weight
    assert module.first.same_table is module.table
    assert module.nothing is None
    storages = [t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())]
    assert len(set(storages)) == len(storages)


# --- layouts ---------------------------------------------------------------------------------------------------------

SHAPES = st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=1, max_size=6)


@PROPERTY
@given(SHAPES, st.data(), st.sampled_from([1, 2, 4, 8]))
def test_every_view_is_aligned_apart_and_in_shape(shapes: list[list[int]], data: st.DataObject, chunks: int) -> None:
    dtypes = data.draw(st.lists(st.sampled_from(DTYPES[:4]), min_size=len(shapes), max_size=len(shapes)))
    tensors = [torch.empty(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
    layout = Layout(tensors, chunks)
    flat = layout.new(torch.device("cpu"))
    views = layout.views(flat)
    for dtype, memory in flat.items():
        assert memory.dtype == dtype
        assert memory.nbytes % (64 * chunks) == 0  # equal aligned parts for so many workers
        assert not bool(memory.any())
    for number, (view, tensor) in enumerate(zip(views, tensors, strict=True), start=1):
        assert view.shape == tensor.shape
        assert view.dtype == tensor.dtype
        assert view.is_contiguous()
        assert view.data_ptr() % 64 == 0
        view.fill_(number)
    for number, view in enumerate(views, start=1):  # nobody wrote into another's place
        assert bool((view == number).all())
    written = sum(view.numel() for view in views)
    assert sum(int((memory != 0).sum()) for memory in flat.values()) == written


def test_a_layout_of_nothing_takes_no_memory() -> None:
    layout = Layout([], 4)
    assert layout.new(torch.device("cpu")) == {}
    assert layout.views({}) == []


def test_a_model_that_is_larger_than_the_memory_is_the_recipes_mistake(made: Made) -> None:
    with pytest.raises(ModelError, match=r"does not fit this machine's memory.*takes [\d,]+ bytes"):
        state_of(made, "odd-cnn", **{"model.hidden": 2**31 - 1, "model.channels": [4096]})
