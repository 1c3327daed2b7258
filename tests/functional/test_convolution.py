"""Convolution and pooling in 1, 2 and 3 dimensions. The whole file runs with the shape annotations enforced."""

import itertools
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


convolution, max_pooling, average_pooling, global_average_pooling = (
    checked(function)
    for function in (
        source.convolution,
        source.max_pooling,
        source.average_pooling,
        source.global_average_pooling,
    )
)
SIZES = {1: (13,), 2: (7, 11), 3: (5, 7, 6)}
KERNELS = {1: (4,), 2: (3, 2), 3: (2, 3, 1)}
EVERY_DIMENSION = pytest.mark.parametrize("dimensions", [1, 2, 3])


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


def naive(x, kernel, *, stride, padding, dilation, groups):
    """The formula as loops over examples, maps, places and offsets; one number for each axis."""
    axes = range(kernel.ndim - 2)
    size, window = x.shape[2:], kernel.shape[2:]
    out = [output_size(size[a], window[a], stride=stride[a], padding=padding[a], dilation=dilation[a]) for a in axes]
    per_group = kernel.shape[0] // groups
    maps = torch.zeros(len(x), len(kernel), *out, dtype=x.dtype)
    for n, o, *place in itertools.product(*map(range, maps.shape)):
        for c, *offset in itertools.product(*map(range, kernel.shape[1:])):
            where = [place[a] * stride[a] + offset[a] * dilation[a] - padding[a] for a in axes]
            if all(0 <= where[a] < size[a] for a in axes):
                channel = o // per_group * kernel.shape[1] + c
                maps[(n, o, *place)] += kernel[(o, c, *offset)] * x[(n, channel, *where)]
    return maps


@EVERY_DIMENSION
def test_convolution_equals_a_naive_loop(dimensions):
    x, kernel = draw(6, (2, 4, *SIZES[dimensions]), (6, 2, *KERNELS[dimensions]))
    options = {
        "stride": (2, 1, 3)[:dimensions],
        "padding": (1, 2, 0)[:dimensions],
        "dilation": (2, 1, 2)[:dimensions],
    }
    torch.testing.assert_close(
        convolution(x, kernel, groups=2, **options), naive(x, kernel, groups=2, **options), rtol=0, atol=1e-13
    )
    same = dict.fromkeys(options, (2,) * dimensions)
    torch.testing.assert_close(
        convolution(x, kernel, groups=2, **dict.fromkeys(options, 2)),
        naive(x, kernel, groups=2, **same),
        rtol=0,
        atol=1e-13,
    )


def test_a_depthwise_convolution_sees_each_map_alone():
    x, kernel = draw(7, (BATCH, IN, HEIGHT), (IN, 1, 3))
    alone = [convolution(x[:, i : i + 1], kernel[i : i + 1]) for i in range(IN)]
    torch.testing.assert_close(convolution(x, kernel, groups=IN), torch.cat(alone, 1), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "function", [lambda x: convolution(x, x), lambda x: max_pooling(x, 2), lambda x: average_pooling(x, 2)]
)
def test_no_axes_or_too_many_are_an_error(function):
    for shape in ((2, 3), (1, 1, 2, 2, 2, 2)):
        with pytest.raises(ValueError, match=r"1 to 3 axes, found the shape \("):
            function(torch.zeros(shape))


@properties
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(1, 3),
)
def test_output_size_is_the_size_that_comes_out(size, kernel_size, stride, padding, dilation):
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    expected = [output_size(side, kernel_size, **options) for side in size]
    x, kernel = torch.zeros(1, 1, *size), torch.zeros(1, 1, *(kernel_size for _ in size))
    if min(size) + 2 * padding < dilation * (kernel_size - 1) + 1:
        assert min(expected) < 1
        return
    assert list(convolution(x, kernel, **options).shape[2:]) == expected
    if 2 * padding <= kernel_size:
        pooled = [output_size(side, kernel_size, stride=stride, padding=padding) for side in size]
        if min(pooled) >= 1:
            assert list(max_pooling(x, kernel_size, stride=stride, padding=padding).shape[2:]) == pooled


