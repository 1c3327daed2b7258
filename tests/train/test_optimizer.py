"""The optimizers against their formulas in float64, what decays, and what Muon takes."""

# ruff: noqa: ARG001 - the rules have one signature

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from glassrun import config
from glassrun.nn.positions import LearnedPositions
from glassrun.train import optimizer as optimizers

RECIPE = {"name": "t", "task": "classify", "data": {"source": "digits"}, "model": {"kind": "cnn"}}
STEPS, RATES = 7, [0.01, 0.02, 0.03, 0.03, 0.02, 0.01, 0.005]
# float32 against float64 over seven steps: the largest error seen was 2e-7 relative
TOLERANCE: dict[str, Any] = {"rtol": 2e-5, "atol": 2e-6}


def reference(section: dict[str, Any], start: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    """Each algorithm as its paper or torch's documentation writes it; decay only for matrices."""
    p, decay = start.astype(np.float64), section["weight_decay"] if start.ndim >= 2 else 0.0
    rule, state = RULES[section["kind"]], {}
    for t, (g, lr) in enumerate(zip(gradients, RATES, strict=True), start=1):
        g = g.astype(np.float64)
        if section["kind"] in ("adamw", "adafactor"):
            p = rule(section, p * (1 - lr * decay), g, t, lr, state, before=p)
        else:
            p = rule(section, p, g + decay * p, t, lr, state, before=p)
    return p


def moments(s: Any, g: Any, state: Any) -> tuple[Any, Any]:
    b1, b2 = s["betas"]
    state["m"] = b1 * state.get("m", 0) + (1 - b1) * g
    state["v"] = b2 * state.get("v", 0) + (1 - b2) * g * g
    return state["m"], state["v"]


def adam(s: Any, p: Any, g: Any, t: int, lr: float, state: Any, before: Any) -> Any:
    m, v = moments(s, g, state)
    b1, b2 = s["betas"]
    return p - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + s["eps"])


def sgd(s: Any, p: Any, g: Any, t: int, lr: float, state: Any, before: Any) -> Any:
    state["v"] = s["momentum"] * state["v"] + g if state else g
    return p - lr * (g + s["momentum"] * state["v"] if s["nesterov"] else state["v"])


def rmsprop(s: Any, p: Any, g: Any, t: int, lr: float, state: Any, before: Any) -> Any:
    state["v"] = s["alpha"] * state.get("v", 0) + (1 - s["alpha"]) * g * g
    state["b"] = s["momentum"] * state.get("b", 0) + g / (np.sqrt(state["v"]) + s["eps"])
    return p - lr * state["b"]


def adagrad(s: Any, p: Any, g: Any, t: int, lr: float, state: Any, before: Any) -> Any:
    state["v"] = state.get("v", 0) + g * g
    return p - lr * g / (np.sqrt(state["v"]) + s["eps"])


def nadam(s: Any, p: Any, g: Any, t: int, lr: float, state: Any, before: Any) -> Any:
    """Dozat 2016, algorithm 2."""
    m, v = moments(s, g, state)
    mu, following = (s["betas"][0] * (1 - 0.5 * 0.96 ** (i * s["momentum_decay"])) for i in (t, t + 1))
    state["product"] = state.get("product", 1) * mu
    hat = following * m / (1 - state["product"] * following) + (1 - mu) * g / (1 - state["product"])
    return p - lr * hat / (np.sqrt(v / (1 - s["betas"][1] ** t)) + s["eps"])


def radam(s: Any, p: Any, g: Any, t: int, lr: float, state: Any, before: Any) -> Any:
    """Liu et al. 2020, algorithm 2; the bound 5 is torch's, the paper has 4."""
    m, v = moments(s, g, state)
    b1, b2 = s["betas"]
    hat, longest = m / (1 - b1**t), 2 / (1 - b2) - 1
    length = longest - 2 * t * b2**t / (1 - b2**t)
    if length <= 5:
        return p - lr * hat
    rectified = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
    return p - lr * rectified * hat * math.sqrt(1 - b2**t) / (np.sqrt(v) + s["eps"])


def adafactor(s: Any, p: Any, g: Any, t: int, lr: float, state: Any, before: Any) -> Any:
    """Shazeer & Stern 2018, algorithms 4 and 5, with the relative step min(lr, 1/√t)."""
    share = t ** s["beta2_decay"]
    scale = max(s["smallest_scale"], float(np.sqrt(np.mean(before**2)))) * min(lr, 1 / math.sqrt(t))
    square = g * g
    if g.ndim >= 2:
        rows, columns = square.mean(-1, keepdims=True), square.mean(-2, keepdims=True)
        state["r"] = (1 - share) * state.get("r", 0) + share * rows
        state["c"] = (1 - share) * state.get("c", 0) + share * columns
        v = state["r"] * state["c"] / state["r"].mean(-2, keepdims=True)
    else:
        v = state["v"] = (1 - share) * state.get("v", 0) + share * square
    update = g / np.sqrt(v)
    return p - scale * update / max(1.0, float(np.sqrt(np.mean(update**2))) / s["clip_update"])


