"""The position-wise feed-forward network. The whole file runs with the shape annotations enforced."""

import math
import types
import typing

import pytest
import torch
from beartype import beartype
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import nn

from glassrun.functional import feedforward as source

BATCH, LENGTH, D_MODEL, D_FF = 2, 3, 5, 7
properties = settings(max_examples=25, deadline=None)


def checked(function):
    """A copy that checks its shapes: the source gives annotations to type checkers only, so they are resolved here."""
    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    copy.__annotations__ = typing.get_type_hints(function, {**vars(source), "Float": Float})
    return jaxtyped(typechecker=beartype)(copy)


relu, gelu, feed_forward = checked(source.relu), checked(source.gelu), checked(source.feed_forward)


def draw(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]


def test_hand_computed():
    x = torch.tensor([1.0, 2.0])
    weight_in = torch.tensor([[1.0, -1.0], [2.0, 0.0], [0.0, 1.0]])
    weight_out = torch.tensor([[1.0, 1.0, 2.0], [0.0, 5.0, -1.0]])
    # Inside: (-1, 2, 2) + (0, -3, 1) = (-1, -1, 3), after relu (0, 0, 3).
    with_bias = feed_forward(x, weight_in, torch.tensor([0.0, -3.0, 1.0]), weight_out, torch.tensor([10.0, 20.0]))
    assert with_bias.tolist() == [16.0, 17.0]
    # Without biases: (-1, 2, 2), after relu (0, 2, 2).
    assert feed_forward(x, weight_in, None, weight_out, None).tolist() == [6.0, 8.0]


def test_relu_hand_computed():
    assert relu(torch.tensor([[-2.0, 0.0, 3.0]])).tolist() == [[0.0, 0.0, 3.0]]


def test_gelu_is_exact():
    # The usual tanh approximation is off by up to 5e-4.
    x = torch.linspace(-4, 4, 31, dtype=torch.float64)
    expected = torch.tensor([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(gelu(x), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("activation", "reference"), [(relu, nn.ReLU()), (gelu, nn.GELU())])
def test_equals_two_linear_layers_with_gradients(activation, reference):
    first, second = nn.Linear(D_MODEL, D_FF).double(), nn.Linear(D_FF, D_MODEL).double()
    x, w_in, b_in, w_out, b_out, pull = draw(
        1, (BATCH, LENGTH, D_MODEL), (D_FF, D_MODEL), (D_FF,), (D_MODEL, D_FF), (D_MODEL,), (BATCH, LENGTH, D_MODEL)
    )
    with torch.no_grad():
        for parameter, drawn in zip(
            [*first.parameters(), *second.parameters()], (w_in, b_in, w_out, b_out), strict=True
        ):
            parameter.copy_(drawn)
    ours = [t.clone().requires_grad_() for t in (x, w_in, b_in, w_out, b_out)]
    theirs = [x.clone().requires_grad_(), *first.parameters(), *second.parameters()]

    output = feed_forward(*ours, activation)
    expected = second(reference(first(theirs[0])))

    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    for found, wanted in zip(
        torch.autograd.grad(output, ours, pull), torch.autograd.grad(expected, theirs, pull), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", [relu, gelu])
def test_gradcheck(activation):
    inputs = draw(2, (2, 3), (5, 3), (5,), (3, 5), (3,))
    assert torch.autograd.gradcheck(lambda *t: feed_forward(*t, activation), [t.requires_grad_() for t in inputs])


@properties
@given(st.integers(0, 2**32), st.integers(0, LENGTH - 1))
def test_each_token_stands_alone(seed, place):
    x, w_in, b_in, w_out, b_out, other = draw(
        seed, (BATCH, LENGTH, D_MODEL), (D_FF, D_MODEL), (D_FF,), (D_MODEL, D_FF), (D_MODEL,), (BATCH, D_MODEL)
    )
    changed = x.clone()
    changed[:, place] = other
    before = feed_forward(x, w_in, b_in, w_out, b_out, gelu)
    after = feed_forward(changed, w_in, b_in, w_out, b_out, gelu)
    rest = [p for p in range(LENGTH) if p != place]
    assert torch.equal(before[:, rest], after[:, rest])
    assert not torch.equal(before[:, place], after[:, place])


def test_wrong_shapes_are_noticed():
    # Proves that the annotations are really enforced in this file.
    x, w_in, b_in, w_out, b_out = draw(3, (BATCH, LENGTH, D_MODEL), (D_FF, D_MODEL), (D_FF,), (D_MODEL, D_FF), (1,))
    with pytest.raises(TypeCheckError):
        feed_forward(x, w_in, b_in, w_out, b_out)  # torch would broadcast a bias of one feature
