"""Locally connected layers: against a loop, and against convolution where all kernels are the same."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassrun.functional.convolution import convolution, output_size
from glassrun.functional.locally_connected import locally_connected
from glassrun.nn.locally_connected import LocallyConnected

BATCH, IN, OUT = 2, 3, 5
SIZES = {1: (13,), 2: (7, 11), 3: (4, 5, 3)}
EVERY_DIMENSION = pytest.mark.parametrize("dimensions", [1, 2, 3])


def draw(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]


def naive(x, kernel, bias, *, stride, padding):
    """The formula as loops over places and offsets."""
    size, window = x.shape[2:], kernel.shape[3:]
    out = [output_size(side, w, stride=stride, padding=padding) for side, w in zip(size, window, strict=True)]
    maps = torch.zeros(len(x), kernel.shape[1], *out, dtype=x.dtype)
    for number, place in enumerate(itertools.product(*map(range, out))):
        maps[(..., *place)] = bias[number]
        for offset in itertools.product(*map(range, window)):
            where = [p * stride + o - padding for p, o in zip(place, offset, strict=True)]
            if all(0 <= w < side for w, side in zip(where, size, strict=True)):
                maps[(..., *place)] += x[(..., *where)] @ kernel[(number, ..., *offset)].T
    return maps


@EVERY_DIMENSION
@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1)])
def test_equals_a_naive_loop_with_gradients(dimensions, stride, padding):
    size = SIZES[dimensions]
    window = (3, 2, 1)[:dimensions]
    out = [output_size(side, w, stride=stride, padding=padding) for side, w in zip(size, window, strict=True)]
    places = torch.Size(out).numel()
    inputs = draw(1, (BATCH, IN, *size), (places, OUT, IN, *window), (places, OUT))
    ours, theirs = ([t.clone().requires_grad_() for t in inputs] for _ in range(2))
    maps = locally_connected(*ours, stride=stride, padding=padding)
    expected = naive(*theirs, stride=stride, padding=padding)
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-13)
    (pull,) = draw(2, maps.shape)
    for found, wanted in zip(
        torch.autograd.grad(maps, ours, pull), torch.autograd.grad(expected, theirs, pull), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2))
def test_equals_convolution_where_all_kernels_are_the_same(seed, dimensions, stride, padding):
    x, kernel, bias = draw(seed, (BATCH, IN, *SIZES[dimensions]), (OUT, IN, *(3,) * dimensions), (OUT,))
    shared = convolution(x, kernel, bias, stride=stride, padding=padding)
    places = shared.shape[2:].numel()
    own = locally_connected(
        x, kernel.expand(places, *kernel.shape), bias.expand(places, OUT), stride=stride, padding=padding
    )
    torch.testing.assert_close(own, shared, rtol=0, atol=1e-12)


def test_without_a_bias_it_is_a_bias_of_zeros():
    x, kernel = draw(3, (BATCH, IN, 5), (3, OUT, IN, 3))
    zeros = torch.zeros(3, OUT, dtype=torch.float64)
    torch.testing.assert_close(locally_connected(x, kernel), locally_connected(x, kernel, zeros), rtol=0, atol=1e-14)


def test_too_few_kernels_are_an_error():
    x, kernel = draw(4, (BATCH, IN, 5, 7), (14, OUT, IN, 3, 3))
    with pytest.raises(ValueError, match=r"for 15 places, which the output of size \(3, 5\) has, found 14"):
        locally_connected(x, kernel)


def test_gradcheck():
    inputs = [t.requires_grad_() for t in draw(5, (2, 2, 4, 3), (6, 3, 2, 2, 2), (6, 3))]
    assert torch.autograd.gradcheck(locally_connected, inputs)


def test_the_module_has_as_many_kernels_as_places_and_calls_the_function():
    layer = LocallyConnected(IN, OUT, (7, 11), 3, stride=2, padding=1).double()
    (x,) = draw(6, (BATCH, IN, 7, 11))
    assert layer.weight.shape == (4 * 6, OUT, IN, 3, 3)
    assert torch.equal(layer(x), locally_connected(x, layer.weight, layer.bias, stride=2, padding=1))
    # 24 times the parameters of the convolution that shares them.
    shared = torch.nn.Conv2d(IN, OUT, 3)
    assert sum(p.numel() for p in layer.parameters()) == 24 * sum(p.numel() for p in shared.parameters())
    assert LocallyConnected(IN, OUT, (7,), 3, bias=False).bias is None
    bound = (IN * 9) ** -0.5
    assert 0.95 * bound < layer.weight.abs().max() <= bound
    assert "3 → 5 at 24 places, kernel_size=(3, 3), stride=2, padding=1" in repr(layer)


def test_the_module_refuses_an_input_that_is_too_small():
    with pytest.raises(ValueError, match=r"at least the kernel's size 5, found \(7, 4\)"):
        LocallyConnected(IN, OUT, (7, 4), 5)
