"""Clipping: by the global norm, whose sum has a fixed order, and by value."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from glassrun.errors import NotFinite
from glassrun.train import clipping

# --- the global norm -------------------------------------------------------------------------------------------------

NAMES = ["first.weight", "first.bias", "second.weight", "second.bias"]


def gradients_of(seed: int) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) * 3 for shape in ((101, 7), (13,), (), (3, 5))]


@pytest.mark.parametrize("seed", range(5))
def test_the_norm_is_the_norm_of_all_elements(seed: int) -> None:
    gradients = gradients_of(seed)
    expected = math.sqrt(math.fsum(x * x for g in gradients for x in g.double().reshape(-1).tolist()))  # type: ignore[union-attr]
    assert clipping.global_norm(NAMES, gradients, 1) == pytest.approx(expected, rel=1e-6)


def test_the_order_of_tensors_moves_no_bit() -> None:
    gradients = gradients_of(7)
    norms = {clipping.global_norm(NAMES, list(order), 1).hex() for order in itertools.permutations(gradients)}
    assert len(norms) == 1


def test_absent_gradients_are_left_out() -> None:
    assert clipping.global_norm(NAMES[:2], [None, torch.tensor([3.0, 4.0])], 1) == 5.0
    assert clipping.global_norm(NAMES[:2], [None, None], 1) == 0.0


def test_finite_gradients_whose_squares_overflow_have_a_norm() -> None:
    norm = clipping.global_norm(["a"], [torch.full((4,), 1e30)], 1)
    assert norm == pytest.approx(2e30, rel=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_not_finite_names_the_parameter_and_the_step(value: float, place: int) -> None:
    gradients = gradients_of(0)
    gradients[2] = torch.tensor(1e30)  # finite, though its square is not
    gradients[place].view(-1)[-1] = value  # type: ignore[union-attr]
    with pytest.raises(NotFinite, match=rf"step 17: the gradient of {NAMES[place]} is not finite"):
        clipping.global_norm(NAMES, gradients, 17)


# --- clipping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.5, 1.0, 3.0])
def test_clipping_brings_the_norm_to_the_limit_and_keeps_the_direction(limit: float) -> None:
    gradients, before = gradients_of(2), gradients_of(2)
    norm = clipping.global_norm(NAMES, gradients, 1)
    clipping.clip_norm([*gradients, None], norm, limit)
    assert clipping.global_norm(NAMES, gradients, 1) == pytest.approx(limit, rel=1e-6)
    for after, original in zip(gradients, before, strict=True):
        torch.testing.assert_close(after, original * (limit / norm), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("limit", [None, 1e9])
def test_below_the_limit_no_bit_moves(limit: float | None) -> None:
    gradients = gradients_of(2)
    norm = clipping.global_norm(NAMES, gradients, 1)
    clipping.clip_norm(gradients, norm, limit)
    clipping.clip_norm(gradients, norm, norm)
    for after, original in zip(gradients, gradients_of(2), strict=True):
        assert torch.equal(after, original)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [None, 0.5, 1e9])
def test_clipping_by_value_brings_each_element_into_the_range(limit: float | None) -> None:
    gradients, before = gradients_of(2), gradients_of(2)
    clipping.clip_value([*gradients, None], limit)
    for after, original in zip(gradients, before, strict=True):
        expected = (
            original
            if limit is None
            else torch.maximum(torch.minimum(original, torch.tensor(limit)), torch.tensor(-limit))
        )  # type: ignore[arg-type, type-var]
        assert torch.equal(after, expected)  # type: ignore[arg-type]
    assert any(float(g.abs().max()) > 0.5 for g in before if g is not None)
