"""Which token's output depends on which token's input."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def token_jacobian(
    call: Callable[[Tensor], Tensor], x: Float[Tensor, "length d_model"]
) -> Float[Tensor, "length d_out length d_model"]:
    """∂ call(x)[token, feature] / ∂ x[token, feature], for every pair of tokens and features.

    Its blocks [i, :, j, :] are zero for i ≠ j where each token is treated on its own (a feed-forward network, a norm),
    and for j > i where attention is causal.

    Arguments:
        call: from Float[1, length, d_model] to Float[1, length, d_out], as a layer is called.
        x: Float[length, d_model].

    Returns:
        Float[length, d_out, length, d_model]; its square sum over the features tells how much token i takes from j.
    """
    found: Tensor = torch.func.jacrev(lambda tokens: call(tokens[None])[0])(x)
    return found
