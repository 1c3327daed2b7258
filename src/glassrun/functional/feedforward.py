"""The position-wise feed-forward network: the same two layers at every token, each token alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def relu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """max(0, x)."""
    return F.relu(x)


def gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x · Φ(x), with Φ the normal distribution function, exactly (Hendrycks & Gimpel 2016)."""
    return F.gelu(x)


def gelu_tanh(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """½ x (1 + tanh(√(2/π) (x + 0.044715 x³))): near `gelu`, and in GPT-2 (Hendrycks & Gimpel 2016, section 2)."""
    return F.gelu(x, approximate="tanh")


def silu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x · σ(x), also called swish (Hendrycks & Gimpel 2016; Ramachandran et al. 2017)."""
    return F.silu(x)


def squared_relu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """max(0, x)² (So et al. 2021, section 4.2)."""
    return F.relu(x).square()


def feed_forward(
    x: Float[Tensor, "*batch d_model"],
    weight_in: Float[Tensor, "d_ff d_model"],
    bias_in: Float[Tensor, " d_ff"] | None,
    weight_out: Float[Tensor, "d_model d_ff"],
    bias_out: Float[Tensor, " d_model"] | None,
    activation: Callable[[Tensor], Tensor] = relu,
) -> Float[Tensor, "*batch d_model"]:
    """Widen each token to d_ff features, bend them, and come back to d_model.

        FFN(x) = f(x W₁ᵀ + b₁) W₂ᵀ + b₂

    Arguments:
        x: Float[batch…, d_model].
        weight_in, bias_in: W₁ Float[d_ff, d_model] and b₁ Float[d_ff], or no bias.
        weight_out, bias_out: W₂ Float[d_model, d_ff] and b₂ Float[d_model], or no bias.
        activation: f, `relu` in the paper.

    Source: Vaswani et al. 2017, equation 2.
    """
    return F.linear(activation(F.linear(x, weight_in, bias_in)), weight_out, bias_out)


def gated_feed_forward(
    x: Float[Tensor, "*batch d_model"],
    weight_gate: Float[Tensor, "d_ff d_model"],
    bias_gate: Float[Tensor, " d_ff"] | None,
    weight_in: Float[Tensor, "d_ff d_model"],
    bias_in: Float[Tensor, " d_ff"] | None,
    weight_out: Float[Tensor, "d_model d_ff"],
    bias_out: Float[Tensor, " d_model"] | None,
    activation: Callable[[Tensor], Tensor] = silu,
) -> Float[Tensor, "*batch d_model"]:
    """The same with a gate: each of the d_ff features is let through as far as a second product of the token says.

        FFN(x) = (f(x Gᵀ + g) ⊙ (x W₁ᵀ + b₁)) W₂ᵀ + b₂

    Arguments:
        x: Float[batch…, d_model].
        weight_gate, bias_gate: G Float[d_ff, d_model] and g Float[d_ff], or no bias.
        weight_in, bias_in, weight_out, bias_out: as for `feed_forward`.
        activation: f; `silu` makes it SwiGLU, `gelu` GEGLU.

    Source: Shazeer 2020, equation 6, there without biases.
    """
    gate = activation(F.linear(x, weight_gate, bias_gate))
    return F.linear(gate * F.linear(x, weight_in, bias_in), weight_out, bias_out)