@properties
@given(seeds, st.integers(-3, 3), st.integers(-3, 3))
def test_convolution_shifts_with_its_image(seed, down, right):
    image, kernel = draw(seed, (BATCH, IN, HEIGHT, WIDTH), (OUT, IN, 3, 5))
    maps = convolution(image, kernel, padding=2)
    shifted = convolution(image.roll((down, right), (2, 3)), kernel, padding=2)
    # Away from the border: farther than a kernel and the shift reach.
    inside = (..., slice(5, -5), slice(5, -5))
    torch.testing.assert_close(shifted[inside], maps.roll((down, right), (2, 3))[inside], rtol=0, atol=1e-13)


@properties
@given(seeds, st.integers(1, 3), st.integers(1, 3), st.integers(-2, 2))
def test_with_a_stride_a_shift_by_it_moves_the_maps_by_one(seed, dimensions, stride, places):
    x, kernel = draw(seed, (1, 2, *(17,) * dimensions), (3, 2, *(3,) * dimensions))
    axes = tuple(range(2, 2 + dimensions))
    maps = convolution(x, kernel, stride=stride)
    shifted = convolution(x.roll((places * stride,) * dimensions, axes), kernel, stride=stride)
    inside = (..., *(slice(2, -2),) * dimensions)
    torch.testing.assert_close(shifted[inside], maps.roll((places,) * dimensions, axes)[inside], rtol=0, atol=1e-13)


@properties
@given(seeds, st.integers(1, 3), st.data())
def test_the_peak_of_a_map_lies_on_a_planted_pattern(seed, dimensions, data):
    """A pattern in weak noise, and the pattern as the kernel: nothing else is as much like it (Cauchy and Schwarz)."""
    noise, pattern = draw(seed, (1, 2, *(12,) * dimensions), (1, 2, *(3,) * dimensions))
    place = [data.draw(st.integers(0, 9)) for _ in range(dimensions)]
    x = noise * 1e-3
    window = (0, slice(None), *(slice(at, at + 3) for at in place))
    x[window] += pattern[0]
    peak = convolution(x, pattern)[0, 0].argmax()
    assert list(map(int, torch.unravel_index(peak, (10,) * dimensions))) == place


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


@EVERY_DIMENSION
def test_overlapping_pooling_equals_the_mean_and_the_largest_of_padded_windows(dimensions):
    (x,) = draw(8, (BATCH, IN, *SIZES[dimensions]))
    around = (1,) * (2 * dimensions)
    for function, filler, reduce in (
        (average_pooling, 0.0, lambda cut: cut.mean(-1)),
        (max_pooling, -torch.inf, lambda cut: cut.amax(-1)),
    ):
        cut = F.pad(x, around, value=filler)
        for axis in range(dimensions):
            cut = cut.unfold(2 + axis, 3, 2)
        expected = reduce(cut.flatten(-dimensions))
        torch.testing.assert_close(function(x, 3, stride=2, padding=1), expected, rtol=0, atol=1e-14)


@EVERY_DIMENSION
def test_global_average_pooling_is_the_mean_of_each_map(dimensions):
    (x,) = draw(9, (BATCH, IN, *SIZES[dimensions]))
    expected = torch.stack([torch.stack([one.sum() / one.numel() for one in maps]) for maps in x])
    torch.testing.assert_close(global_average_pooling(x), expected, rtol=0, atol=1e-14)


def test_gradcheck():
    image, kernel, bias = (t.requires_grad_() for t in draw(4, (2, 2, 5, 4), (3, 2, 2, 3), (3,)))
    assert torch.autograd.gradcheck(lambda *t: convolution(*t, stride=2, padding=1), (image, kernel, bias))
    assert torch.autograd.gradcheck(lambda x: max_pooling(x, 2), (image,))
    assert torch.autograd.gradcheck(lambda x: average_pooling(x, 2), (image,))
    assert torch.autograd.gradcheck(global_average_pooling, (image,))
    volume, kernel = (t.requires_grad_() for t in draw(5, (1, 4, 3, 4, 3), (2, 2, 2, 2, 2)))
    assert torch.autograd.gradcheck(lambda *t: convolution(*t, groups=2, dilation=2, padding=1), (volume, kernel))


def test_wrong_shapes_are_noticed():
    # Proves that the annotations are really enforced in this file.
    image, kernel = draw(5, (IN, HEIGHT, WIDTH), (OUT, IN, 3, 5))
    with pytest.raises(TypeCheckError):
        convolution(image, kernel)  # torch takes an image without a batch
    with pytest.raises(TypeCheckError):
        convolution(image[None], kernel, groups=3)  # a kernel for one group of all channels
