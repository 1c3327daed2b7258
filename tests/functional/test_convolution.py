"""Convolution, batch normalisation, pooling. The whole file runs with the shape annotations enforced."""

import types
import typing

import pytest
import torch
import torch.nn.functional as F
from beartype import beartype
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float, TypeCheckError, jaxtyped

from glassrun.functional import convolution as source
from glassrun.functional.convolution import output_size

BATCH, IN, OUT, HEIGHT, WIDTH = 2, 3, 5, 11, 13
properties = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32)


def checked(function):
    """A copy that checks its shapes: the source gives annotations to type checkers only, so they are resolved here."""
    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__annotations__ = typing.get_type_hints(function, {**vars(source), "Float": Float})
    return jaxtyped(typechecker=beartype)(copy)


convolution, batch_normalisation, max_pooling, average_pooling = (
    checked(function)
    for function in (source.convolution, source.batch_normalisation, source.max_pooling, source.average_pooling)
)


def draw(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]


def windows(x, height, width, stride):
    """Every window of an image: [batch, channels, out_height, out_width, height, width]."""
    return x.unfold(2, height, stride).unfold(3, width, stride)


def assert_same_with_gradients(function, reference, inputs, tolerance=1e-12):
    ours, theirs = ([t.clone().requires_grad_() for t in inputs] for _ in range(2))
    output, expected = function(*ours), reference(*theirs)
    torch.testing.assert_close(output, expected, rtol=tolerance, atol=tolerance)
    (pull,) = draw(99, output.shape)
    for found, wanted in zip(
        torch.autograd.grad(output, ours, pull), torch.autograd.grad(expected, theirs, pull), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


def test_convolution_hand_computed():
    image = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    kernel = torch.tensor([[[[1.0, 10.0]]], [[[0.0, 2.0]]]])  # not symmetric: a flipped kernel would show
    assert convolution(image, kernel).tolist() == [[[[21.0, 32.0], [54.0, 65.0]], [[4.0, 6.0], [10.0, 12.0]]]]
    biased = convolution(image, kernel, torch.tensor([100.0, 0.5]), stride=2)
    assert biased.tolist() == [[[[121.0]], [[4.5]]]]


def test_padding_is_zeros():
    image = torch.tensor([[[[3.0]]]])
    kernel = torch.arange(1.0, 10.0).view(1, 1, 3, 3)
    # The only pixel meets every weight in turn, the last one first.
    assert convolution(image, kernel, padding=2).flatten().tolist() == [27.0, 24, 21, 18, 15, 12, 9, 6, 3]


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 0), (1, 1), (3, 2)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_convolution_equals_the_sum_over_windows_with_gradients(stride, padding, with_bias):
    inputs = draw(1, (BATCH, IN, HEIGHT, WIDTH), (OUT, IN, 3, 5), (OUT,))[: 3 if with_bias else 2]

    def reference(image, kernel, bias=None):
        cut = windows(F.pad(image, (padding,) * 4), 3, 5, stride)
        maps = torch.einsum("ncijuv,ocuv->noij", cut, kernel)
        return maps if bias is None else maps + bias[:, None, None]

    assert_same_with_gradients(lambda *t: convolution(*t, stride=stride, padding=padding), reference, inputs)


@properties
@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 4), st.integers(0, 3))
def test_output_size_is_the_size_that_comes_out(size, kernel_size, stride, padding):
    if size + 2 * padding < kernel_size:
        assert output_size(size, kernel_size, stride=stride, padding=padding) < 1
        return
    image, kernel = torch.zeros(1, 1, size, size + 1), torch.zeros(1, 1, kernel_size, kernel_size)
    out = convolution(image, kernel, stride=stride, padding=padding)
    assert out.shape[2:] == tuple(
        output_size(side, kernel_size, stride=stride, padding=padding) for side in (size, size + 1)
    )


