"""The position-wise feed-forward network. The whole file runs with the shape annotations enforced."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import nn

from glassrun.functional import feedforward as source
from shapes import checked

BATCH, LENGTH, D_MODEL, D_FF = 2, 3, 5, 7
properties = settings(max_examples=25, deadline=None)


relu, gelu, gelu_tanh, silu, squared_relu, feed_forward, gated_feed_forward = (
    checked(function)
    for function in (
        source.relu,
        source.gelu,
        source.gelu_tanh,
        source.silu,
        source.squared_relu,
        source.feed_forward,
        source.gated_feed_forward,
    )
)


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


def test_activations_by_their_formulas():
    x = torch.linspace(-6, 6, 41, dtype=torch.float64)
    tanh = [v / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in x.tolist()]
    torch.testing.assert_close(gelu_tanh(x), torch.tensor(tanh, dtype=torch.float64), rtol=0, atol=1e-14)
    swish = [v / (1 + math.exp(-v)) for v in x.tolist()]
    torch.testing.assert_close(silu(x), torch.tensor(swish, dtype=torch.float64), rtol=0, atol=1e-14)
    assert squared_relu(torch.tensor([-2.0, 0.0, 3.0])).tolist() == [0.0, 0.0, 9.0]


def test_gated_hand_computed():
    x = torch.tensor([1.0, 2.0])
    gate, weight_in = torch.tensor([[1.0, 0.0], [0.0, -1.0]]), torch.tensor([[3.0, 1.0], [1.0, 1.0]])
    weight_out = torch.tensor([[1.0, 1.0], [2.0, 0.0]])
    # Gates (1, −2), after relu (1, 0); features (5, 3); their product (5, 0).
    assert gated_feed_forward(x, gate, None, weight_in, None, weight_out, None, relu).tolist() == [5.0, 10.0]
    # With biases: gates (2, 1), features (5, 7), product (10, 7).
    biases = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 4.0]), torch.tensor([0.5, 0.25])
    found = gated_feed_forward(x, gate, biases[0], weight_in, biases[1], weight_out, biases[2], relu)
    assert found.tolist() == [17.5, 20.25]


@pytest.mark.parametrize("activation", [silu, gelu])
def test_gated_equals_its_formula_and_gradcheck(activation):
    shapes = (2, 3), (5, 3), (5,), (5, 3), (5,), (3, 5), (3,)
    x, gate, gate_bias, w_in, b_in, w_out, b_out = inputs = [t.requires_grad_() for t in draw(4, *shapes)]
    expected = (activation(x @ gate.T + gate_bias) * (x @ w_in.T + b_in)) @ w_out.T + b_out
    torch.testing.assert_close(gated_feed_forward(*inputs, activation), expected, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(lambda *t: gated_feed_forward(*t, activation), inputs)


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
