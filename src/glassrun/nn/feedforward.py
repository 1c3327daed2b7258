"""The position-wise feed-forward networks as modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from torch import Tensor, nn

from glassrun.errors import ModelError, nearest
from glassrun.functional.feedforward import (
    feed_forward,
    gated_feed_forward,
    gelu,
    gelu_tanh,
    relu,
    silu,
    squared_relu,
)

if TYPE_CHECKING:
    from jaxtyping import Float

Plain = Literal["relu", "gelu", "gelu-tanh", "silu", "relu2"]
Gated = Literal["swiglu", "geglu", "geglu-tanh"]
Activation = Plain | Gated

ACTIVATIONS = {
    "relu": relu,
    "gelu": gelu,
    "gelu-tanh": gelu_tanh,
    "silu": silu,
    "relu2": squared_relu,
    "swiglu": silu,
    "geglu": gelu,
    "geglu-tanh": gelu_tanh,
}


class FeedForward(nn.Module):
    """FFN(x) = f(x W₁ᵀ + b₁) W₂ᵀ + b₂ at every token alone; see `functional.feedforward.feed_forward`.

    Arguments:
        d_model: features of a token.
        d_ff: features in between.
        activation: f.
        bias: whether b₁ and b₂ are there.
    """

    def __init__(self, d_model: int, d_ff: int, *, activation: Plain = "relu", bias: bool = True) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.expand = nn.Linear(d_model, d_ff, bias=bias)
        self.contract = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch length d_model"]:
        """Each token's new features."""
        return feed_forward(
            x, self.expand.weight, self.expand.bias, self.contract.weight, self.contract.bias, self.activation
        )


class GatedFeedForward(nn.Module):
    """FFN(x) = (f(x Gᵀ) ⊙ (x W₁ᵀ)) W₂ᵀ at every token alone; see `functional.feedforward.gated_feed_forward`.

    Arguments:
        d_model: features of a token.
        d_ff: features in between.
        activation: f of the gate: swiglu for SiLU, geglu for GELU.
        bias: whether each product has one.
    """

    def __init__(self, d_model: int, d_ff: int, *, activation: Gated = "swiglu", bias: bool = True) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.gate = nn.Linear(d_model, d_ff, bias=bias)
        self.expand = nn.Linear(d_model, d_ff, bias=bias)
        self.contract = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch length d_model"]:
        """Each token's new features."""
        return gated_feed_forward(
            x,
            self.gate.weight,
            self.gate.bias,
            self.expand.weight,
            self.expand.bias,
            self.contract.weight,
            self.contract.bias,
            self.activation,
        )


def make_feed_forward(d_model: int, d_ff: int, *, activation: Activation, bias: bool) -> FeedForward | GatedFeedForward:
    """The network that an activation's name asks for: with a gate or without."""
    if activation not in ACTIVATIONS:
        raise ModelError(f"activation is {activation!r}; {nearest(str(activation), ACTIVATIONS)}")
    if activation in get_args(Gated):
        return GatedFeedForward(d_model, d_ff, activation=activation, bias=bias)  # type: ignore[arg-type]
    return FeedForward(d_model, d_ff, activation=activation, bias=bias)  # type: ignore[arg-type]
