"""How far a step moves the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, isfinite, sqrt

import torch
from torch import Tensor


class UpdateNorm:
    """The Euclidean norm ‖θₜ − θₜ₋₁‖ over some tensors that something changes in place.

    The differences and their squares are taken in float64, tensor by tensor, and the tensors' sums added up exactly
    rounded: the order is fixed, and no worker but the one that asks has a part in it.

    >>> weights = [torch.tensor([1.0, 2.0]), torch.tensor([0.5])]
    >>> moved = UpdateNorm(weights)
    >>> moved.begin()
    >>> weights[0] += torch.tensor([3.0, 0.0])
    >>> weights[1] -= 4.0
    >>> moved.norm()
    5.0
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tensors
        self._before = [torch.empty_like(tensor, requires_grad=False) for tensor in tensors]

    @torch.no_grad()
    def begin(self) -> None:
        """Keep the tensors as they are."""
        for kept, tensor in zip(self._before, self.tensors, strict=True):
            kept.copy_(tensor)

    @torch.no_grad()
    def norm(self) -> float:
        """How far they are from what they were; infinite or NaN where a tensor is."""
        pairs = zip(self.tensors, self._before, strict=True)
        norms = [float(torch.linalg.vector_norm(tensor.double() - before.double())) for tensor, before in pairs]
        squares = [norm * norm for norm in norms]
        return sqrt(fsum(squares)) if all(map(isfinite, squares)) else sum(squares)
