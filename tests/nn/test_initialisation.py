"""What a parameter starts from depends on the seed, its name and its shape."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glassrun.nn.initialisation import he_normal, initialise, norm_or_bias, normal, xavier_uniform

properties = settings(max_examples=25, deadline=None)


def network(**layers):
    return nn.ModuleDict(layers)


def started(model, seed):
    initialise(model, seed, lambda _name, _parameter: normal(1.0))
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@properties
@given(st.integers(0, 2**63 - 1))
def test_adding_a_layer_moves_no_other_start(seed):
    small = started(network(a=nn.Linear(3, 5), b=nn.Linear(5, 7)), seed)
    large = started(network(new=nn.Linear(11, 3), a=nn.Linear(3, 5), middle=nn.LayerNorm(5), b=nn.Linear(5, 7)), seed)
    assert len(large) == len(small) + 4
    assert all(torch.equal(large[name], start) for name, start in small.items())


@properties
@given(st.integers(0, 2**63 - 2))
def test_seed_and_name_tell_starts_apart(seed):
    starts = started(network(a=nn.Linear(3, 5), b=nn.Linear(3, 5)), seed)
    others = started(network(a=nn.Linear(3, 5), b=nn.Linear(3, 5)), seed + 1)
    assert not torch.equal(starts["a.weight"], starts["b.weight"])
    assert not torch.equal(starts["a.weight"], others["a.weight"])


def test_the_default_generator_is_neither_used_nor_changed():
    model = network(a=nn.Linear(3, 5))
    before = torch.get_rng_state()
    first = started(model, 7)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.rand(13)  # another state
        second = started(model, 7)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_rule_is_asked_for_every_parameter():
    model = network(a=nn.Linear(2, 3))
    asked = []

    def rule(name, parameter):
        asked.append((name, parameter is model.get_parameter(name)))
        return 1.5 if name.endswith("bias") else normal(1e-3)

    initialise(model, 1, rule)

    assert asked == [("a.weight", True), ("a.bias", True)]
    assert model["a"].bias.tolist() == [1.5] * 3
    assert 0 < model["a"].weight.abs().max() < 0.01
    assert model["a"].weight.requires_grad
    assert model["a"].weight.grad_fn is None


def test_a_tied_parameter_starts_once_under_its_first_name():
    tied = network(embedding=nn.Embedding(5, 3), output=nn.Linear(3, 5, bias=False))
    tied["output"].weight = tied["embedding"].weight
    alone = network(embedding=nn.Embedding(5, 3))
    assert list(started(tied, 3)) == ["embedding.weight"]
    assert torch.equal(started(tied, 3)["embedding.weight"], started(alone, 3)["embedding.weight"])


# In the next tests 100,000 numbers are drawn with a fixed key; 5 standard errors are allowed.
ROWS, COLUMNS = 500, 200


def fill(draw, *shape):
    tensor = torch.full(shape, math.nan)
    draw(tensor, torch.Generator().manual_seed(11))
    return tensor


def assert_spread(tensor, std):
    count = tensor.numel()
    assert abs(tensor.mean().item()) < 5 * std / math.sqrt(count)
    assert tensor.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * count))


def test_normal_has_the_given_spread():
    assert_spread(fill(normal(0.02), ROWS, COLUMNS), 0.02)


def test_he_normal_has_variance_two_over_fan_in():
    assert_spread(fill(he_normal, ROWS, COLUMNS), math.sqrt(2 / COLUMNS))
    assert_spread(fill(he_normal, 500, 8, 5, 5), math.sqrt(2 / (8 * 5 * 5)))


@pytest.mark.parametrize("parts", [1, 3])
def test_xavier_uniform_fills_its_range(parts):
    tensor = fill(xavier_uniform(parts), parts * ROWS, COLUMNS)
    bound = math.sqrt(6 / (ROWS + COLUMNS))  # of one of the stacked matrices
    assert 0.999 * bound < tensor.max() <= bound
    assert -bound <= tensor.min() < -0.999 * bound
    assert_spread(tensor, bound / math.sqrt(3))


def test_xavier_uniform_equals_torch():
    expected = nn.init.xavier_uniform_(torch.empty(5, 7), generator=torch.Generator().manual_seed(11))
    torch.testing.assert_close(fill(xavier_uniform(), 5, 7), expected)


def test_norms_start_as_the_identity():
    norm, linear = nn.LayerNorm(3), nn.Linear(2, 3)
    with torch.no_grad():
        norm.weight.fill_(9.0)
        norm.bias.fill_(9.0)
    model = network(norm=norm, linear=linear)
    initialise(model, 1, lambda name, p: norm_or_bias(name) if p.ndim == 1 else 0.5)
    assert norm.weight.tolist() == [1.0] * 3
    assert norm.bias.tolist() == [0.0] * 3
    assert linear.bias.tolist() == [0.0] * 3
    assert linear.weight.eq(0.5).all()
