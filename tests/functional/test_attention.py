"""Scaled dot-product attention and its masks. The whole file runs with the shape annotations enforced."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from glassrun.functional import attention as source
from glassrun.functional import masks
from shapes import checked

BATCH, HEADS, QUERIES, KEYS, D_K, D_V = 2, 3, 5, 7, 11, 13
properties = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32)


attention, attention_weights, split_heads, merge_heads, repeat_heads = (
    checked(function)
    for function in (
        source.attention,
        source.attention_weights,
        source.split_heads,
        source.merge_heads,
        source.repeat_heads,
    )
)
causal_mask = masks.causal_mask


def draw(seed, *, queries=QUERIES, keys=KEYS, d_v=D_V, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(BATCH, HEADS, queries, D_K, generator=generator, dtype=dtype)
    key = torch.randn(BATCH, HEADS, keys, D_K, generator=generator, dtype=dtype)
    value = torch.randn(BATCH, HEADS, keys, d_v, generator=generator, dtype=dtype)
    return query, key, value, generator


def draw_mask(generator, *, queries=QUERIES, keys=KEYS, share=0.5):
    return torch.rand(BATCH, 1, queries, keys, generator=generator) < share


def formula(query, key, value, allowed):
    """Equation 1 written out; every query must have a key."""
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key) / math.sqrt(query.shape[-1])
    exponentials = torch.exp(scores - scores.amax(-1, keepdim=True)) * allowed
    weights = exponentials / exponentials.sum(-1, keepdim=True)
    return torch.einsum("bhqk,bhkd->bhqd", weights, value), weights


def test_hand_computed():
    # √d_k is 2 and the scores are ln 3 and 0, so the weights are 3 : 1.
    query = torch.tensor([[[2.0, 0.0, 0.0, 0.0]]])
    key = torch.tensor([[[math.log(3.0), 0.0, 0.0, 0.0], [0.0, 5.0, 5.0, 5.0]]])
    value = torch.tensor([[[8.0, 0.0, 4.0], [4.0, 4.0, 0.0]]])

    output, weights = attention(query, key, value, weights=True)

    torch.testing.assert_close(weights, torch.tensor([[[0.75, 0.25]]]))
    torch.testing.assert_close(output, torch.tensor([[[7.0, 1.0, 3.0]]]))


# With d_v = d_k torch takes its fused kernel, with another d_v the plain one: both must be right.
@pytest.mark.parametrize("d_v", [D_K, D_V])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_formula_with_gradients(d_v, causal, masked):
    queries = KEYS if causal else QUERIES
    query, key, value, generator = draw(1, queries=queries, d_v=d_v)
    allowed = torch.ones(BATCH, 1, queries, KEYS, dtype=torch.bool)
    mask = None
    if masked:
        mask = draw_mask(generator, queries=queries)
        mask[..., 0] = True
        allowed = allowed & mask
    if causal:
        allowed = allowed & (torch.arange(KEYS)[None, :] <= torch.arange(queries)[:, None])
    seen_by_formula = [x.clone().requires_grad_() for x in (query, key, value)]
    seen_by_kernel = [x.clone().requires_grad_() for x in (query, key, value)]
    pull = torch.randn(BATCH, HEADS, queries, d_v, generator=generator, dtype=torch.float64)

    expected, expected_weights = formula(*seen_by_formula, allowed)
    output = attention(*seen_by_kernel, mask=mask, causal=causal)
    weights = attention_weights(query, key, mask=mask, causal=causal)

    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weights, expected_weights.detach(), rtol=1e-12, atol=1e-12)
    for found, wanted in zip(
        torch.autograd.grad(output, seen_by_kernel, pull),
        torch.autograd.grad(expected, seen_by_formula, pull),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("d_v", [D_K, D_V])
@pytest.mark.parametrize("causal", [False, True])
def test_fused_path_and_weights_path_agree(dtype, tolerance, d_v, causal):
    query, key, value, generator = draw(2, queries=KEYS, d_v=d_v, dtype=dtype)
    mask = draw_mask(generator, queries=KEYS)

    plain = attention(query, key, value, mask=mask, causal=causal)
    output, weights = attention(query, key, value, mask=mask, causal=causal, weights=True)

    assert torch.equal(output, plain)  # asking for the weights must not change the output's bits
    torch.testing.assert_close(weights @ value, plain, rtol=0, atol=tolerance)


def test_no_axis_but_the_last_two_is_mixed():
    # [batch, heads] is batch only: each head alone gives the same as all together.
    query, key, value, generator = draw(3)
    mask = draw_mask(generator)
    together = attention(query, key, value, mask=mask)
    for b in range(BATCH):
        for h in range(HEADS):
            alone = attention(query[b, h], key[b, h], value[b, h], mask=mask[b, 0])
            torch.testing.assert_close(together[b, h], alone, rtol=0, atol=1e-14)


@pytest.mark.parametrize("d_v", [2, 3])
@pytest.mark.parametrize("causal", [False, True])
def test_gradcheck(d_v, causal):
    generator = torch.Generator().manual_seed(4)
    query, key = (
        torch.randn(1, 2, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2)
    )
    value = torch.randn(1, 2, 3, d_v, generator=generator, dtype=torch.float64, requires_grad=True)
    # The second query may look nowhere, the case where the formula divides by zero.
    mask = torch.tensor([[True, True, False], [False, False, False], [True, False, True]])

    assert torch.autograd.gradcheck(lambda *x: attention(*x, mask=mask, causal=causal), (query, key, value))
    assert torch.autograd.gradcheck(lambda *x: attention_weights(*x, mask=mask, causal=causal), (query, key))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d_v", [D_K, D_V])
def test_a_query_that_may_look_nowhere_gives_zeros_and_finite_gradients(dtype, d_v):
    query, key, value, generator = draw(5, d_v=d_v, dtype=dtype)
    mask = draw_mask(generator)
    mask[..., 0] = True
    mask[1, :, 3] = False
    inputs = [x.requires_grad_() for x in (query, key, value)]

    output, weights = attention(*inputs, mask=mask, weights=True)
    (output.sum() + weights.square().sum()).backward()

    assert output[1, :, 3].eq(0).all()
    assert weights[1, :, 3].eq(0).all()
    assert query.grad[1, :, 3].eq(0).all()
    assert all(x.grad.isfinite().all() for x in inputs)


def test_mask_and_causal_together_can_leave_a_query_without_keys():
    query, key, value, _ = draw(6, queries=KEYS, d_v=D_K)
    mask = torch.ones(BATCH, 1, 1, KEYS, dtype=torch.bool)
    mask[1, ..., :2] = False  # so the first two queries of the second example see nothing

    output, weights = attention(query, key, value, mask=mask, causal=True, weights=True)

    assert output[1, :, :2].eq(0).all()
    assert weights[1, :, :2].eq(0).all()
    assert output[1, :, 2].ne(0).all()
    assert output[0].ne(0).all()


@properties
@given(seeds, st.integers(1, 8), st.integers(1, 8), st.booleans(), st.sampled_from([0.1, 0.5, 1.0]))
def test_rows_of_weights_sum_to_one_or_are_zero(seed, queries, keys, causal, share):
    query, key, _, generator = draw(seed, queries=queries, keys=keys)
    mask = draw_mask(generator, queries=queries, keys=keys, share=share)
    allowed = mask & causal_mask(queries, keys) if causal else mask

    weights = attention_weights(query, key, mask=mask, causal=causal)

    assert (weights >= 0).all()
    assert weights[~allowed.expand_as(weights)].eq(0).all()
    expected = allowed.any(-1).expand(BATCH, HEADS, queries).double()
    torch.testing.assert_close(weights.sum(-1), expected, rtol=0, atol=1e-14)


@properties
@given(seeds, st.integers(0, KEYS - 1), st.sampled_from([D_K, D_V]), st.booleans(), st.sampled_from([-1e6, 3.0, 1e6]))
def test_a_mask_never_leaks(seed, hidden, d_v, causal, other):
    query, key, value, generator = draw(seed, queries=KEYS, d_v=d_v, dtype=torch.float32)
    mask = draw_mask(generator, queries=KEYS)
    mask[1, ..., hidden] = False
    changed_key, changed_value = key.clone(), value.clone()
    changed_key[1, :, hidden] = other
    changed_value[1, :, hidden] = -other

    before = attention(query, key, value, mask=mask, causal=causal, weights=True)
    after = attention(query, changed_key, changed_value, mask=mask, causal=causal, weights=True)

    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


@properties
@given(seeds, st.integers(1, KEYS - 1), st.sampled_from([D_K, D_V]), st.booleans())
def test_what_comes_later_changes_nothing_earlier(seed, place, d_v, masked):
    query, key, value, generator = draw(seed, queries=KEYS, d_v=d_v, dtype=torch.float32)
    mask = draw_mask(generator, queries=KEYS) if masked else None
    changed = [x.clone() for x in (query, key, value)]
    for x in changed:
        x[:, :, place:] = torch.randn(x[:, :, place:].shape, generator=generator)

    before = attention(query, key, value, mask=mask, causal=True)
    after = attention(*changed, mask=mask, causal=True)

    assert torch.equal(before[:, :, :place], after[:, :, :place])
    if not masked:
        assert not torch.equal(before[:, :, place], after[:, :, place])


@pytest.mark.parametrize("queries", [1, 2, 5, 7])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_the_last_queries_alone_give_what_they_give_among_all(queries, masked, biased):
    # So it is with a cache of keys: the queries stand at the end.
    query, key, value, generator = draw(11, queries=KEYS, d_v=D_K)
    mask = draw_mask(generator, queries=KEYS) if masked else None
    bias = torch.randn(HEADS, KEYS, KEYS, generator=generator, dtype=torch.float64) if biased else None
    last = slice(KEYS - queries, KEYS)
    for output, full in zip(
        attention(
            query[:, :, last],
            key,
            value,
            mask=mask[:, :, last] if masked else None,
            bias=bias[:, last] if biased else None,
            causal=True,
            weights=True,
        ),
        attention(query, key, value, mask=mask, bias=bias, causal=True, weights=True),
        strict=True,
    ):
        torch.testing.assert_close(output, full[:, :, last], rtol=0, atol=1e-14)


def test_with_more_queries_than_keys_the_first_see_nothing():
    query, key, value, _ = draw(12, queries=KEYS + 2, d_v=D_K)
    output = attention(query, key, value, causal=True)
    assert output[:, :, :2].eq(0).all()
    torch.testing.assert_close(output[:, :, 2], value[:, :, 0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("d_v", [D_K, D_V])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("learned", [False, True])
def test_bias_and_scale_equal_the_formula_with_gradients(d_v, causal, masked, learned):
    # torch takes another kernel for a bias that wants a gradient.
    query, key, value, generator = draw(13, queries=KEYS, d_v=d_v)
    mask = draw_mask(generator, queries=KEYS)
    mask[..., 0] = True
    mask = mask if masked else None
    allowed = torch.ones(KEYS, KEYS, dtype=torch.bool) if mask is None else mask
    allowed = allowed & causal_mask(KEYS, KEYS) if causal else allowed
    bias = torch.randn(HEADS, KEYS, KEYS, generator=generator, dtype=torch.float64)
    pull = torch.randn(BATCH, HEADS, KEYS, d_v, generator=generator, dtype=torch.float64)
    ours, theirs = ([x.clone().requires_grad_() for x in (query, key, value, bias)] for _ in range(2))
    if not learned:
        ours[3], theirs[3] = bias, bias

    output, weights = attention(*ours[:3], bias=ours[3], mask=mask, causal=causal, scale=0.7, weights=True)
    scores = 0.7 * theirs[0] @ theirs[1].mT + theirs[3]
    expected_weights = scores.masked_fill(~allowed, -math.inf).softmax(-1)
    expected = expected_weights @ theirs[2]

    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weights, expected_weights, rtol=1e-12, atol=1e-12)
    count = 4 if learned else 3
    for found, wanted in zip(
        torch.autograd.grad(output, ours[:count], pull),
        torch.autograd.grad(expected, theirs[:count], pull),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("d_v", [D_K, D_V])
@pytest.mark.parametrize("learned", [False, True])
def test_with_a_bias_a_query_that_may_look_nowhere_gives_zeros_and_finite_gradients(d_v, learned):
    query, key, value, generator = draw(14, d_v=d_v)
    mask = draw_mask(generator)
    mask[1, :, 3] = False
    bias = torch.randn(QUERIES, KEYS, generator=generator, dtype=torch.float64).requires_grad_(learned)
    inputs = [x.requires_grad_() for x in (query, key, value)] + [bias] * learned
    output, weights = attention(query, key, value, bias=bias, mask=mask, weights=True)
    gradients = torch.autograd.grad(output.sum() + weights.square().sum(), inputs)
    assert output[1, :, 3].eq(0).all()
    assert weights[1, :, 3].eq(0).all()
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("d_v", [D_K, D_V])
@pytest.mark.parametrize("masked", [False, True])
def test_fewer_heads_of_keys_are_those_heads_repeated_with_gradients(groups, d_v, masked):
    heads = 6
    generator = torch.Generator().manual_seed(15)
    query = torch.randn(BATCH, heads, KEYS, D_K, generator=generator, dtype=torch.float64)
    key = torch.randn(BATCH, groups, KEYS, D_K, generator=generator, dtype=torch.float64)
    value = torch.randn(BATCH, groups, KEYS, d_v, generator=generator, dtype=torch.float64)
    mask = draw_mask(generator, queries=KEYS) if masked else None
    ours, theirs = ([x.clone().requires_grad_() for x in (query, key, value)] for _ in range(2))
    # By hand: head h of the queries takes head h // (heads / groups).
    owner = torch.arange(heads) // (heads // groups)

    found = attention(*ours, mask=mask, causal=True, weights=True)
    expected = attention(theirs[0], theirs[1][:, owner], theirs[2][:, owner], mask=mask, causal=True, weights=True)

    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)
    pulls = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in found]
    for one, other in zip(
        torch.autograd.grad(found, ours, pulls), torch.autograd.grad(expected, theirs, pulls), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_half_precision_is_the_formula_to_its_own_rounding(dtype, tolerance, causal, biased):
    exact = [x.to(dtype).double() for x in draw(16, queries=KEYS, d_v=D_K)[:3]]
    mask = draw_mask(torch.Generator().manual_seed(17), queries=KEYS)
    mask[1, :, 3] = False
    bias = torch.linspace(-1, 1, KEYS * KEYS).view(KEYS, KEYS) if biased else None

    found = attention(*(x.to(dtype) for x in exact), mask=mask, causal=causal, bias=bias, weights=True)
    wide = None if bias is None else bias.to(dtype).double()
    expected = attention(*exact, mask=mask, causal=causal, bias=wide, weights=True)

    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), other, rtol=0, atol=tolerance)
    assert found[0][1, :, 3].eq(0).all()


def test_products_of_queries_and_keys_spread_with_d_k_and_not_when_scaled():
    # Why the scale is there (section 3.2.1): with features of variance 1 the product of d_k of them has variance d_k.
    generator = torch.Generator().manual_seed(18)
    for d_k in (4, 64, 1024):
        query, key = (torch.randn(200, d_k, generator=generator, dtype=torch.float64) for _ in range(2))
        raw = attention_weights(query, key, scale=1.0).log()
        scaled = attention_weights(query, key).log()
        # The log of a softmax is the scores up to a number for each row. 40,000 products: their variance is off by
        # less than a tenth.
        centred = [x - x.mean(-1, keepdim=True) for x in (raw.clamp(min=-700), scaled)]
        assert centred[1].var().item() == pytest.approx(1.0, rel=0.1)
        if d_k <= 64:
            assert centred[0].var().item() == pytest.approx(d_k, rel=0.1)
        else:  # unscaled, the softmax has long become a choice of one
            assert raw.exp().amax(-1).mean() > 0.9
            assert scaled.exp().amax(-1).mean() < 0.2


@properties
@given(seeds, st.permutations(range(KEYS)))
def test_order_of_keys_does_not_matter(seed, order):
    query, key, value, generator = draw(seed)
    mask = draw_mask(generator)

    output = attention(query, key, value, mask=mask)
    moved = attention(query, key[:, :, order], value[:, :, order], mask=mask[..., order])

    torch.testing.assert_close(moved, output, rtol=0, atol=1e-13)


def test_dropout_zeroes_weights_and_scales_the_rest():
    # With the identity as values, the output is the weights after dropout.
    query, key, _, _ = draw(7, queries=KEYS)
    value = torch.eye(KEYS, dtype=torch.float64).expand(BATCH, HEADS, KEYS, KEYS)

    output, weights = attention(query, key, value, dropout=0.75, weights=True)

    kept = output != 0
    # 294 weights, each kept by chance 1/4: all or none of them is beyond all chance, whatever the generator's state.
    assert 0 < kept.sum() < kept.numel()
    torch.testing.assert_close(output[kept], 4.0 * weights[kept], rtol=1e-12, atol=0)
    assert torch.equal(weights, attention_weights(query, key))


def test_split_heads_gives_each_head_its_own_features():
    length, heads, d_k = 5, 3, 7
    x = torch.arange(BATCH * length * heads * d_k, dtype=torch.float32).view(BATCH, length, heads * d_k)

    split = split_heads(x, heads)

    assert split.shape == (BATCH, heads, length, d_k)
    for h in range(heads):
        assert torch.equal(split[:, h], x[:, :, h * d_k : (h + 1) * d_k])


@properties
@given(seeds, st.integers(1, 4), st.integers(0, 5), st.integers(1, 5), st.integers(1, 5))
def test_merge_heads_is_the_inverse_of_split_heads(seed, batch, length, heads, d_k):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(batch, length, heads * d_k, generator=generator)
    by_head = torch.randn(batch, heads, length, d_k, generator=generator)
    if length:  # torch cannot infer d_k of an empty tensor
        assert torch.equal(merge_heads(split_heads(tokens, heads)), tokens)
        assert torch.equal(split_heads(merge_heads(by_head), heads), by_head)
    assert merge_heads(by_head).shape == (batch, length, heads * d_k)


def test_repeat_heads_keeps_neighbours_together():
    x = torch.arange(BATCH * 2 * 3 * 5, dtype=torch.float32).view(BATCH, 2, 3, 5)
    assert torch.equal(repeat_heads(x, 3), x[:, [0, 0, 0, 1, 1, 1]])


def test_wrong_shapes_are_noticed():
    # Proves that the annotations are really enforced in this file.
    query, key, value, _ = draw(8)
    with pytest.raises(TypeCheckError):
        attention(query, key.transpose(-2, -1), value)
    with pytest.raises(TypeCheckError):
        attention_weights(query, key, mask=torch.ones(QUERIES, KEYS))  # not boolean
    with pytest.raises(TypeCheckError):
        attention(query, key, value, bias=torch.zeros(QUERIES, KEYS + 1, dtype=torch.float64))
