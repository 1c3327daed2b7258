"""Norms as modules."""

import pytest
import torch
from torch import nn

from glassrun.nn.normalisation import LayerNorm, RMSNorm, make_norm

FEATURES = 7


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_is_torchs_to_the_bit(bias):
    ours, theirs = LayerNorm(FEATURES, eps=1e-3, bias=bias), nn.LayerNorm(FEATURES, eps=1e-3, bias=bias)
    assert all(torch.equal(one, other) for one, other in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    with torch.no_grad():
        for seed, (one, other) in enumerate(zip(ours.parameters(), theirs.parameters(), strict=True)):
            other.copy_(one.copy_(draw(seed, FEATURES)))
    x = draw(3, 2, 3, FEATURES)
    assert torch.equal(ours(x), theirs(x))


def test_rms_norm_is_torchs_and_has_a_weight_alone():
    ours, theirs = RMSNorm(FEATURES, eps=1e-3), nn.RMSNorm(FEATURES, eps=1e-3)
    with torch.no_grad():
        theirs.weight.copy_(ours.weight.copy_(draw(1, FEATURES)))
    x = draw(2, 2, 3, FEATURES)
    torch.testing.assert_close(ours(x), theirs(x))
    assert [name for name, _ in ours.named_parameters()] == ["weight"]


def test_by_name():
    assert isinstance(make_norm("rms", FEATURES), RMSNorm)
    norm = make_norm("layer", FEATURES, eps=1e-12, bias=False)
    assert isinstance(norm, LayerNorm)
    assert (norm.eps, norm.bias) == (1e-12, None)
