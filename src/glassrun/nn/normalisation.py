"""The norms of Transformers as modules, over each token's features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn

from glassrun.errors import ModelError, nearest
from glassrun.functional.normalisation import layer_norm, rms_norm

if TYPE_CHECKING:
    from jaxtyping import Float

Normalisation = Literal["layer", "rms"]


class LayerNorm(nn.Module):
    """(x − mean) / √(var + ε) · weight + bias; see `functional.normalisation.layer_norm`.

    Arguments:
        features: of a token.
        eps: ε.
        bias: whether there is one.
    """

    def __init__(self, features: int, *, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        self.features = features
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features)) if bias else None

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        """Each token normalised."""
        return layer_norm(x, self.weight, self.bias, eps=self.eps)


class RMSNorm(nn.Module):
    """x / √(mean(x²) + ε) · weight; see `functional.normalisation.rms_norm`.

    Arguments:
        features: of a token.
        eps: ε.
    """

    def __init__(self, features: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.features = features
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        """Each token normalised."""
        return rms_norm(x, self.weight, eps=self.eps)


def make_norm(kind: Normalisation, features: int, *, eps: float = 1e-5, bias: bool = True) -> LayerNorm | RMSNorm:
    """A layer norm, with or without bias, or an RMS norm, which has none."""
    if kind not in get_args(Normalisation):
        raise ModelError(f"normalisation is {kind!r}; {nearest(str(kind), get_args(Normalisation))}")
    return LayerNorm(features, eps=eps, bias=bias) if kind == "layer" else RMSNorm(features, eps=eps)
