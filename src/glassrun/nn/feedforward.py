"""The position-wise feed-forward network as a module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from glassrun.functional.feedforward import feed_forward, gelu, relu

if TYPE_CHECKING:
    from jaxtyping import Float

ACTIVATIONS = {"relu": relu, "gelu": gelu}


class FeedForward(nn.Module):
    """FFN(x) = f(x W₁ᵀ + b₁) W₂ᵀ + b₂ at every token alone; see `functional.feedforward.feed_forward`.

    Arguments:
        d_model: features of a token.
        d_ff: features in between.
        activation: f, relu or gelu.
        bias: whether b₁ and b₂ are there.
    """

    def __init__(
        self, d_model: int, d_ff: int, *, activation: Literal["relu", "gelu"] = "relu", bias: bool = True
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.expand = nn.Linear(d_model, d_ff, bias=bias)
        self.contract = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch length d_model"]:
        """Each token's new features."""
        return feed_forward(
            x, self.expand.weight, self.expand.bias, self.contract.weight, self.contract.bias, self.activation
        )
