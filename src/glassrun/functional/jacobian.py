"""Which token's output depends on which token's input."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_AT_ONCE = 256  # outputs in one backward pass: more take memory and little less time


def token_jacobian(
    call: Callable[[Tensor], Tensor], x: Float[Tensor, "length d_model"]
) -> Float[Tensor, "length d_out length d_model"]:
    """∂ call(x)[token, feature] / ∂ x[token, feature], for every pair of tokens and features.

    Its blocks [i, :, j, :] are zero for i ≠ j where each token is treated on its own (a feed-forward network, a norm),
    and for j > i where attention is causal.

    Each output has a copy of the input of its own, so that one backward pass serves many outputs, whatever kernels the
    call is made of.

    Arguments:
        call: from Float[batch, length, d_model] to Float[batch, length, d_out], as a layer is called; it treats each
            item of a batch alone and draws nothing at random.
        x: Float[length, d_model].

    Returns:
        Float[length, d_out, length, d_model]; its square sum over the features tells how much token i takes from j.
    """
    with torch.no_grad():
        shape = call(x[None])[0].shape
    every = torch.arange(shape.numel(), device=x.device)
    rows = [_rows(call, x, every[start : start + _AT_ONCE]) for start in range(0, len(every), _AT_ONCE)]
    return torch.cat(rows).view(*shape, *x.shape)


def _rows(
    call: Callable[[Tensor], Tensor], x: Float[Tensor, "length d_model"], chosen: Int[Tensor, " outputs"]
) -> Float[Tensor, "outputs length d_model"]:
    """The gradients of some outputs, numbered as in the flat output."""
    with torch.enable_grad():
        copies = x.detach().repeat(len(chosen), 1, 1).requires_grad_()
        own = call(copies).flatten(1).gather(1, chosen[:, None])
        return torch.autograd.grad(own.sum(), copies, materialize_grads=True)[0]
