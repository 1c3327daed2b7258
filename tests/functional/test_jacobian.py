"""Which token depends on which: block-diagonal for the feed-forward network, and not for attention."""

import pytest
import torch

from glassrun.functional import jacobian as source
from glassrun.nn.attention import MultiHeadAttention
from glassrun.nn.feedforward import FeedForward, GatedFeedForward
from glassrun.nn.normalisation import LayerNorm, RMSNorm
from shapes import checked

LENGTH, D_MODEL = 5, 6
token_jacobian = checked(source.token_jacobian)
EVERY_PAIR = torch.ones(LENGTH, LENGTH, dtype=torch.bool)


def started(module):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator)
    return module.double()


def depends(call):
    """Whether token i depends on token j: Bool[i, j]. A zero is a zero: what is not read has no gradient at all."""
    x = torch.randn(LENGTH, D_MODEL, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return token_jacobian(call, x).ne(0).any(3).any(1)


def test_hand_computed():
    # y_0 = 2 x_0, y_1 = x_0 + 3 x_1, for each of two features.
    mix = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    found = token_jacobian(lambda x: torch.einsum("ij,bjd->bid", mix, x), torch.zeros(2, 2))
    assert torch.equal(found, torch.einsum("ij,ab->iajb", mix, torch.eye(2)))


@pytest.mark.parametrize(
    "module",
    [
        FeedForward(D_MODEL, 7),
        FeedForward(D_MODEL, 7, activation="gelu"),
        GatedFeedForward(D_MODEL, 7),
        LayerNorm(D_MODEL),
        RMSNorm(D_MODEL),
    ],
    ids=lambda module: type(module).__name__,
)
def test_each_token_stands_alone_in_a_feed_forward_network_and_in_a_norm(module):
    assert torch.equal(depends(started(module)), torch.eye(LENGTH, dtype=torch.bool))


def test_attention_mixes_tokens():
    attention = started(MultiHeadAttention(D_MODEL, 2))
    assert torch.equal(depends(lambda x: attention(x, x)), EVERY_PAIR)
    assert torch.equal(depends(lambda x: attention(x, x, causal=True)), EVERY_PAIR.tril())
    window = started(MultiHeadAttention(D_MODEL, 2, window=2))
    assert torch.equal(depends(lambda x: window(x, x)), EVERY_PAIR.tril(1).triu(-1))


def test_it_is_as_autograd_has_it_in_few_passes():
    calls = []
    attention = started(MultiHeadAttention(D_MODEL, 2))

    def call(x):
        calls.append(len(x))
        return attention(x, x, causal=True)

    x = torch.randn(53, D_MODEL, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = token_jacobian(call, x)
    assert len(calls) < 4, "one forward pass for the shape, two for the 318 outputs"
    for token, feature in ((0, 0), (17, 5), (52, 3)):
        given = x.clone().requires_grad_()
        attention(given[None], given[None], causal=True)[0, token, feature].backward()
        torch.testing.assert_close(found[token, feature], given.grad, rtol=1e-12, atol=1e-14)
