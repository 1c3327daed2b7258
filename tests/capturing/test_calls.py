"""Every way to call attention: the weights are those of an independent computation, and what is told of them is so."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glassrun.capturing.capture import capture
from glassrun.errors import CaptureError

BATCH, HEADS, QUERIES, KEYS, D_K, D_V = 2, 6, 5, 7, 3, 11


def drawn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Calls(nn.Module):
    """A model that is one call of a function."""

    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, *tensors):
        return self.call(*tensors)


def seen(call, *tensors, **wanted):
    """The map of the one attention call that a function makes."""
    (found,) = capture(Calls(call), tensors, **wanted).attention.values()
    return found


def heads_of(*, queries=QUERIES, keys=KEYS, groups=HEADS):
    return drawn(BATCH, HEADS, queries, D_K), drawn(BATCH, groups, keys, D_K, seed=2), drawn(BATCH, groups, keys, D_V)


def expected(query, key, added=0.0, scale=None):
    """Softmax of scores, one query after the other."""
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = torch.einsum("bhqd,bhkd->bhqk", query.double(), key.double()) * scale + added
    return (scores.exp() / scores.exp().sum(-1, keepdim=True)).float()


# --- the fused function ----------------------------------------------------------------------------------------------

BLOCKED = drawn(BATCH, 1, QUERIES, KEYS, seed=5) > 0.8
BLOCKED[..., 0] = False
INFINITE = torch.zeros(BLOCKED.shape).masked_fill(BLOCKED, -math.inf)


@pytest.mark.parametrize(
    ("options", "added", "masking"),
    [
        ({}, 0.0, "none"),
        ({"attn_mask": ~BLOCKED}, INFINITE, "mask"),
        ({"attn_mask": INFINITE}, INFINITE, "mask"),
        ({"attn_mask": INFINITE[0, 0]}, INFINITE[0, 0], "mask"),
        ({"attn_mask": drawn(HEADS, QUERIES, KEYS)}, drawn(HEADS, QUERIES, KEYS), "none"),
        ({"attn_mask": ~BLOCKED[:, :, :1]}, INFINITE[:, :, :1], "mask"),
        ({"is_causal": True}, torch.full((QUERIES, KEYS), -math.inf).triu(1), "causal"),
        ({"scale": 0.1}, 0.0, "none"),
    ],
    ids=["plain", "bool", "float", "of two axes", "numbers for each head", "of one row", "causal", "scale"],
)
@pytest.mark.parametrize("wanted", [{}, {"heads": [5, 2], "queries": [3, -1]}], ids=["all", "some"])
def test_fused_calls(options, added, masking, wanted):
    query, key, value = heads_of()
    found = seen(lambda *heads: F.scaled_dot_product_attention(*heads, **options), query, key, value, **wanted)
    weights = expected(query, key, added, options.get("scale"))
    if wanted:
        weights = weights[:, [5, 2]][:, :, [3, 4]]
        assert (found.heads, found.queries) == ((5, 2), (3, 4))
    torch.testing.assert_close(found.weights, weights)
    assert found.masking == masking
    assert found.proof < 1e-5
    assert (found.num_heads, found.num_key_value_heads) == (HEADS, HEADS)
    assert found.function == "torch.nn.functional.scaled_dot_product_attention"


def test_arguments_by_name_and_by_position():
    query, key, value = heads_of()
    by_name = seen(lambda q, k, v: F.scaled_dot_product_attention(value=v, query=q, key=k), query, key, value)
    by_place = seen(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, ~BLOCKED, 0.0), query, key, value)
    torch.testing.assert_close(by_name.weights, expected(query, key))
    torch.testing.assert_close(by_place.weights, expected(query, key, INFINITE))


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_grouped_queries(groups):
    query, key, value = heads_of(groups=groups)
    found = seen(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True), query, key, value, heads=[1, 4]
    )
    torch.testing.assert_close(found.weights, expected(query, key)[:, [1, 4]])
    assert (found.num_heads, found.num_key_value_heads) == (HEADS, groups)
    assert found.proof < 1e-5


def test_a_query_that_may_look_nowhere():
    allowed = torch.ones(QUERIES, KEYS, dtype=torch.bool)
    allowed[2] = False
    found = seen(lambda *heads: F.scaled_dot_product_attention(*heads, attn_mask=allowed), *heads_of())
    assert found.weights[:, :, 2].eq(0).all()
    torch.testing.assert_close(found.weights.sum(-1)[:, :, [0, 1, 3, 4]], torch.ones(BATCH, HEADS, 4))


def test_heads_may_lie_in_other_axes():
    query, key, value = heads_of()
    weights = expected(query, key)
    unbatched = seen(F.scaled_dot_product_attention, query[1], key[1], value[1])
    assert unbatched.weights.shape == (HEADS, 1, QUERIES, KEYS)  # nothing tells that this is no batch
    torch.testing.assert_close(unbatched.weights[:, 0], weights[1])
    alone = seen(F.scaled_dot_product_attention, query[1, 4], key[1, 4], value[1, 4])
    torch.testing.assert_close(alone.weights[0, 0], weights[1, 4])
    windows = seen(lambda *heads: F.scaled_dot_product_attention(*(x[:, None] for x in heads)), query, key, value)
    torch.testing.assert_close(windows.weights, weights)


def test_of_half_precision_the_weights_are_in_float32():
    query, key, value = (x.bfloat16() for x in heads_of())
    found = seen(F.scaled_dot_product_attention, query, key, value)
    assert found.weights.dtype == torch.float32
    torch.testing.assert_close(found.weights, expected(query, key), rtol=1e-5, atol=1e-6)
    assert 0 < found.proof < 0.05  # the model's own output is rounded to eight bits


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.booleans(), st.integers(0, 10**6))
def test_rows_sum_to_one_and_masks_do_not_leak(heads, queries, keys, floating, seed):
    generator = torch.Generator().manual_seed(seed)
    query, key = (torch.randn(2, heads, n, 3, generator=generator) for n in (queries, keys))
    allowed = torch.rand(2, 1, queries, keys, generator=generator) < 0.7
    allowed[..., 0] = True
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, -math.inf) if floating else allowed
    found = seen(lambda *heads: F.scaled_dot_product_attention(*heads, attn_mask=mask), query, key, key)
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(2, heads, queries))
    assert found.weights.masked_select(~allowed).eq(0).all()
    assert found.proof < 1e-5


@settings(max_examples=25)
@given(st.data())
def test_what_is_chosen_is_that_part_of_the_whole_however_it_is_written(data):
    groups, times, queries, keys = (data.draw(st.integers(1, 4)) for _ in range(4))
    heads = groups * times
    query = drawn(2, heads, queries, 3, seed=data.draw(st.integers(0, 99)))
    key, value = drawn(2, groups, keys, 3), drawn(2, groups, keys, 2, seed=2)
    chosen = {
        "heads": data.draw(st.lists(st.integers(-heads, heads - 1), min_size=1, max_size=3)),
        "queries": data.draw(st.lists(st.integers(-queries, queries - 1), min_size=1, max_size=3)),
    }

    def fused(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    def written(q, k, v):
        return (q @ k.repeat_interleave(times, 1).mT / 3**0.5).softmax(-1) @ v.repeat_interleave(times, 1)

    whole = expected(query, key)
    for call in (fused, written):
        found = seen(call, query, key, value, **chosen)
        torch.testing.assert_close(found.weights, whole[:, chosen["heads"]][:, :, chosen["queries"]])
        assert found.proof < 1e-5
        assert (found.num_heads, found.num_key_value_heads) == (heads, groups)


def test_a_causal_bias():
    from torch.nn.attention.bias import causal_lower_right

    query, key, value = heads_of()
    bias = causal_lower_right(QUERIES, KEYS)
    found = seen(lambda *heads: F.scaled_dot_product_attention(*heads, attn_mask=bias), query, key, value)
    torch.testing.assert_close(
        found.weights, expected(query, key, torch.full((QUERIES, KEYS), -math.inf).triu(1 + KEYS - QUERIES))
    )
    assert found.masking == "causal"


# --- masks by their content ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("least", [-math.inf, torch.finfo(torch.float32).min, -10000.0])
@pytest.mark.parametrize(
    ("allowed", "masking"),
    [
        (torch.ones(4, 4).tril(), "causal"),
        (torch.ones(4, 6).tril(2), "causal"),
        (torch.ones(4, 4).tril().triu(-1), "causal+mask"),
        (torch.ones(4, 4).tril() * torch.tensor([0, 1, 1, 1]) + torch.eye(4), "causal+mask"),
        (torch.tensor([[1, 1, 1, 0]]).expand(4, 4), "mask"),
        (torch.ones(4, 4).triu(-1).tril(1), "mask"),
        (torch.ones(4, 4), "none"),
    ],
    ids=["causal", "causal with earlier keys", "window", "causal with padding", "padding", "band", "none"],
)
def test_masking_is_told_by_content(allowed, masking, least):
    mask = torch.zeros(allowed.shape).masked_fill(allowed == 0, least)
    query, key = drawn(2, 3, 4, 5), drawn(2, 3, allowed.shape[1], 5)
    fused = seen(lambda q, k: F.scaled_dot_product_attention(q, k, k, attn_mask=mask), query, key)
    written = seen(lambda q, k: (q @ k.mT + mask).softmax(-1) @ k, query, key)
    assert (fused.masking, written.masking) == (masking, masking)


# --- nn.MultiheadAttention -------------------------------------------------------------------------------------------

D_MODEL = 12
PADDED = torch.tensor([[False] * KEYS, [False] * 4 + [True] * 3])
BANNED = drawn(QUERIES, KEYS, seed=7) > 0.7
BANNED[:, 0] = False


def multi_head(**options):
    module = nn.MultiheadAttention(D_MODEL, HEADS, **options)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
    return module


def sequences(batch_first):
    query, memory = drawn(BATCH, QUERIES, D_MODEL), drawn(BATCH, KEYS, D_MODEL, seed=2)
    return (query, memory) if batch_first else (query.transpose(0, 1), memory.transpose(0, 1))


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(
    ("options", "masks"),
    [
        ({}, {}),
        ({"bias": False}, {"key_padding_mask": PADDED}),
        ({"add_bias_kv": True}, {"key_padding_mask": PADDED}),
        ({"add_zero_attn": True}, {"attn_mask": BANNED}),
        ({"kdim": 13, "vdim": 17}, {}),
        ({}, {"attn_mask": drawn(BATCH * HEADS, QUERIES, KEYS)}),
        ({}, {"attn_mask": BANNED, "key_padding_mask": PADDED}),
    ],
    ids=["plain", "padding", "bias_kv", "zero_attn", "separate", "mask of each head", "both masks"],
)
def test_multi_head(need_weights, training, batch_first, options, masks):
    module = multi_head(batch_first=batch_first, **options).train(training)
    query, memory = sequences(batch_first)
    if "kdim" in options:
        memory, values = drawn(*memory.shape[:2], 13), drawn(*memory.shape[:2], 17)
    else:
        values = memory
    with torch.no_grad():
        _, own = module(query, memory, values, **masks, need_weights=True, average_attn_weights=False)
    (found,) = capture(
        module, {"query": query, "key": memory, "value": values, "need_weights": need_weights} | masks
    ).attention.values()
    torch.testing.assert_close(found.weights, own)
    assert found.proof < 1e-5
    assert (found.kind, found.num_heads, found.num_key_value_heads) == ("cross", HEADS, HEADS)
    assert found.function == "torch.nn.functional.multi_head_attention_forward"
    hides = any(mask.dtype == torch.bool for mask in masks.values())
    assert found.masking == ("mask" if hides else "none")


@pytest.mark.parametrize("need_weights", [True, False])
def test_multi_head_of_one_sequence_without_a_batch(need_weights):
    module, query = multi_head().eval(), drawn(QUERIES, D_MODEL)
    causal = torch.ones(QUERIES, QUERIES, dtype=torch.bool).triu(1)
    asked = {"attn_mask": causal, "is_causal": True, "need_weights": need_weights}
    found = capture(module, {"query": query, "key": query, "value": query} | asked).attention[""]
    with torch.no_grad():
        own = module(query, query, query, attn_mask=causal, average_attn_weights=False)[1]
    torch.testing.assert_close(found.weights[0], own)
    assert (found.kind, found.masking) == ("self", "causal")


@pytest.mark.parametrize("added", ["add_bias_kv", "add_zero_attn"])
@pytest.mark.parametrize("need_weights", [True, False])
def test_keys_that_the_module_adds_do_not_hide_that_it_is_causal(added, need_weights):
    module, query = multi_head(**{added: True}).eval(), drawn(QUERIES, 1, D_MODEL)
    causal = torch.ones(QUERIES, QUERIES, dtype=torch.bool).triu(1)
    asked = {"attn_mask": causal, "need_weights": need_weights}
    found = capture(module, {"query": query, "key": query, "value": query} | asked).attention[""]
    assert found.weights.shape == (1, HEADS, QUERIES, QUERIES + 1)
    assert found.masking == "causal"


def test_the_output_of_a_watched_call_is_the_plain_calls():
    module = multi_head().train()
    query, memory = sequences(batch_first=False)
    plain = module(query, memory, memory)
    watched = capture(module, (query, memory, memory)).output
    assert torch.equal(watched[0], plain[0])
    assert torch.equal(watched[1], plain[1])


# --- attention written out -------------------------------------------------------------------------------------------


def test_written_with_products_of_all_kinds():
    query, key, value = heads_of()
    weights = expected(query, key)
    ways = {
        "operator": lambda q, k, v: (q @ k.mT / D_K**0.5).softmax(-1) @ v,
        "matmul": lambda q, k, v: torch.matmul(F.softmax(torch.matmul(q, k.mT) * D_K**-0.5, 3), v),
        "module": lambda q, k, v: torch.matmul(nn.Softmax(-1)((q * D_K**-0.5).matmul(k.mT)), v),
        "einsum": lambda q, k, v: torch.einsum(
            "bhqk,bhkd->bqhd", (torch.einsum("b h i d, b h j d -> b h i j", q, k) / D_K**0.5).softmax(dim=-1), v
        ),
        "einsum over axes without names": lambda q, k, v: torch.einsum(
            "...qk,...kd->...qd", (torch.einsum("...qd,...kd->...qk", q, k) / D_K**0.5).softmax(-1), v
        ),
        "einsum, values first": lambda q, k, v: torch.einsum(
            "bhkd,bhqk->bqhd", v, (torch.einsum("bhqd,bhkd->bhqk", q, k) / D_K**0.5).softmax(-1)
        ),
        "turned": lambda q, k, v: torch.matmul(v.mT, (q @ k.mT / D_K**0.5).softmax(-1).permute(0, 1, 3, 2)).mT,
        "cast": lambda q, k, v: (q @ k.mT / D_K**0.5).softmax(-1, dtype=torch.float64).type_as(v) @ v,
    }
    for way, call in ways.items():
        found = seen(call, query, key, value, heads=[0, 3, 5], queries=[1, 2])
        torch.testing.assert_close(found.weights, weights[:, [0, 3, 5]][:, :, [1, 2]], msg=way)
        assert found.proof < 1e-5
        assert (found.kind, found.num_heads, found.num_key_value_heads) == ("cross", HEADS, HEADS)


def test_written_with_heads_folded_into_the_batch():
    class Folding(nn.Module):
        def forward(self, x):
            heads = x.view(BATCH, QUERIES, HEADS, D_K).transpose(1, 2).reshape(BATCH * HEADS, QUERIES, D_K)
            scores = torch.baddbmm(torch.zeros(1, 1, 1), heads, heads.mT, alpha=D_K**-0.5)
            return torch.bmm(F.dropout(scores.softmax(-1), 0.0), heads)

    x = drawn(BATCH, QUERIES, HEADS * D_K)
    heads = x.view(BATCH, QUERIES, HEADS, D_K).transpose(1, 2)
    found = capture(Folding(), x, heads=[1]).attention[""]
    torch.testing.assert_close(found.weights, expected(heads, heads)[:, [1]])
    assert (found.kind, found.num_heads) == ("self", HEADS)
    assert found.proof < 1e-5


def test_written_with_values_that_heads_share():
    query, key, _ = heads_of(groups=1)
    value = drawn(BATCH, KEYS, D_V)
    found = seen(lambda q, k, v: torch.einsum("bhqk,bkd->bqhd", (q @ k.mT).softmax(-1), v), query, key, value)
    torch.testing.assert_close(found.weights, expected(query, key, scale=1.0))
    assert (found.num_heads, found.num_key_value_heads) == (HEADS, 1)
    repeated = seen(
        lambda q, k, v: (q @ k.repeat_interleave(3, 1).mT).softmax(-1) @ v.repeat_interleave(3, 1),
        *heads_of(groups=2),
    )
    assert repeated.num_key_value_heads == 2


def test_a_softmax_that_is_no_attention():
    x, table = drawn(BATCH, QUERIES, D_K), nn.Parameter(drawn(D_K, D_V))
    for call in (
        lambda x: x.softmax(-1) @ x.mT,  # not of a product
        lambda x: (x @ table).softmax(-1) @ table.T,  # a product with parameters is a projection
        lambda x: (x @ x.mT).softmax(-2) @ x,  # over the queries
        lambda x: (x @ x.mT).log_softmax(-1) @ x,
        lambda x: (x @ x.mT).softmax(-1).mT @ x,  # the keys' sums over the queries
    ):
        with pytest.raises(CaptureError, match="no attention call was seen"):
            capture(Calls(call), x)


def test_scores_with_one_more_column_that_is_no_key():
    """As attention sinks have it (GPT-OSS): a share of the weights goes to nothing."""
    query, key, value = heads_of(keys=QUERIES)
    sinks = torch.zeros(BATCH, HEADS, QUERIES, 1)
    later = torch.full((QUERIES, QUERIES), -math.inf).triu(1)

    def call(q, k, v):
        return torch.cat([q @ k.mT / D_K**0.5 + later, sinks], -1).softmax(-1)[..., :-1] @ v

    found = seen(call, query, key, value)
    exponents = (torch.einsum("bhqd,bhkd->bhqk", query, key) / D_K**0.5 + later).exp()
    torch.testing.assert_close(found.weights, exponents / (1 + exponents.sum(-1, keepdim=True)))
    assert found.masking == "causal"
    assert found.proof < 1e-5


# --- dropout ---------------------------------------------------------------------------------------------------------


def test_weights_are_those_before_dropout_and_there_is_no_proof():
    query, key, value = heads_of()
    torch.manual_seed(1)
    for call in (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=0.5),
        lambda q, k, v: F.dropout((q @ k.mT / D_K**0.5).softmax(-1), 0.5) @ v,
        lambda q, k, v: v.mT @ F.dropout((q @ k.mT / D_K**0.5).softmax(-1).mT, 0.5),
        lambda q, k, v: v.mT @ F.dropout((q @ k.mT / D_K**0.5).softmax(-1), 0.5).mT,
        lambda q, k, v: nn.Dropout(0.5)((q @ k.mT / D_K**0.5).softmax(-1)).to(v.dtype).view(2, 6, 5, 7) @ v,
    ):
        found = seen(call, query, key, value)
        torch.testing.assert_close(found.weights, expected(query, key))
        assert math.isnan(found.proof)


@pytest.mark.parametrize("need_weights", [True, False])
def test_multi_head_with_dropout(need_weights):
    module, x = multi_head(dropout=0.5), drawn(QUERIES, BATCH, D_MODEL)
    inputs = {"query": x, "key": x, "value": x, "need_weights": need_weights}
    in_evaluation = capture(module.eval(), inputs).attention[""]
    torch.manual_seed(1)
    watched = capture(module.train(), inputs)
    assert torch.equal(watched.output[0], module(**inputs)[0])  # the same weights are dropped
    torch.testing.assert_close(watched.attention[""].weights, in_evaluation.weights)
    assert math.isnan(watched.attention[""].proof)
    assert in_evaluation.proof < 1e-5


# --- self or cross ---------------------------------------------------------------------------------------------------


def test_self_and_cross_are_told_by_where_queries_and_keys_come_from():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.to_query, self.to_key = nn.Linear(D_MODEL, D_MODEL), nn.Linear(D_MODEL, D_MODEL)

        def forward(self, x, y):
            return F.scaled_dot_product_attention(self.to_query(x.relu()), self.to_key(y * 2), y)

    x = drawn(BATCH, QUERIES, D_MODEL)
    assert capture(Model(), (x, x)).attention[""].kind == "self"
    assert capture(Model(), (x, x.clone())).attention[""].kind == "cross"


def test_cross_attention_between_two_stacks_that_read_the_same_tokens():
    class Model(nn.Module):
        def forward(self, x):
            memory = F.scaled_dot_product_attention(x, x, x) + x
            state = F.scaled_dot_product_attention(x, x, x, is_causal=True) + x
            state = F.scaled_dot_product_attention(state, memory, memory) + state
            return F.scaled_dot_product_attention(state, state.sin(), state)

    found = capture(Model(), drawn(BATCH, QUERIES, D_MODEL)).attention
    assert list(found) == ["", "#2", "#3", "#4"]
    assert [each.kind for each in found.values()] == ["self", "self", "cross", "self"]


def test_a_learned_query_asks_another_sequence():
    class Pooling(nn.Module):
        def __init__(self):
            super().__init__()
            self.query = nn.Parameter(drawn(1, D_MODEL))

        def forward(self, x):
            return (self.query @ x.mT).softmax(-1) @ x

    found = capture(Pooling(), drawn(BATCH, KEYS, D_MODEL)).attention[""]
    assert (found.kind, found.weights.shape) == ("cross", (BATCH, 1, 1, KEYS))
    assert found.proof < 1e-5


def test_keys_from_a_cache_are_of_the_same_sequence():
    cache = torch.zeros(BATCH, KEYS, D_MODEL)

    def writes(x):
        cache[:, 2 : 2 + QUERIES] = x
        return F.scaled_dot_product_attention(x, cache[:, : 2 + QUERIES], cache[:, : 2 + QUERIES])

    assert seen(writes, drawn(BATCH, QUERIES, D_MODEL)).kind == "self"

    def appends(x):
        both = torch.cat([cache, x], 1)
        return F.scaled_dot_product_attention(x, both, both)

    assert seen(appends, drawn(BATCH, QUERIES, D_MODEL)).kind == "self"
