"""Layer and RMS norms. The whole file runs with the shape annotations enforced."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import nn

from glassrun.functional import normalisation as source
from shapes import checked

layer_norm, rms_norm = checked(source.layer_norm), checked(source.rms_norm)
properties = settings(max_examples=25, deadline=None)


def draw(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]


def test_hand_computed():
    x = torch.tensor([1.0, 7.0], dtype=torch.float64)  # mean 4, deviation 3, mean square 25
    weight, bias = torch.tensor([[1.0, 2.0], [10.0, 20.0]], dtype=torch.float64)
    assert layer_norm(x, weight, bias, eps=0.0).tolist() == [9.0, 22.0]
    assert layer_norm(x, weight, eps=7.0).tolist() == [-0.75, 1.5]  # √(9 + 7) is 4
    assert rms_norm(x, weight, eps=0.0).tolist() == pytest.approx([0.2, 2.8])
    assert rms_norm(x, weight, eps=11.0).tolist() == pytest.approx([1 / 6, 14 / 6])


def test_rms_norm_equals_llamas_with_gradients():
    llama = pytest.importorskip("transformers.models.llama.modeling_llama", reason="transformers is not installed")
    x, weight, pull = draw(1, (2, 3, 7), (7,), (2, 3, 7))
    twin = llama.LlamaRMSNorm(7, eps=1e-3)  # it computes in float32
    with torch.no_grad():
        twin.weight.copy_(weight)
    ours, theirs = ([x.float().requires_grad_(), weight.float().requires_grad_()] for _ in range(2))
    found, expected = rms_norm(*ours, eps=1e-3), twin(theirs[0])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    for one, other in zip(
        torch.autograd.grad(found, ours, pull.float()),
        torch.autograd.grad(expected, [theirs[0], twin.weight], pull.float()),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@properties
@given(st.integers(0, 2**32), st.floats(0.1, 100.0), st.floats(-10.0, 10.0))
def test_what_does_not_matter(seed, scale, shift):
    x, weight = draw(seed, (3, 11), (11,))
    torch.testing.assert_close(rms_norm(scale * x, weight, eps=0.0), rms_norm(x, weight, eps=0.0))
    torch.testing.assert_close(layer_norm(scale * x + shift, weight, eps=0.0), layer_norm(x, weight, eps=0.0))
    # Of what has mean 0, both are the same.
    centred = x - x.mean(-1, keepdim=True)
    torch.testing.assert_close(rms_norm(centred, weight, eps=0.1), layer_norm(x, weight, eps=0.1))


def test_equals_torch_and_gradcheck():
    x, weight, bias = draw(2, (2, 3, 5), (5,), (5,))
    assert torch.equal(layer_norm(x, weight, bias), nn.functional.layer_norm(x, (5,), weight, bias))
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    assert torch.autograd.gradcheck(layer_norm, inputs)
    assert torch.autograd.gradcheck(rms_norm, inputs[:2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_squares_without_overflow(dtype):
    x = torch.full((1, 4), 300.0, dtype=dtype)  # 300² is beyond float16
    assert rms_norm(x, torch.ones(4, dtype=dtype)).tolist() == [[1.0] * 4]
    assert math.isfinite(layer_norm(x, torch.ones(4, dtype=dtype)).sum())


def test_wrong_shapes_are_noticed():
    with pytest.raises(TypeCheckError):
        rms_norm(torch.zeros(2, 5), torch.zeros(1))  # torch would broadcast
