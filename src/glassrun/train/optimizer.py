"""The optimizers of `torch.optim` under the contract, and clipping by the global norm in a fixed order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from glassrun.config import AdamW, Recipe
from glassrun.errors import NotFinite
from glassrun.train.memory import owned


def build(recipe: Recipe, named_parameters: Sequence[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
    """The recipe's optimizer. Weight decay leaves out vectors and scalars: norms and biases."""
    section = recipe.optimizer
    parameters = [parameter for _, parameter in named_parameters]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": section.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if isinstance(section, AdamW):
        kind = torch.optim.AdamW if section.kind == "adamw" else torch.optim.Adam
        return kind(groups, lr=section.lr, betas=section.betas, eps=section.eps, fused=True)
    # Not fused: that fails for a parameter whose first gradient comes later than the others'.
    return torch.optim.SGD(
        groups, lr=section.lr, momentum=section.momentum, nesterov=section.nesterov, foreach=False, fused=False
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def global_norm(names: Sequence[str], gradients: Sequence[Tensor | None], step: int) -> float:
    """√(Σ ‖g‖²) over the gradients that are present: per tensor in its own precision, then exactly rounded.

    Raises:
        NotFinite: a gradient holds NaN or infinity; the message names its parameter.
    """
    present = [(name, gradient) for name, gradient in zip(names, gradients, strict=True) if gradient is not None]
    if not present:
        return 0.0
    norms = torch.stack([n.double() for n in torch._foreach_norm([g for _, g in present])]).tolist()
    if not all(math.isfinite(norm) for norm in norms):  # a finite gradient can have squares that overflow
        for name, gradient in present:
            if not bool(torch.isfinite(gradient).all()):
                raise NotFinite(f"step {step}: the gradient of {name} is not finite")
        norms = [float(torch.linalg.vector_norm(g, dtype=torch.float64)) for _, g in present]
    return math.sqrt(math.fsum(norm * norm for norm in norms))


def clip(gradients: Sequence[Tensor | None], norm: float, limit: float | None) -> None:
    """Scale all gradients by min(1, limit / norm) (Pascanu et al. 2013, algorithm 1)."""
    if limit is not None and norm > limit:
        torch._foreach_mul_([g for g in gradients if g is not None], limit / norm)


def state_tensors(
    optimizer: torch.optim.Optimizer, named_parameters: Sequence[tuple[str, nn.Parameter]]
) -> dict[str, Tensor]:
    """The optimizer's state as `parameter/key`: tensors, in the order of the parameters and then of the keys."""
    found: dict[str, Tensor] = {}
    for name, parameter in named_parameters:
        for key, value in sorted(optimizer.state.get(parameter, {}).items()):
            if isinstance(value, Tensor):
                found[f"{name}/{key}"] = value
    return found


def restore_state(
    optimizer: torch.optim.Optimizer,
    named_parameters: Sequence[tuple[str, nn.Parameter]],
    tensors: dict[str, Tensor],
) -> None:
    """Put saved state in place, each tensor in storage of its own."""
    by_name = dict(named_parameters)
    for full, tensor in tensors.items():
        name, _, key = full.rpartition("/")
        optimizer.state[by_name[name]][key] = owned(tensor)