RULES: dict[str, Any] = {
    "adamw": adam,
    "adam": adam,
    "sgd": sgd,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "nadam": nadam,
    "radam": radam,
    "adafactor": adafactor,
}
SECTIONS: list[dict[str, Any]] = [
    {"kind": "adamw", "betas": [0.9, 0.98], "eps": 1e-6},
    {"kind": "adam", "betas": [0.8, 0.95], "eps": 1e-8},
    {"kind": "sgd", "momentum": 0.9, "nesterov": False},
    {"kind": "sgd", "momentum": 0.7, "nesterov": True},
    {"kind": "sgd", "momentum": 0.0, "nesterov": False},
    {"kind": "rmsprop", "alpha": 0.9, "eps": 1e-6, "momentum": 0.0},
    {"kind": "rmsprop", "alpha": 0.8, "eps": 1e-8, "momentum": 0.7},
    {"kind": "adagrad", "eps": 1e-6},
    {"kind": "nadam", "betas": [0.9, 0.98], "eps": 1e-6, "momentum_decay": 0.01},
    {"kind": "radam", "betas": [0.9, 0.7], "eps": 1e-6},
    {"kind": "radam", "betas": [0.9, 0.999], "eps": 1e-6},
    {"kind": "adafactor", "beta2_decay": -0.7, "smallest_scale": 0.5, "clip_update": 1.5},
]


