"""Multi-head attention against torch's own module, and what must hold whatever the weights are."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glassrun.errors import ModelError
from glassrun.functional.rotary import rotary_frequencies
from glassrun.nn.attention import MultiHeadAttention
from glassrun.nn.cache import KeyValueCache
from glassrun.nn.positions import ALiBi, RelativePositions, RotaryPositions, T5Bias
from references import attention_by_heads

BATCH, QUERIES, KEYS, HEADS, D_MODEL = 2, 5, 7, 3, 33  # so d_k is 11
properties = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32)


def fill(module, generator):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    return module


def make(seed, *, num_heads=HEADS, dtype=torch.float64, **options):
    generator = torch.Generator().manual_seed(seed)
    module = MultiHeadAttention(D_MODEL, num_heads, **options).to(dtype)
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


# --- heads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize(("num_heads", "groups", "d_k"), [(3, None, None), (6, 6, 5), (6, 3, 5), (6, 2, 7), (5, 1, 2)])
def test_multi_head_equals_a_loop_over_heads_with_gradients(bias, cross, num_heads, groups, d_k):
    module, generator = make(6, num_heads=num_heads, num_key_value_heads=groups, d_k=d_k, bias=bias)
    x = torch.randn(BATCH, KEYS, D_MODEL, generator=generator, dtype=torch.float64, requires_grad=True)
    memory = torch.randn(BATCH, KEYS, D_MODEL, generator=generator, dtype=torch.float64) if cross else x

    found = module(x, memory, causal=not cross)
    heads = attention_by_heads(module, x, memory, causal=not cross)
    expected = torch.cat(heads, -1) @ module.output.weight.T + (module.output.bias if bias else 0.0)

    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    pull = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    inputs = [x, *module.parameters()]
    for one, other in zip(
        torch.autograd.grad(found, inputs, pull), torch.autograd.grad(expected, inputs, pull), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def before_output(module, x):
    seen = []
    hook = module.output.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    module(x, x)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("part", ["query", "key", "value"])
@pytest.mark.parametrize("head", range(HEADS))
def test_one_heads_weights_change_its_slice_alone(part, head):
    module, generator = make(7)
    x = torch.randn(BATCH, KEYS, D_MODEL, generator=generator, dtype=torch.float64)
    before = before_output(module, x)
    first = ["query", "key", "value"].index(part) * D_MODEL + head * 11
    with torch.no_grad():
        module.projections.weight[first : first + 11] *= -1.5
    changed = (before_output(module, x) != before).any(0).any(0)
    assert changed.view(HEADS, 11).all(-1).tolist() == [h == head for h in range(HEADS)]
    assert changed.view(HEADS, 11).any(-1).tolist() == [h == head for h in range(HEADS)]


def test_fewer_heads_of_keys_have_fewer_weights():
    module, _ = make(8, num_heads=6, num_key_value_heads=2, d_k=5)
    assert {name: tuple(p.shape) for name, p in module.named_parameters()} == {
        "projections.weight": ((6 + 2 + 2) * 5, D_MODEL),
        "projections.bias": ((6 + 2 + 2) * 5,),
        "output.weight": (D_MODEL, 30),
        "output.bias": (D_MODEL,),
    }
    x = torch.zeros(BATCH, QUERIES, D_MODEL, dtype=torch.float64)
    assert module(x, x, weights=True)[1].shape == (BATCH, 6, QUERIES, QUERIES)


@pytest.mark.parametrize("groups", [0, 2, 4])
def test_heads_of_keys_must_divide_the_heads(groups):
    with pytest.raises(ModelError, match=rf"num_key_value_heads is {groups}.*does not divide num_heads 3"):
        MultiHeadAttention(33, 3, num_key_value_heads=groups)


# --- norms of queries and keys, positions, windows -------------------------------------------------------------------


def test_qk_norm_makes_scores_of_any_inputs_bounded():
    module, generator = make(9, qk_norm=True)
    with torch.no_grad():
        module.query_norm.weight.fill_(1.0)
        module.key_norm.weight.fill_(1.0)
    assert dict(module.named_parameters())["query_norm.weight"].shape == (11,)
    x = 1e4 * torch.randn(BATCH, KEYS, D_MODEL, generator=generator, dtype=torch.float64)
    weights = module(x, x, weights=True)[1]
    # Queries and keys have length √d_k, so scores are between −√d_k and √d_k.
    assert weights.min() >= math.exp(-2 * math.sqrt(11)) / KEYS
    loose, _ = make(9)
    assert loose(x, x, weights=True)[1].min() < 1e-100


def positions(kind):
    """Module arguments that tell positions in each of the ways."""
    d_k = 10
    options = {
        "rotary": {"rotary": RotaryPositions(rotary_frequencies(d_k), 50)},
        "alibi": {"score_bias": ALiBi(HEADS)},
        "t5": {"score_bias": T5Bias(HEADS, bidirectional=True, num_buckets=8, max_distance=16)},
        "relative": {"score_bias": RelativePositions(d_k, reach=3)},
        "none": {},
    }
    return {"d_k": d_k} | options[kind]


EVERY_KIND = pytest.mark.parametrize("kind", ["rotary", "alibi", "t5", "relative", "none"])


@EVERY_KIND
def test_positions_tell_order_and_without_them_there_is_none(kind):
    module, generator = make(10, **positions(kind))
    x = torch.randn(BATCH, KEYS, D_MODEL, generator=generator, dtype=torch.float64)
    order = [3, 0, 6, 1, 5, 2, 4]
    moved = module(x[:, order], x[:, order])
    assert torch.allclose(moved, module(x, x)[:, order], rtol=0, atol=1e-11) == (kind == "none")


@EVERY_KIND
def test_only_distances_count(kind):
    # Texts that start later give the same: padding before a text moves its tokens, and is masked.
    module, generator = make(11, **positions(kind))
    x = torch.randn(BATCH, KEYS + 4, D_MODEL, generator=generator, dtype=torch.float64)
    mask = torch.ones(BATCH, 1, 1, KEYS + 4, dtype=torch.bool)
    mask[..., :4] = False
    for causal in (False, True):
        found = module(x, x, mask=mask, causal=causal)[:, 4:]
        alone = x[:, 4:].clone()
        tolerance = 1e-5 if kind == "rotary" else 1e-11  # their tables are in float32
        torch.testing.assert_close(found, module(alone, alone, causal=causal), rtol=0, atol=tolerance)


@pytest.mark.parametrize("causal", [False, True])
def test_a_window_is_a_mask(causal):
    window = 3
    module, generator = make(12, window=window)
    plain, _ = make(12)
    x = torch.randn(BATCH, KEYS, D_MODEL, generator=generator, dtype=torch.float64)
    near = torch.tensor([[abs(i - j) < window for j in range(KEYS)] for i in range(KEYS)])
    mask = torch.rand(BATCH, 1, KEYS, KEYS, generator=generator) < 0.7
    for extra in (None, mask):
        expected = plain(x, x, mask=near if extra is None else near & extra, causal=causal, weights=True)
        for found, wanted in zip(module(x, x, mask=extra, causal=causal, weights=True), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    few = x[:, :window].clone()
    assert torch.equal(module(few, few, causal=causal), plain(few, few, causal=causal))


def test_rotary_features_must_fit():
    rotary = RotaryPositions(rotary_frequencies(10), 5)
    x = torch.zeros(1, 6, D_MODEL)
    with pytest.raises(ModelError, match=r"turn 10 features of a head, found 11"):
        MultiHeadAttention(D_MODEL, HEADS, rotary=rotary)(x[:, :5], x[:, :5])
    with pytest.raises(ModelError, match=r"at most 5 tokens.*found 6"):
        MultiHeadAttention(D_MODEL, HEADS, d_k=10, rotary=rotary)(x, x)


# --- with kept keys and values ---------------------------------------------------------------------------------------


@EVERY_KIND
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("groups", [None, 1])
def test_token_by_token_equals_all_at_once(kind, window, groups):
    module, generator = make(13, window=window, num_key_value_heads=groups, qk_norm=True, **positions(kind))
    x = torch.randn(BATCH, KEYS, D_MODEL, generator=generator, dtype=torch.float64)
    full, full_weights = module(x, x, causal=True, weights=True)
    cache = KeyValueCache()
    start = 0
    with torch.no_grad():
        for end in (3, 4, 6, KEYS):
            new = x[:, start:end].clone()
            first = module(new, new, causal=True, cache=cache)
            again, weights = module(new, new, causal=True, cache=cache, weights=True)  # a second look changes nothing
            cache.length = end
            assert torch.equal(first, again)
            torch.testing.assert_close(first, full[:, start:end], rtol=0, atol=1e-12)
            torch.testing.assert_close(weights, full_weights[:, :, start:end, :end], rtol=0, atol=1e-12)
            start = end


@pytest.mark.parametrize("bias", [True, False])
def test_a_memory_can_be_given_as_its_keys_and_values(bias):
    module, generator = make(14, bias=bias, num_key_value_heads=1, qk_norm=True)
    x = torch.randn(BATCH, QUERIES, D_MODEL, generator=generator, dtype=torch.float64)
    memory = torch.randn(BATCH, KEYS, D_MODEL, generator=generator, dtype=torch.float64)
    assert torch.equal(module(x, module.keys_and_values(memory)), module(x, memory))


# --- others' modules -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_equals_hugging_faces_llama(groups):
    llama = pytest.importorskip("transformers.models.llama.modeling_llama", reason="transformers is not installed")
    heads, d_k = 4, 6
    config = llama.LlamaConfig(
        hidden_size=24, num_attention_heads=heads, num_key_value_heads=groups, attn_implementation="eager"
    )
    twin = fill(llama.LlamaAttention(config, layer_idx=0), torch.Generator().manual_seed(15))
    module = MultiHeadAttention(
        24, heads, num_key_value_heads=groups, bias=False, rotary=RotaryPositions(rotary_frequencies(d_k), KEYS)
    )
    with torch.no_grad():
        module.projections.weight.copy_(torch.cat([twin.q_proj.weight, twin.k_proj.weight, twin.v_proj.weight]))
        module.output.weight.copy_(twin.o_proj.weight)
    x = torch.randn(BATCH, KEYS, 24, generator=torch.Generator().manual_seed(16))
    tables = llama.LlamaRotaryEmbedding(config)(x, torch.arange(KEYS)[None])
    hidden = torch.full((1, 1, KEYS, KEYS), -math.inf).triu(1)
    expected, expected_weights = twin(x, tables, hidden)
    found, weights = module(x, x, causal=True, weights=True)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weights, expected_weights, rtol=1e-5, atol=1e-6)


def test_equals_hugging_faces_gpt2():
    gpt2 = pytest.importorskip("transformers.models.gpt2.modeling_gpt2", reason="transformers is not installed")
    config = gpt2.GPT2Config(n_embd=33, n_head=3, attn_pdrop=0.0, resid_pdrop=0.0, attn_implementation="eager")
    twin = fill(gpt2.GPT2Attention(config, layer_idx=0), torch.Generator().manual_seed(17))
    module = MultiHeadAttention(33, 3)
    with torch.no_grad():  # theirs are products from the right
        module.projections.weight.copy_(twin.c_attn.weight.T)
        module.projections.bias.copy_(twin.c_attn.bias)
        module.output.weight.copy_(twin.c_proj.weight.T)
        module.output.bias.copy_(twin.c_proj.bias)
    x = torch.randn(BATCH, KEYS, 33, generator=torch.Generator().manual_seed(18))
    expected = twin(x, attention_mask=torch.full((1, 1, KEYS, KEYS), -math.inf).triu(1))[0]
    torch.testing.assert_close(module(x, x, causal=True), expected, rtol=1e-5, atol=1e-5)
