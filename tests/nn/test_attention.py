"""Multi-head attention against torch's own module, and what must hold whatever the weights are."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glassrun.errors import ModelError
from glassrun.nn.attention import MultiHeadAttention

BATCH, QUERIES, KEYS, HEADS, D_MODEL = 2, 5, 7, 3, 33  # so d_k is 11
properties = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32)


def fill(module, generator):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    return module


def make(seed, *, bias=True, dropout=0.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    module = MultiHeadAttention(D_MODEL, HEADS, bias=bias, dropout=dropout).to(dtype)
    return fill(module, generator), generator


def torch_twin(module, *, bias):
    """nn.MultiheadAttention with the same weights; it packs them in the same order."""
    twin = nn.MultiheadAttention(D_MODEL, HEADS, bias=bias, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        twin.in_proj_weight.copy_(module.projections.weight)
        twin.out_proj.weight.copy_(module.output.weight)
        if bias:
            twin.in_proj_bias.copy_(module.projections.bias)
            twin.out_proj.bias.copy_(module.output.bias)
    return twin


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_equals_torch_with_gradients(bias, cross, padded, causal):
    module, generator = make(1, bias=bias)
    twin = torch_twin(module, bias=bias)
    queries = KEYS if causal else QUERIES
    x = torch.randn(BATCH, queries, D_MODEL, generator=generator, dtype=torch.float64)
    y = torch.randn(BATCH, KEYS, D_MODEL, generator=generator, dtype=torch.float64) if cross else x
    keys = y.shape[1]
    real = torch.ones(BATCH, keys, dtype=torch.bool)
    real[1, -2:] = False
    ours = [t.clone().requires_grad_() for t in ((x, y) if cross else (x,))]
    theirs = [t.clone().requires_grad_() for t in ((x, y) if cross else (x,))]

    output, weights = module(
        ours[0], ours[-1], mask=real[:, None, None, :] if padded else None, causal=causal, weights=True
    )
    expected, expected_weights = twin(
        theirs[0],
        theirs[-1],
        theirs[-1],
        key_padding_mask=~real if padded else None,
        attn_mask=torch.ones(queries, keys, dtype=torch.bool).triu(1) if causal else None,
        average_attn_weights=False,
    )

    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weights, expected_weights, rtol=1e-12, atol=1e-12)
    pull = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    pairs = [(module.projections.weight, twin.in_proj_weight), (module.output.weight, twin.out_proj.weight)]
    if bias:
        pairs += [(module.projections.bias, twin.in_proj_bias), (module.output.bias, twin.out_proj.bias)]
    found = torch.autograd.grad(output, [*ours, *(a for a, _ in pairs)], pull)
    wanted = torch.autograd.grad(expected, [*theirs, *(b for _, b in pairs)], pull)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_hand_computed():
    # One feature, one head, W_q, W_k, W_v, W_o = 1, 0, 2, 3: no scores, so every query gets the mean of the values.
    module = MultiHeadAttention(1, 1)
    with torch.no_grad():
        module.projections.weight.copy_(torch.tensor([[1.0], [0.0], [2.0]]))
        module.projections.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
        module.output.weight.fill_(3.0)
        module.output.bias.fill_(0.5)
    x = torch.tensor([[[1.0], [2.0], [6.0]]])
    # Values 3, 5, 13; their mean 7; causally 3, 4, 7.
    assert module(x, x).flatten().tolist() == pytest.approx([21.5, 21.5, 21.5])
    assert module(x, x, causal=True).flatten().tolist() == pytest.approx([9.5, 12.5, 21.5])


@pytest.mark.parametrize("bias", [True, False])
def test_self_attention_is_cross_attention_to_an_equal_memory(bias):
    # Two ways through the projections: one product for all three, or queries apart from keys and values.
    module, generator = make(2, bias=bias)
    x = torch.randn(BATCH, KEYS, D_MODEL, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(module(x, x.clone()), module(x, x), rtol=1e-13, atol=1e-13)


def test_asking_for_weights_does_not_change_the_output():
    module, generator = make(3, dtype=torch.float32)
    x = torch.randn(BATCH, KEYS, D_MODEL, generator=generator)
    output, weights = module(x, x, causal=True, weights=True)
    assert torch.equal(output, module(x, x, causal=True))
    assert weights.shape == (BATCH, HEADS, KEYS, KEYS)


@properties
@given(seeds, st.permutations(range(KEYS)))
def test_self_attention_is_blind_to_order(seed, order):
    module, generator = make(seed)
    x = torch.randn(BATCH, KEYS, D_MODEL, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(module(x[:, order], x[:, order]), module(x, x)[:, order], rtol=0, atol=1e-11)


@properties
@given(seeds, st.integers(0, KEYS - 1))
def test_a_mask_never_leaks(seed, hidden):
    module, generator = make(seed, dtype=torch.float32)
    x = torch.randn(BATCH, QUERIES, D_MODEL, generator=generator)
    memory = torch.randn(BATCH, KEYS, D_MODEL, generator=generator)
    mask = torch.rand(BATCH, HEADS, QUERIES, KEYS, generator=generator) < 0.5
    mask[..., hidden] = False
    changed = memory.clone()
    changed[:, hidden] = 1e4
    assert torch.equal(module(x, memory, mask=mask), module(x, changed, mask=mask))


@properties
@given(seeds, st.integers(1, KEYS - 1), st.booleans())
def test_a_later_token_changes_nothing_earlier(seed, place, masked):
    module, generator = make(seed, dtype=torch.float32)
    x = torch.randn(BATCH, KEYS, D_MODEL, generator=generator)
    mask = torch.ones(BATCH, 1, 1, KEYS, dtype=torch.bool) if masked else None
    changed = x.clone()
    changed[:, place:] += 1.0
    before, after = (module(t, t, mask=mask, causal=True) for t in (x, changed))
    assert torch.equal(before[:, :place], after[:, :place])
    assert not torch.equal(before[:, place:], after[:, place:])


def test_dropout_acts_in_training_only():
    module, generator = make(4, dropout=0.9)
    plain, _ = make(4)
    x = torch.randn(BATCH, KEYS, D_MODEL, generator=generator, dtype=torch.float64)
    assert torch.equal(module.eval()(x, x), plain(x, x))
    # 294 weights are kept or not: that all are kept is beyond all chance, whatever the generator's state.
    output, weights = module.train()(x, x, weights=True)
    assert not torch.allclose(output, plain(x, x))
    torch.testing.assert_close(weights.sum(-1), torch.ones(BATCH, HEADS, KEYS, dtype=torch.float64))


def test_without_bias_there_is_none():
    module, _ = make(5, bias=False)
    assert {name: tuple(p.shape) for name, p in module.named_parameters()} == {
        "projections.weight": (3 * D_MODEL, D_MODEL),
        "output.weight": (D_MODEL, D_MODEL),
    }


def test_heads_must_divide_the_features():
    with pytest.raises(ModelError, match=r"num_heads is 5.*does not divide d_model 33"):
        MultiHeadAttention(33, 5)
