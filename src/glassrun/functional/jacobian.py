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
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        output = call(x[None])[0]
        # One after the other: the kernels of attention have no backward pass for many at once.
        rows = [
            torch.autograd.grad(value, x, retain_graph=True, materialize_grads=True)[0] for value in output.flatten()
        ]
    return torch.stack(rows).view(*output.shape, *x.shape)
