"""Positions as a bias on the scores. The whole file runs with the shape annotations enforced."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from glassrun.functional import relative_positions as source
from shapes import checked

relative_positions, alibi_slopes, alibi_bias, t5_buckets, t5_bias, relative_bias = (
    checked(function)
    for function in (
        source.relative_positions,
        source.alibi_slopes,
        source.alibi_bias,
        source.t5_buckets,
        source.t5_bias,
        source.relative_bias,
    )
)
properties = settings(max_examples=25, deadline=None)
HEADS, D_K = 3, 5


def test_relative_positions_hand_computed():
    assert relative_positions(3, 3).tolist() == [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]]
    assert relative_positions(1, 4).tolist() == [[-3, -2, -1, 0]]


@properties
@given(st.integers(1, 7), st.integers(0, 7), st.integers(0, 2**32))
def test_the_last_queries_have_the_last_rows(queries, more, seed):
    # So that a bias for new tokens is that of all tokens, cut.
    keys = queries + more
    generator = torch.Generator().manual_seed(seed)
    weight, vectors = torch.randn(8, HEADS, generator=generator), torch.randn(7, D_K, generator=generator)
    query = torch.randn(2, HEADS, keys, D_K, generator=generator)
    assert torch.equal(relative_positions(queries, keys), relative_positions(keys, keys)[more:])
    slopes = alibi_slopes(HEADS)
    assert torch.equal(alibi_bias(slopes, queries, keys), alibi_bias(slopes, keys, keys)[:, more:])
    for bidirectional in (False, True):
        found, full = (t5_bias(weight, count, keys, bidirectional=bidirectional) for count in (queries, keys))
        assert torch.equal(found, full[:, more:])
    torch.testing.assert_close(
        relative_bias(query[:, :, more:], vectors, keys), relative_bias(query, vectors, keys)[:, :, more:]
    )


@properties
@given(st.integers(0, 2**32), st.integers(1, 9))
def test_biases_depend_on_the_distance_alone(seed, shift):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(8, HEADS, generator=generator)
    for bias in (
        alibi_bias(alibi_slopes(HEADS), 13, 13),
        t5_bias(weight, 13, 13, bidirectional=True, max_distance=9),
        t5_bias(weight, 13, 13, bidirectional=False, max_distance=9),
    ):
        assert torch.equal(bias[:, shift:, shift:], bias[:, :-shift, :-shift])
    # Of Shaw's the queries' content, too: the same query everywhere, so that only the place differs.
    query = torch.randn(2, HEADS, 1, D_K, generator=generator).expand(-1, -1, 13, -1)
    bias = relative_bias(query, torch.randn(7, D_K, generator=generator), 13)
    torch.testing.assert_close(bias[..., shift:, shift:], bias[..., :-shift, :-shift])


def test_slopes_of_a_power_of_two_are_a_geometric_sequence():
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert alibi_slopes(1).tolist() == [2.0**-8]


@pytest.mark.parametrize("num_heads", [1, 2, 3, 5, 6, 7, 8, 12, 16, 17, 25, 40])
def test_slopes_equal_those_of_bloom(num_heads):
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom", reason="transformers is not installed")
    table = bloom.build_alibi_tensor(torch.ones(1, 2, dtype=torch.int64), num_heads, torch.float32)
    torch.testing.assert_close(alibi_slopes(num_heads), table[:, 0, 1], rtol=1e-6, atol=0)


def test_alibi_hand_computed():
    expected = [[0.0, -0.5, -1.0], [-0.5, 0.0, -0.5], [-1.0, -0.5, 0.0]]
    assert alibi_bias(torch.tensor([0.5]), 3, 3).tolist() == [expected]


def by_hand(distance, *, bidirectional, num_buckets, max_distance):
    """Raffel et al. 2020 in whole numbers: no logarithm is rounded."""
    first = 0
    if bidirectional:
        num_buckets //= 2
        first, distance = (num_buckets if distance > 0 else 0), abs(distance)
    else:
        distance = max(-distance, 0)
    exact = num_buckets // 2
    if distance < exact:
        return first + distance
    rest = num_buckets - exact
    # The largest j with (distance / exact)^rest ≥ (max_distance / exact)^j.
    j = max(j for j in range(rest + 1) if distance**rest * exact**j >= max_distance**j * exact**rest)
    return first + min(exact + j, num_buckets - 1)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_buckets_counted_in_whole_numbers(bidirectional):
    distance = torch.arange(-300, 301)[None]
    found = t5_buckets(distance, bidirectional=bidirectional)[0].tolist()
    expected = [by_hand(d, bidirectional=bidirectional, num_buckets=32, max_distance=128) for d in range(-300, 301)]
    assert found == expected
    assert set(found) == set(range(32)) - ({16} if bidirectional else set())  # 16 would be 0 keys behind


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (31, 101), (8, 20)])
def test_buckets_equal_hugging_faces(bidirectional, num_buckets, max_distance):
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5", reason="transformers is not installed")
    distance = relative_positions(211, 211)
    expected = t5.T5Attention._relative_position_bucket(distance, bidirectional, num_buckets, max_distance)
    found = t5_buckets(distance, bidirectional=bidirectional, num_buckets=num_buckets, max_distance=max_distance)
    assert torch.equal(found, expected)


def test_t5_bias_looks_up_its_buckets():
    weight = torch.arange(8 * HEADS, dtype=torch.float64).view(8, HEADS).requires_grad_()
    bias = t5_bias(weight, 2, 3, bidirectional=False, max_distance=16)
    # Distances −1, 0, 1 and −2, −1, 0: buckets 1, 0, 0 and 2, 1, 0.
    assert bias[1].tolist() == [[HEADS + 1.0, 1.0, 1.0], [2 * HEADS + 1.0, HEADS + 1.0, 1.0]]
    (gradient,) = torch.autograd.grad(bias.sum(), weight)
    assert gradient[:, 0].tolist() == [3.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_relative_bias_is_shaws_sum_with_gradients():
    # Equation 4 as it is written: a vector for every pair of tokens.
    generator = torch.Generator().manual_seed(1)
    reach, length = 2, 7
    query = torch.randn(2, HEADS, length, D_K, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2 * reach + 1, D_K, generator=generator, dtype=torch.float64, requires_grad=True)
    pairs = torch.stack(
        [torch.stack([weight[max(-reach, min(reach, j - i)) + reach] for j in range(length)]) for i in range(length)]
    )
    expected = torch.einsum("bhqd,qkd->bhqk", query, pairs) / math.sqrt(D_K)
    found = relative_bias(query, weight, length)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    pull = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad(found, [query, weight], pull),
        torch.autograd.grad(expected, [query, weight], pull),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(lambda q, w: relative_bias(q, w, length), (query, weight))


def test_wrong_shapes_are_noticed():
    with pytest.raises(TypeCheckError):
        relative_bias(torch.zeros(2, 3, D_K), torch.zeros(7, D_K + 1), 3)


def test_more_queries_than_keys() -> None:
    """The last query stands at the last key here, too, as for the causal mask."""
    assert source.relative_positions(3, 2).tolist() == [[1, 2], [0, 1], [-1, 0]]
