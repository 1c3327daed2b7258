"""Stochastic depth as a module, which knows whether it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from glassrun.functional.stochastic_depth import stochastic_depth

if TYPE_CHECKING:
    from jaxtyping import Float


class StochasticDepth(nn.Module):
    """Leaves out a residual branch of each example at random in training; in evaluation it changes nothing.

    Arguments:
        rate: how often, from 0 to below 1; see `functional.stochastic_depth`.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """The branch as it is to be added to the shortcut."""
        return stochastic_depth(branch, self.rate if self.training else 0.0)

    def extra_repr(self) -> str:
        return f"{self.rate:g}"
