"""Normalisation of feature maps. The whole file runs with the shape annotations enforced."""

import types
import typing

import pytest
import torch
from beartype import beartype
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float, TypeCheckError, jaxtyped

from glassrun.functional import feature_maps as source

BATCH, IN, HEIGHT, WIDTH = 2, 3, 11, 13
properties = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32)
EVERY_SIZE = pytest.mark.parametrize("size", [(), (7,), (5, 7), (3, 5, 7)], ids=str)


def checked(function):
    """A copy that checks its shapes: the source gives annotations to type checkers only, so they are resolved here."""
    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    copy.__annotations__ = typing.get_type_hints(function, {**vars(source), "Float": Float})
    return jaxtyped(typechecker=beartype)(copy)


batch_normalisation, group_normalisation, channel_layer_normalisation = map(
    checked, (source.batch_normalisation, source.group_normalisation, source.channel_layer_normalisation)
)


def draw(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]


def assert_same_with_gradients(function, reference, inputs, tolerance=1e-11):
    ours, theirs = ([t.clone().requires_grad_() for t in inputs] for _ in range(2))
    output, expected = function(*ours), reference(*theirs)
    torch.testing.assert_close(output, expected, rtol=tolerance, atol=tolerance)
    (pull,) = draw(99, output.shape)
    for found, wanted in zip(
        torch.autograd.grad(output, ours, pull), torch.autograd.grad(expected, theirs, pull), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


def test_batch_normalisation_hand_computed():
    # First channel: mean 3, variance 4 (over batch, height and width together). Second: constant.
    x = torch.tensor([[[[1.0, 5.0]], [[7.0, 7.0]]], [[[1.0, 5.0]], [[7.0, 7.0]]]])
    # eps 5 under the root: √(4 + 5) = 3.
    y = batch_normalisation(x, torch.tensor([6.0, 1.0]), torch.tensor([1.0, 0.5]), 5.0)
    torch.testing.assert_close(y, torch.tensor([[[[-3.0, 5.0]], [[0.5, 0.5]]], [[[-3.0, 5.0]], [[0.5, 0.5]]]]))


def normalised(x, eps, over):
    """(x − E[x]) / √(Var[x] + eps), as it is written."""
    variance = x.var(over, correction=0, keepdim=True)
    return (x - x.mean(over, keepdim=True)) / torch.sqrt(variance + eps)


def along_channels(values, x):
    return values.view(-1, *(1 for _ in x.shape[2:]))


@EVERY_SIZE
def test_batch_normalisation_equals_its_formula_with_gradients(size):
    def formula(x, weight, bias):
        over = (0, *range(2, x.ndim))
        return normalised(x, 1e-5, over) * along_channels(weight, x) + along_channels(bias, x)

    assert_same_with_gradients(
        batch_normalisation,
        formula,
        draw(2, (5, IN, *size), (IN,), (IN,)),
    )


@properties
@given(seeds, st.floats(0.1, 100.0), st.floats(-100.0, 100.0))
def test_batch_normalisation_gives_mean_zero_and_variance_one(seed, scale, offset):
    (x,) = draw(seed, (BATCH, IN, HEIGHT, WIDTH))
    y = batch_normalisation(x * scale + offset, torch.ones(IN).double(), torch.zeros(IN).double(), 1e-12)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(IN).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(y.square().mean((0, 2, 3)), torch.ones(IN).double(), rtol=0, atol=1e-8)


@EVERY_SIZE
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_normalisation_equals_its_formula_with_gradients(size, groups):
    def formula(x, weight, bias):
        parts = normalised(x.reshape(len(x), groups, -1), 1e-3, -1).view_as(x)
        return parts * along_channels(weight, x) + along_channels(bias, x)

    assert_same_with_gradients(
        lambda x, w, b: group_normalisation(x, groups, w, b, 1e-3),
        formula,
        draw(3, (BATCH, 6, *size), (6,), (6,)),
    )


def test_group_normalisation_hand_computed():
    # Two groups of two channels: means 3 and 10, variances 4 and 0; eps 5: √(4 + 5) = 3.
    x = torch.tensor([[[1.0], [5.0], [10.0], [10.0]]])
    y = group_normalisation(x, 2, torch.tensor([3.0, 6.0, 1.0, 1.0]), torch.tensor([0.0, 1.0, 0.5, 0.0]), 5.0)
    torch.testing.assert_close(y, torch.tensor([[[-2.0], [5.0], [0.5], [0.0]]]))


@properties
@given(seeds, st.sampled_from([1, 2, 4]))
def test_group_normalisation_of_an_example_depends_on_no_other(seed, groups):
    x, weight, bias = draw(seed, (5, 4, 7), (4,), (4,))
    together = group_normalisation(x, groups, weight, bias)
    alone = torch.cat([group_normalisation(one[None], groups, weight, bias) for one in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-13)


def test_group_normalisation_refuses_groups_that_do_not_divide():
    x, weight = draw(4, (1, 5, 3), (5,))
    with pytest.raises(RuntimeError):
        group_normalisation(x, 2, weight, weight)


@EVERY_SIZE
def test_channel_layer_normalisation_normalises_the_channels_of_each_place(size):
    def by_hand(x, weight, bias):
        mean, variance = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
        shape = (-1, *(1 for _ in size))
        return (x - mean) / (variance + 1e-6).sqrt() * weight.view(shape) + bias.view(shape)

    assert_same_with_gradients(channel_layer_normalisation, by_hand, draw(5, (BATCH, 7, *size), (7,), (7,)))


def test_gradcheck():
    x, weight, bias = (t.requires_grad_() for t in draw(6, (2, 4, 3, 2), (4,), (4,)))
    assert torch.autograd.gradcheck(batch_normalisation, (x, weight, bias))
    assert torch.autograd.gradcheck(lambda *t: group_normalisation(t[0], 2, *t[1:]), (x, weight, bias))
    assert torch.autograd.gradcheck(channel_layer_normalisation, (x, weight, bias))


def test_wrong_shapes_are_noticed():
    # Proves that the annotations are really enforced in this file.
    (image,) = draw(7, (BATCH, IN, HEIGHT, WIDTH))
    with pytest.raises(TypeCheckError):
        batch_normalisation(image, torch.ones(1).double(), torch.ones(IN).double())  # torch would broadcast
