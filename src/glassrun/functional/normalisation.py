"""Normalisation of each token's features, on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def layer_norm(
    x: Float[Tensor, "*batch features"],
    weight: Float[Tensor, " features"],
    bias: Float[Tensor, " features"] | None = None,
    *,
    eps: float = 1e-5,
) -> Float[Tensor, "*batch features"]:
    """Mean taken off, divided by the deviation, then scaled and shifted.

        (x − mean(x)) / √(var(x) + ε) · weight + bias,   var without Bessel's correction

    Arguments:
        x: Float[batch…, features].
        weight, bias: Float[features]; bias may be left out.
        eps: ε.

    Source: Ba et al. 2016, equation 4.
    """
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def rms_norm(
    x: Float[Tensor, "*batch features"], weight: Float[Tensor, " features"], *, eps: float = 1e-5
) -> Float[Tensor, "*batch features"]:
    """Divided by the root of the mean square, then scaled: a layer norm that leaves the mean.

        x / √(mean(x²) + ε) · weight

    Arguments:
        x: Float[batch…, features].
        weight: Float[features].
        eps: ε.

    Source: Zhang & Sennrich 2019, equation 4. We differ: they have no ε.
    """
    return F.rms_norm(x, x.shape[-1:], weight, eps)
