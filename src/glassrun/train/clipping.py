"""Clipping of gradients by their global norm, in a fixed order, or by their values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from glassrun.errors import NotFinite


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


def clip_norm(gradients: Sequence[Tensor | None], norm: float, limit: float | None) -> None:
    """Scale all gradients by min(1, limit / norm) (Pascanu et al. 2013, algorithm 1)."""
    if limit is not None and norm > limit:
        torch._foreach_mul_([g for g in gradients if g is not None], limit / norm)


def clip_value(gradients: Sequence[Tensor | None], limit: float | None) -> None:
    """Bring every element into [−limit, limit]."""
    if limit is not None:
        for gradient in gradients:
            if gradient is not None:
                gradient.clamp_(-limit, limit)
