"""The optimizers against their formulas in float64, and clipping by the global norm."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glassrun import config
from glassrun.errors import NotFinite
from glassrun.train import optimizer as optimizers

RECIPE = {"name": "t", "task": "classify", "data": {"source": "digits"}, "model": {"kind": "cnn"}}
STEPS, RATES = 7, [0.01, 0.02, 0.03, 0.03, 0.02, 0.01, 0.005]
# float32 against float64 over seven steps: the largest error seen was 2e-7 relative
TOLERANCE: dict[str, Any] = {"rtol": 2e-5, "atol": 2e-6}


def reference(section: dict[str, Any], start: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    """Each algorithm as its paper writes it; decay only for matrices."""
    p, m, v = start.astype(np.float64), np.zeros(start.shape), np.zeros(start.shape)
    decay = section["weight_decay"] if start.ndim >= 2 else 0.0
    velocity = None
    for t, (g, lr) in enumerate(zip(gradients, RATES, strict=True), start=1):
        g = g.astype(np.float64)
        if section["kind"] == "sgd":
            g = g + decay * p
            velocity = g if velocity is None else section["momentum"] * velocity + g
            p = p - lr * (g + section["momentum"] * velocity if section["nesterov"] else velocity)
            continue
        if section["kind"] == "adam":
            g = g + decay * p
        else:
            p = p * (1 - lr * decay)
        b1, b2 = section["betas"]
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        p = p - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + section["eps"])
    return p


@pytest.mark.parametrize(
    "section",
    [
        {"kind": "adamw", "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.3},
        {"kind": "adam", "betas": [0.8, 0.95], "eps": 1e-8, "weight_decay": 0.3},
        {"kind": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0.3},
        {"kind": "sgd", "momentum": 0.7, "nesterov": True, "weight_decay": 0.3},
        {"kind": "sgd", "momentum": 0.0, "nesterov": False, "weight_decay": 0.3},
    ],
    ids=lambda s: f"{s['kind']}{'-nesterov' if s.get('nesterov') else ''}",
)
def test_against_the_formula(section: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(3)
    shapes = [(5, 7), (13,), (), (2, 3, 5)]
    parameters = [(f"p{i}", nn.Parameter(torch.randn(s, generator=generator))) for i, s in enumerate(shapes)]
    starts = [p.detach().numpy().copy() for _, p in parameters]
    gradients = [[torch.randn(s, generator=generator) for s in shapes] for _ in range(STEPS)]
    optimizer = optimizers.build(config.load(RECIPE | {"optimizer": section}), parameters)
    for grads, rate in zip(gradients, RATES, strict=True):
        for (_, parameter), gradient in zip(parameters, grads, strict=True):
            parameter.grad = gradient.clone()
        optimizers.set_learning_rate(optimizer, rate)
        optimizer.step()
    for i, (_, parameter) in enumerate(parameters):
        expected = reference(section, starts[i], [grads[i].numpy() for grads in gradients])
        np.testing.assert_allclose(parameter.detach().numpy(), expected, **TOLERANCE)


def test_a_parameter_without_a_gradient_is_not_moved() -> None:
    parameters = [("a", nn.Parameter(torch.ones(3, 3))), ("b", nn.Parameter(torch.ones(3, 3)))]
    optimizer = optimizers.build(config.load(RECIPE | {"optimizer": {"weight_decay": 0.5}}), parameters)
    parameters[0][1].grad = torch.ones(3, 3)
    optimizer.step()
    assert parameters[1][1].tolist() == [[1.0] * 3] * 3
    assert parameters[0][1].tolist() != [[1.0] * 3] * 3
    assert {name.partition("/")[0] for name in optimizers.state_tensors(optimizer, parameters)} == {"a"}


def test_the_state_is_listed_by_parameter_and_restored_in_storage_of_its_own() -> None:
    parameters = [(f"layer.{n}", nn.Parameter(torch.ones(3, n))) for n in (5, 7)]
    optimizer = optimizers.build(config.load(RECIPE), parameters)
    for _, parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    found = optimizers.state_tensors(optimizer, parameters)
    assert list(found) == [f"layer.{n}/{key}" for n in (5, 7) for key in ("exp_avg", "exp_avg_sq", "step")]
    fresh = optimizers.build(config.load(RECIPE), parameters)
    optimizers.restore_state(fresh, parameters, found)
    again = optimizers.state_tensors(fresh, parameters)
    assert list(again) == list(found)
    for name, tensor in again.items():
        assert torch.equal(tensor, found[name])
        assert tensor.data_ptr() != found[name].data_ptr()
        assert tensor.data_ptr() % 64 == 0


# --- the global norm -------------------------------------------------------------------------------------------------

NAMES = ["first.weight", "first.bias", "second.weight", "second.bias"]


def gradients_of(seed: int) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) * 3 for shape in ((101, 7), (13,), (), (3, 5))]


@pytest.mark.parametrize("seed", range(5))
def test_the_norm_is_the_norm_of_all_elements(seed: int) -> None:
    gradients = gradients_of(seed)
    expected = math.sqrt(math.fsum(x * x for g in gradients for x in g.double().reshape(-1).tolist()))  # type: ignore[union-attr]
    assert optimizers.global_norm(NAMES, gradients, 1) == pytest.approx(expected, rel=1e-6)


def test_the_order_of_tensors_moves_no_bit() -> None:
    gradients = gradients_of(7)
    norms = {optimizers.global_norm(NAMES, list(order), 1).hex() for order in itertools.permutations(gradients)}
    assert len(norms) == 1


def test_absent_gradients_are_left_out() -> None:
    assert optimizers.global_norm(NAMES[:2], [None, torch.tensor([3.0, 4.0])], 1) == 5.0
    assert optimizers.global_norm(NAMES[:2], [None, None], 1) == 0.0


def test_finite_gradients_whose_squares_overflow_have_a_norm() -> None:
    norm = optimizers.global_norm(["a"], [torch.full((4,), 1e30)], 1)
    assert norm == pytest.approx(2e30, rel=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_not_finite_names_the_parameter_and_the_step(value: float, place: int) -> None:
    gradients = gradients_of(0)
    gradients[2] = torch.tensor(1e30)  # finite, though its square is not
    gradients[place].view(-1)[-1] = value  # type: ignore[union-attr]
    with pytest.raises(NotFinite, match=rf"step 17: the gradient of {NAMES[place]} is not finite"):
        optimizers.global_norm(NAMES, gradients, 17)


# --- clipping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.5, 1.0, 3.0])
def test_clipping_brings_the_norm_to_the_limit_and_keeps_the_direction(limit: float) -> None:
    gradients, before = gradients_of(2), gradients_of(2)
    norm = optimizers.global_norm(NAMES, gradients, 1)
    optimizers.clip([*gradients, None], norm, limit)
    assert optimizers.global_norm(NAMES, gradients, 1) == pytest.approx(limit, rel=1e-6)
    for after, original in zip(gradients, before, strict=True):
        torch.testing.assert_close(after, original * (limit / norm), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("limit", [None, 1e9])
def test_below_the_limit_no_bit_moves(limit: float | None) -> None:
    gradients = gradients_of(2)
    norm = optimizers.global_norm(NAMES, gradients, 1)
    optimizers.clip(gradients, norm, limit)
    optimizers.clip(gradients, norm, norm)
    for after, original in zip(gradients, gradients_of(2), strict=True):
        assert torch.equal(after, original)  # type: ignore[arg-type]
