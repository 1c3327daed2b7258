"""How far an operation is from shifting its output with its input."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from glassrun.functional.convolution import convolution, max_pooling
from glassrun.look.shifts import shift_error, shifted


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


KERNEL = draw(5, 2, 3, 3, seed=2)


def zeros(x):
    return convolution(x, KERNEL, padding=1)


def circular(x):
    return convolution(F.pad(x, (1, 1, 1, 1), mode="circular"), KERNEL)


@given(rows=st.integers(0, 4), columns=st.integers(0, 5))
def test_a_convolution_shifts_away_from_the_border(rows, columns):
    found = shift_error(zeros, draw(1, 2, 13, 17), (rows, columns), reach=1)
    assert found.error < 1e-12
    assert found.inside.sum() == (13 - rows - 2) * (17 - columns - 2)
    if rows or columns:
        assert found.error_with_border > 0.01


def test_continued_around_it_shifts_everywhere():
    found = shift_error(circular, draw(1, 2, 12, 14), (5, 7))
    assert found.error_with_border < 1e-12
    torch.testing.assert_close(found.map_of_shifted, shifted(found.map, 5, 7))
    assert found.difference.abs().max() < 1e-12


@pytest.mark.parametrize("shift", [1, 2, 3, 4])
def test_a_stride_of_two_knows_even_shifts_alone(shift):
    for operation in (lambda x: circular(x)[..., ::2, ::2], lambda x: max_pooling(x, 2)):
        found = shift_error(operation, draw(1, 2, 12, 16), (0, shift), stride=2)
        assert (found.error < 1e-12) == (shift % 2 == 0)


def test_the_error_is_in_units_of_the_largest_value():
    # Only the place with index 1 is changed: f(T x) there is 3, T f(x) is 0.
    def operation(x):
        return x * torch.tensor([0.0, 3.0, 1.0, 1.0, 1.0])

    found = shift_error(operation, torch.ones(1, 1, 1, 5), (0, 1))
    assert found.map.tolist() == [[0, 3, 1, 1, 1]]
    assert found.difference.tolist() == [[-1, 3, -2, 0, 0]]
    assert found.error_with_border == 1.0
    assert found.error == 1.0
    assert shift_error(operation, torch.ones(1, 1, 1, 5), (0, 2)).error == pytest.approx(2 / 3)
