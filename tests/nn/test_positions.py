"""Positions as modules."""

import math

import pytest
import torch

from glassrun.errors import ModelError
from glassrun.functional.rotary import rotary_frequencies
from glassrun.nn.positions import (
    ALiBi,
    LearnedPositions,
    NoPositions,
    RelativePositions,
    RotaryPositions,
    SinusoidalPositions,
    T5Bias,
)

BATCH, LENGTH, MAX_LENGTH, D_MODEL = 2, 3, 5, 7


def test_sinusoidal_adds_its_table():
    x = torch.zeros(BATCH, LENGTH, 2)
    x[1] = 10.0
    wave = torch.tensor([[math.sin(p), math.cos(p)] for p in range(LENGTH)])
    torch.testing.assert_close(SinusoidalPositions(MAX_LENGTH, 2)(x), torch.stack([wave, wave + 10.0]))


def test_sinusoidal_has_nothing_to_learn_or_to_save():
    module = SinusoidalPositions(MAX_LENGTH, D_MODEL)
    assert list(module.parameters()) == []
    assert module.state_dict() == {}
    assert [name for name, _ in module.named_buffers()] == ["table"]  # so that it moves with the model


def test_learned_adds_the_first_vectors_and_learns_only_those():
    module = LearnedPositions(MAX_LENGTH, D_MODEL)
    x = torch.zeros(BATCH, LENGTH, D_MODEL)
    with torch.no_grad():
        module.weight.copy_(torch.arange(MAX_LENGTH * D_MODEL).view(MAX_LENGTH, D_MODEL))
    output = module(x)
    output.sum().backward()
    expected = torch.arange(LENGTH * D_MODEL, dtype=torch.float32).view(LENGTH, D_MODEL)
    assert torch.equal(output, expected.expand(BATCH, LENGTH, D_MODEL))
    # Every example of the batch pulls once at each vector that was used.
    assert torch.equal(module.weight.grad[:LENGTH], torch.full((LENGTH, D_MODEL), float(BATCH)))
    assert module.weight.grad[LENGTH:].eq(0).all()


@pytest.mark.parametrize("kind", [SinusoidalPositions, LearnedPositions])
def test_a_text_may_be_as_long_as_the_table_and_no_longer(kind):
    module = kind(MAX_LENGTH, D_MODEL)
    assert module(torch.zeros(BATCH, MAX_LENGTH, D_MODEL)).shape == (BATCH, MAX_LENGTH, D_MODEL)
    with pytest.raises(ModelError, match=r"at most 5 tokens.*found 6"):
        module(torch.zeros(BATCH, MAX_LENGTH + 1, D_MODEL))


def test_places_choose_the_rows():
    for module in (SinusoidalPositions(MAX_LENGTH, D_MODEL), LearnedPositions(MAX_LENGTH, D_MODEL)):
        x = torch.zeros(BATCH, LENGTH, D_MODEL)
        full = module(torch.zeros(1, MAX_LENGTH, D_MODEL))[0]
        places = torch.tensor([[0, 0, 1], [2, 3, 4]])
        assert torch.equal(module(x, places), full[places])
        assert torch.equal(module(x, torch.arange(LENGTH)[None]), module(x))
        with pytest.raises(ModelError, match=r"at most 5 tokens.*found 6"):
            module(x, torch.tensor([[3, 4, 5]]))


def test_no_positions_add_nothing():
    x = torch.ones(BATCH, LENGTH, D_MODEL)
    assert NoPositions()(x) is x
    assert NoPositions()(x, torch.zeros(1, LENGTH, dtype=torch.int64)) is x


def test_rotary_starts_where_it_is_told():
    module = RotaryPositions(rotary_frequencies(6), 11)
    x = torch.randn(BATCH, 3, 11, 6, generator=torch.Generator().manual_seed(1))
    assert torch.equal(module(x[:, :, 4:9], 4), module(x)[:, :, 4:9])
    assert not torch.equal(module(x[:, :, 4:9]), module(x)[:, :, 4:9])
    doubled = RotaryPositions(rotary_frequencies(6), 11, amplitude=2.0)
    torch.testing.assert_close(doubled(x), 2 * module(x))


def test_what_is_fixed_is_no_parameter_and_is_not_saved():
    for module in (RotaryPositions(rotary_frequencies(6), 11), ALiBi(3)):
        assert list(module.parameters()) == []
        assert module.state_dict() == {}
        assert list(module.buffers())  # so that it moves with the model


def test_learned_biases_have_these_shapes():
    assert T5Bias(3, bidirectional=True, num_buckets=8).weight.shape == (8, 3)
    assert RelativePositions(7, reach=4).weight.shape == (9, 7)
    query = torch.zeros(BATCH, 3, 5, 7)
    assert T5Bias(3, bidirectional=False)(query, 6).shape == (3, 5, 6)
    assert RelativePositions(7)(query, 6).shape == (BATCH, 3, 5, 6)
    assert ALiBi(3)(query, 6).shape == (3, 5, 6)
