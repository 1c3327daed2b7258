"""Rotary positions. The whole file runs with the shape annotations enforced."""

import cmath
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from glassrun.functional import rotary as source
from shapes import checked

rotary_frequencies, rotary_table, rotate, linear_scaling, ntk_scaling, llama3_scaling, yarn_scaling = (
    checked(function)
    for function in (
        source.rotary_frequencies,
        source.rotary_table,
        source.rotate,
        source.linear_scaling,
        source.ntk_scaling,
        source.llama3_scaling,
        source.yarn_scaling,
    )
)
properties = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32)


def tables(d_k, length):
    """In float64, so that properties can be held to its rounding."""
    angle = torch.arange(length, dtype=torch.float64)[:, None] * rotary_frequencies(d_k)
    return angle.cos(), angle.sin()


def test_it_is_a_product_of_complex_numbers():
    # Su et al. 2021, equation 12: feature i and i + d/2 are the parts of a number that is multiplied by e^(i p θ).
    d_k, length = 6, 5
    x = torch.randn(length, d_k, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = rotate(x, *tables(d_k, length))
    for place in range(length):
        for i in range(d_k // 2):
            turned = complex(x[place, i], x[place, i + 3]) * cmath.exp(1j * place * 10000.0 ** (-2 * i / d_k))
            assert found[place, i].item() == pytest.approx(turned.real)
            assert found[place, i + 3].item() == pytest.approx(turned.imag)


@properties
@given(seeds, st.integers(0, 40), st.integers(0, 40), st.integers(0, 50))
def test_products_depend_on_the_distance_alone(seed, place, other, shift):
    d_k = 10
    query, key = torch.randn(2, d_k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    cosine, sine = tables(d_k, 100)

    def product(at, of):
        one, two = (rotate(x[None], cosine[p : p + 1], sine[p : p + 1]) for x, p in ((query, at), (key, of)))
        return (one * two).sum()

    torch.testing.assert_close(product(place, other), product(place + shift, other + shift), rtol=0, atol=1e-12)
    assert place == other or not torch.isclose(product(place, other), product(place, place), rtol=0, atol=1e-9)


@properties
@given(seeds, st.integers(1, 7), st.integers(1, 6))
def test_it_keeps_lengths(seed, length, half):
    x = torch.randn(2, 3, length, 2 * half, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = rotate(x, *tables(2 * half, length))
    torch.testing.assert_close(found.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(found[:, :, 0], x[:, :, 0])  # at the first position nothing turns


def test_the_table_keeps_late_positions():
    cosine, sine = rotary_table(rotary_frequencies(6), 100_000)
    assert cosine.dtype == torch.float32
    for i in range(3):
        angle = 99_991 * 10000.0 ** (-2 * i / 6)
        assert cosine[99_991, i].item() == pytest.approx(math.cos(angle), abs=1e-7)
        assert sine[99_991, i].item() == pytest.approx(math.sin(angle), abs=1e-7)


def test_gradcheck():
    x = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: rotate(t, *tables(6, 5)), (x,))


# --- scaled for longer texts -----------------------------------------------------------------------------------------


def hugging_face(d_k, length, seq_len=None, **parameters):
    """Its frequencies, and what it multiplies cosine and sine with."""
    utils = pytest.importorskip("transformers.modeling_rope_utils", reason="transformers is not installed")
    llama = pytest.importorskip("transformers.models.llama", reason="transformers is not installed")
    config = llama.LlamaConfig(
        hidden_size=3 * d_k, num_attention_heads=3, max_position_embeddings=length, rope_parameters=parameters
    )
    return utils.ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, "cpu", seq_len=seq_len)


def same(ours, theirs):
    torch.testing.assert_close(ours.float(), theirs, rtol=3e-6, atol=0)


@pytest.mark.parametrize("d_k", [6, 14, 64, 128])
@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
@pytest.mark.parametrize("factor", [1.5, 8.0])
def test_scalings_equal_hugging_faces(d_k, base, factor):
    frequencies = rotary_frequencies(d_k, base)
    common = {"rope_theta": base, "factor": factor}
    same(linear_scaling(frequencies, factor=factor), hugging_face(d_k, 64, rope_type="linear", **common)[0])
    # Its base follows the length: at 64 · 3 tokens it is raised by factor · 3 − (factor − 1).
    dynamic, _ = hugging_face(d_k, 64, 3 * 64, rope_type="dynamic", **common)
    same(ntk_scaling(frequencies, factor=factor * 3 - (factor - 1)), dynamic)
    for low, high in ((1.0, 4.0), (0.5, 7.0)):
        names = {"low_freq_factor": low, "high_freq_factor": high, "original_max_position_embeddings": 512}
        found = llama3_scaling(
            frequencies, factor=factor, original_length=512, low_frequency_factor=low, high_frequency_factor=high
        )
        same(found, hugging_face(d_k, 4096, rope_type="llama3", **common, **names)[0])
    for fast, slow in ((32.0, 1.0), (11.0, 2.0)):
        names = {"beta_fast": fast, "beta_slow": slow, "original_max_position_embeddings": 512}
        found = yarn_scaling(frequencies, factor=factor, original_length=512, base=base, beta_fast=fast, beta_slow=slow)
        expected, amplitude = hugging_face(d_k, 4096, rope_type="yarn", **common, **names)
        same(found, expected)
        assert source.yarn_amplitude(factor) == pytest.approx(amplitude)


def test_ends_of_the_scalings():
    frequencies = rotary_frequencies(32)
    ntk = ntk_scaling(frequencies, factor=5.0)
    assert ntk[0] == 1.0
    assert ntk[-1].item() == pytest.approx(frequencies[-1].item() / 5)
    for scaled in (
        llama3_scaling(frequencies, factor=5.0, original_length=512),
        yarn_scaling(frequencies, factor=5.0, original_length=512),
    ):
        assert torch.equal(scaled[0], frequencies[0])
        assert scaled[-1].item() == pytest.approx(frequencies[-1].item() / 5)
        assert (scaled <= frequencies).all()
        assert (scaled[1:] < scaled[:-1]).all()


@properties
@given(st.integers(1, 9))
def test_a_factor_of_one_scales_nothing(half):
    frequencies = rotary_frequencies(2 * half)
    for scaled in (
        linear_scaling(frequencies, factor=1.0),
        ntk_scaling(frequencies, factor=1.0),
        llama3_scaling(frequencies, factor=1.0, original_length=64),
        yarn_scaling(frequencies, factor=1.0, original_length=64),
    ):
        torch.testing.assert_close(scaled, frequencies, rtol=1e-15, atol=0)
    assert source.yarn_amplitude(1.0) == 1.0


def test_wrong_shapes_are_noticed():
    with pytest.raises(TypeCheckError):
        rotate(torch.zeros(3, 6), torch.zeros(2, 3), torch.zeros(2, 3))  # two positions for three tokens