class Holding(nn.Module):
    """Parameters of these shapes, called p0, p1, …"""

    def __init__(self, *shapes: tuple[int, ...], seed: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        for place, shape in enumerate(shapes):
            self.register_parameter(f"p{place}", nn.Parameter(torch.randn(shape, generator=generator)))


def build(section: dict[str, Any], model: nn.Module, **facts: int) -> optimizers.Optimizer:
    return optimizers.build(config.load(RECIPE | {"optimizer": section}), model, facts)


def test_every_kind_is_tested() -> None:
    assert {section["kind"] for section in SECTIONS} | {"muon"} == config.OPTIMIZERS.keys()


@pytest.mark.parametrize(
    "section", SECTIONS, ids=lambda s: "-".join(f"{v}" for v in s.values() if not isinstance(v, list))
)
def test_against_the_formula(section: dict[str, Any]) -> None:
    section = section | {"weight_decay": 0.3}
    generator = torch.Generator().manual_seed(4)
    shapes = [(5, 7), (13,), (), (2, 3, 5)]
    model = Holding(*shapes)
    parameters = list(model.parameters())
    starts = [p.detach().numpy().copy() for p in parameters]
    gradients = [[torch.randn(s, generator=generator) for s in shapes] for _ in range(STEPS)]
    optimizer = build(section, model)
    for grads, rate in zip(gradients, RATES, strict=True):
        for parameter, gradient in zip(parameters, grads, strict=True):
            parameter.grad = gradient.clone()
        optimizers.set_learning_rate(optimizer, rate)
        optimizer.step()
    for i, parameter in enumerate(parameters):
        expected = reference(section, starts[i], [grads[i].numpy() for grads in gradients])
        np.testing.assert_allclose(parameter.detach().numpy(), expected, **TOLERANCE)


def test_a_parameter_without_a_gradient_is_not_moved() -> None:
    model = Holding((3, 3), (3, 3))
    before = model.p1.tolist()
    for kind in config.OPTIMIZERS:
        optimizer = build({"kind": kind, "weight_decay": 0.5}, model)
        model.p0.grad, first = torch.ones(3, 3), model.p0.tolist()
        optimizer.step()
        assert model.p1.tolist() == before
        assert model.p0.tolist() != first
        found = {name.partition("/")[0] for name in optimizers.state_tensors(optimizer, optimizers.trained(model))}
        assert found == ({"p0", "p1"} if kind == "adagrad" else {"p0"})  # which makes all of its state at the start


def test_the_state_is_listed_by_parameter_and_restored_in_storage_of_its_own() -> None:
    model = Holding((3, 5), (3, 7))
    optimizer, named = build({"kind": "adamw"}, model), optimizers.trained(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    found = optimizers.state_tensors(optimizer, named)
    assert list(found) == [f"{name}/{key}" for name in ("p0", "p1") for key in ("exp_avg", "exp_avg_sq", "step")]
    fresh = build({"kind": "adamw"}, model)
    optimizers.restore_state(fresh, named, found)
    again = optimizers.state_tensors(fresh, named)
    assert list(again) == list(found)
    for name, tensor in again.items():
        assert torch.equal(tensor, found[name])
        assert tensor.data_ptr() != found[name].data_ptr()
        assert tensor.data_ptr() % 64 == 0


# --- weight decay ----------------------------------------------------------------------------------------------------


class OfEveryKind(nn.Module):
    """What a recipe's model may hold; `decayed` names what is a weight."""

    decayed = (
        "linear.weight", "convolution.weight", "embedding.weight", "positions.weight", "attention.in_proj_weight",
        "attention.out_proj.weight", "token",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 5)
        self.convolution = nn.Conv2d(3, 5, 3)
        self.embedding = nn.Embedding(7, 4)
        self.positions = LearnedPositions(7, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)
        self.layer_norm = nn.LayerNorm((2, 3, 5))  # of three dimensions
        self.batch_norm, self.group_norm, self.rms_norm = nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.RMSNorm((2, 3))
        self.scale = nn.Parameter(torch.ones(()))
        self.bias = nn.Parameter(torch.randn(2, 5))  # by head and distance
        self.frozen = nn.Parameter(torch.randn(2, 2), requires_grad=False)


@pytest.mark.parametrize("kind", config.OPTIMIZERS)
def test_weight_decay_leaves_out_norms_and_biases(kind: str) -> None:
    """At a gradient of zero only decay moves a parameter; Muon's part is of the same rule."""
    model = OfEveryKind()
    optimizer = build({"kind": kind, "weight_decay": 0.5, "lr": 0.25}, model, num_classes=5)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(decays) == len(names)
    assert {name for name in names if decays[id(dict(model.named_parameters())[name])]} == set(model.decayed)


# --- Muon ------------------------------------------------------------------------------------------------------------


class Language(nn.Module):
    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.positions = LearnedPositions(5, 6)
        self.hidden = nn.Linear(6, 8)
        self.back = nn.Linear(8, 6, bias=False)
        self.value = nn.Linear(6, 1)
        self.convolution = nn.Conv1d(6, 6, 3)
        self.output = nn.Linear(6, 11, bias=False)
        if tied:
            self.output.weight = self.embedding.weight


@pytest.mark.parametrize("tied", [False, True])
def test_muon_takes_the_matrices_of_hidden_layers_alone(tied: bool) -> None:
    model = Language(tied=tied)
    facts = {} if tied else {"vocabulary_size": 11}  # without them the embedding that is shared still tells
    optimizer = build({"kind": "muon"}, model, **facts)
    assert isinstance(optimizer, optimizers.Together)
    names = {id(p): name for name, p in model.named_parameters()}
    muon, adamw = ({names[id(p)] for g in part.param_groups for p in g["params"]} for part in optimizer.parts)
    assert muon == {"hidden.weight", "back.weight"}
    assert muon | adamw == set(names.values())


def test_muon_takes_hidden_matrices_that_are_as_wide_as_a_vocabulary() -> None:
    layers = nn.ModuleList(nn.ModuleDict({"expand": nn.Linear(6, 11), "contract": nn.Linear(11, 6)}) for _ in range(2))
    model = nn.ModuleDict({"layers": layers, "output": nn.Linear(6, 11)})
    found = optimizers.hidden_matrices(model, {"vocabulary_size": 11})
    names = {name for name, parameter in model.named_parameters() if id(parameter) in found}
    assert names == {f"layers.{place}.{name}.weight" for place in (0, 1) for name in ("expand", "contract")}


@pytest.mark.parametrize("shape", [(5, 7), (13, 3), (17, 17)])
def test_muons_update_is_orthogonal_and_of_the_size_of_adams(shape: tuple[int, int]) -> None:
    """Five steps of its iteration bring every singular value near one: the authors say 0.7 to 1.2, in bfloat16."""
    model = nn.Sequential(nn.Linear(shape[1], shape[0], bias=False))
    before = model[0].weight.detach().clone()
    optimizer = build({"kind": "muon", "weight_decay": 0.0}, model)
    model[0].weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    optimizers.set_learning_rate(optimizer, 0.5)
    optimizer.step()
    update = (before - model[0].weight.detach()) / (0.5 * 0.2 * math.sqrt(max(shape)))
    values = torch.linalg.svdvals(update.double())
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3
    u, _, v = torch.linalg.svd(model[0].weight.grad.double(), full_matrices=False)
    torch.testing.assert_close(
        u.T @ update.double() @ v.T, torch.diag(torch.diag(u.T @ update.double() @ v.T)), rtol=0, atol=0.05
    )


def test_muon_with_no_matrix_is_adamw() -> None:
    models = Holding((5,), (3, 5)), Holding((5,), (3, 5))
    found = []
    for model, kind in zip(models, ("muon", "adamw"), strict=True):
        optimizer = build({"kind": kind, "weight_decay": 0.1, "betas": [0.9, 0.95], "eps": 1e-8}, model)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        found.append([p.tolist() for p in model.parameters()])
    assert found[0] == found[1]
