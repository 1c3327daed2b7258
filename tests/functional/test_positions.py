"""Sinusoidal positions. The whole file runs with the shape annotations enforced."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from glassrun.functional import positions as source
from shapes import checked

properties = settings(max_examples=25, deadline=None)


sinusoidal_positions, sinusoidal_shift = checked(source.sinusoidal_positions), checked(source.sinusoidal_shift)


def by_loop(length, d_model):
    """Section 3.5, one number at a time."""
    table = torch.zeros(length, d_model, dtype=torch.float64)
    for p in range(length):
        for feature in range(d_model):
            i = feature // 2
            angle = p / math.pow(10000.0, 2 * i / d_model)
            table[p, feature] = math.sin(angle) if feature % 2 == 0 else math.cos(angle)
    return table.float()


def test_hand_computed():
    # d_model 4: wavelengths 2π and 100 · 2π.
    expected = [
        [0.0, 1.0, 0.0, 1.0],
        [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)],
        [math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)],
    ]
    torch.testing.assert_close(sinusoidal_positions(3, 4), torch.tensor(expected), rtol=0, atol=1e-7)


@properties
@given(st.integers(0, 11), st.integers(1, 13))
def test_equals_a_loop_for_even_and_odd_d_model(length, d_model):
    table = sinusoidal_positions(length, d_model)
    assert table.shape == (length, d_model)
    assert table.dtype == torch.float32
    torch.testing.assert_close(table, by_loop(length, d_model), rtol=0, atol=1e-7)


@pytest.mark.parametrize("d_model", [1, 7])
def test_an_odd_d_model_ends_in_a_sine(d_model):
    table = sinusoidal_positions(5, d_model)
    wavelength = 10000.0 ** ((d_model - 1) / d_model)
    expected = torch.tensor([math.sin(p / wavelength) for p in range(5)])
    torch.testing.assert_close(table[:, -1], expected, rtol=0, atol=1e-7)


@properties
@given(st.integers(0, 200), st.integers(0, 53), st.integers(1, 8).map(lambda half: 2 * half))
def test_a_step_of_k_is_a_linear_function(p, k, d_model):
    # Each (sine, cosine) pair turns by the same angle whatever p is: the property that the paper chose them for.
    table = sinusoidal_positions(p + k + 1, d_model)
    torch.testing.assert_close(sinusoidal_shift(k, d_model) @ table[p], table[p + k], rtol=0, atol=5e-7)


def test_shift_hand_computed():
    turn = [[math.cos(3), math.sin(3)], [-math.sin(3), math.cos(3)]]
    torch.testing.assert_close(sinusoidal_shift(3, 2), torch.tensor(turn))
    torch.testing.assert_close(sinusoidal_shift(3, 8) @ sinusoidal_shift(-3, 8), torch.eye(8))


def test_an_odd_width_has_no_shift():
    # The last sine is alone: sin((p + k) / w) does not follow from sin(p / w).
    with pytest.raises(ValueError, match="d_model is 7; expected an even one"):
        sinusoidal_shift(1, 7)


@pytest.mark.parametrize("d_model", [31, 32])
def test_a_linear_probe_reads_the_position(d_model):
    # Least squares from half of the positions to their numbers, tried on the other half.
    count = 128
    table = torch.cat([sinusoidal_positions(count, d_model), torch.ones(count, 1)], 1).double()
    place = torch.arange(count, dtype=torch.float64)
    probe = torch.linalg.lstsq(table[::2], place[::2, None], driver="gelsd").solution[:, 0]
    error = (table[1::2] @ probe - place[1::2]).abs()
    assert error.max() < 0.5  # so rounding gives every one


def test_late_positions_keep_their_digits():
    # In float32 the angle itself would be off by 4e-3 here.
    p = 99_991
    table = sinusoidal_positions(p + 1, 3)
    middle = p / 10000.0 ** (2 / 3)
    expected = torch.tensor([math.sin(p), math.cos(p), math.sin(middle)])
    torch.testing.assert_close(table[p], expected, rtol=0, atol=1e-7)


def test_every_position_is_different():
    table = sinusoidal_positions(509, 6)
    assert len({tuple(row) for row in table.tolist()}) == 509


def test_annotations_are_enforced():
    # torch.arange takes a float; the annotation does not.
    with pytest.raises(TypeCheckError):
        sinusoidal_positions(3.0, 5)