@properties
@given(seeds, st.integers(-3, 3), st.integers(-3, 3))
def test_convolution_shifts_with_its_image(seed, down, right):
    image, kernel = draw(seed, (BATCH, IN, HEIGHT, WIDTH), (OUT, IN, 3, 5))
    maps = convolution(image, kernel, padding=2)
    shifted = convolution(image.roll((down, right), (2, 3)), kernel, padding=2)
    # Away from the border: farther than a kernel and the shift reach.
    inside = (..., slice(5, -5), slice(5, -5))
    torch.testing.assert_close(shifted[inside], maps.roll((down, right), (2, 3))[inside], rtol=0, atol=1e-13)


def test_batch_normalisation_hand_computed():
    # First channel: mean 3, variance 4 (over batch, height and width together). Second: constant.
    x = torch.tensor([[[[1.0, 5.0]], [[7.0, 7.0]]], [[[1.0, 5.0]], [[7.0, 7.0]]]])
    # eps 5 under the root: √(4 + 5) = 3.
    y = batch_normalisation(x, torch.tensor([6.0, 1.0]), torch.tensor([1.0, 0.5]), 5.0)
    torch.testing.assert_close(y, torch.tensor([[[[-3.0, 5.0]], [[0.5, 0.5]]], [[[-3.0, 5.0]], [[0.5, 0.5]]]]))


def test_batch_normalisation_equals_torch_with_gradients():
    inputs = draw(2, (BATCH, IN, HEIGHT, WIDTH), (IN,), (IN,))
    assert_same_with_gradients(
        batch_normalisation, lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), inputs, tolerance=1e-11
    )


@properties
@given(seeds, st.floats(0.1, 100.0), st.floats(-100.0, 100.0))
def test_batch_normalisation_gives_mean_zero_and_variance_one(seed, scale, offset):
    (x,) = draw(seed, (BATCH, IN, HEIGHT, WIDTH))
    y = batch_normalisation(x * scale + offset, torch.ones(IN).double(), torch.zeros(IN).double(), 1e-12)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(IN).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(y.square().mean((0, 2, 3)), torch.ones(IN).double(), rtol=0, atol=1e-8)


def test_pooling_hand_computed():
    # The third row and the third column fill no window.
    x = torch.tensor([[[[1.0, 8.0, 99.0], [3.0, 4.0, 99.0], [99.0, 99.0, 99.0]]]])
    assert max_pooling(x, 2).tolist() == [[[[8.0]]]]
    assert average_pooling(x, 2).tolist() == [[[[4.0]]]]


@pytest.mark.parametrize("size", [2, 3])
def test_pooling_equals_windows_with_gradients(size):
    inputs = draw(3, (BATCH, IN, HEIGHT, WIDTH))
    assert_same_with_gradients(
        lambda x: max_pooling(x, size), lambda x: windows(x, size, size, size).flatten(-2).amax(-1), inputs
    )
    assert_same_with_gradients(
        lambda x: average_pooling(x, size), lambda x: windows(x, size, size, size).flatten(-2).mean(-1), inputs
    )


def test_gradcheck():
    image, kernel, bias, weight, shift = (
        t.requires_grad_() for t in draw(4, (2, 2, 5, 4), (3, 2, 2, 3), (3,), (2,), (2,))
    )
    assert torch.autograd.gradcheck(lambda *t: convolution(*t, stride=2, padding=1), (image, kernel, bias))
    assert torch.autograd.gradcheck(batch_normalisation, (image, weight, shift))
    assert torch.autograd.gradcheck(lambda x: max_pooling(x, 2), (image,))
    assert torch.autograd.gradcheck(lambda x: average_pooling(x, 2), (image,))


def test_wrong_shapes_are_noticed():
    # Proves that the annotations are really enforced in this file.
    image, kernel = draw(5, (IN, HEIGHT, WIDTH), (OUT, IN, 3, 5))
    with pytest.raises(TypeCheckError):
        convolution(image, kernel)  # torch takes an image without a batch
    with pytest.raises(TypeCheckError):
        batch_normalisation(image[None], torch.ones(1).double(), torch.ones(IN).double())  # torch would broadcast
