"""Positions as modules."""

import math

import pytest
import torch

from glassrun.errors import ModelError
from glassrun.nn.positions import LearnedPositions, SinusoidalPositions

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
