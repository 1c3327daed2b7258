"""Stochastic depth: what is left out, that the mean stays, and that evaluation knows nothing of it."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassrun.functional.stochastic_depth import linear_rates, stochastic_depth
from glassrun.nn.stochastic_depth import StochasticDepth

BATCH, SHAPE = 20_011, (2, 3)


def drawn(seed, rate, x):
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        return stochastic_depth(x, rate)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_each_example_is_left_out_whole_or_divided_and_the_mean_stays(rate):
    y = drawn(1, rate, torch.ones(BATCH, *SHAPE, dtype=torch.float64))
    rows = y.flatten(1)
    assert torch.equal(rows, rows[:, :1].expand_as(rows))
    kept = rows[:, 0] != 0
    torch.testing.assert_close(
        rows[kept, 0], torch.full((int(kept.sum()),), 1 / (1 - rate), dtype=torch.float64), rtol=1e-12, atol=0
    )
    # Within five standard errors of a Bernoulli variable.
    assert abs(kept.double().mean().item() - (1 - rate)) < 5 * math.sqrt(rate * (1 - rate) / BATCH)
    assert rows[:, 0].mean().item() == pytest.approx(1.0, abs=5 * math.sqrt(rate / (1 - rate) / BATCH))


def test_the_draws_follow_from_the_default_generator():
    x = torch.ones(101, 3)
    assert torch.equal(drawn(1, 0.5, x), drawn(1, 0.5, x))
    assert not torch.equal(drawn(1, 0.5, x), drawn(2, 0.5, x))


def test_a_rate_of_zero_draws_nothing():
    before = torch.get_rng_state()
    x = torch.ones(3, 2)
    assert stochastic_depth(x, 0.0) is x
    assert torch.equal(torch.get_rng_state(), before)


def test_the_gradient_is_that_of_the_same_draw():
    x = torch.ones(101, 3, dtype=torch.float64, requires_grad=True)
    y = drawn(1, 0.3, x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, y.detach())


def test_the_module_acts_in_training_only():
    layer, x = StochasticDepth(0.5), torch.ones(101, 3)
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(1)
        trained = layer(x)
    assert torch.equal(trained, drawn(1, 0.5, x))
    assert torch.equal(layer.eval()(x), x)


@given(st.floats(0.0, 0.9), st.integers(1, 40))
def test_rates_rise_from_zero_to_the_last_in_equal_steps(rate, blocks):
    rates = linear_rates(rate, blocks)
    assert len(rates) == blocks
    assert rates[0] == 0.0
    if blocks > 1:
        assert rates[-1] == pytest.approx(rate)
        assert [b - a for a, b in pairwise(rates)] == pytest.approx([rate / (blocks - 1)] * (blocks - 1))
