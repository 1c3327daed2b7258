"""The block of ConvNeXt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from glassrun.nn.feedforward import FeedForward
from glassrun.nn.stochastic_depth import StochasticDepth

if TYPE_CHECKING:
    from jaxtyping import Float

_KERNEL_SIZE = 7
_EPS = 1e-6


class ConvNeXtBlock(nn.Module):
    """y = x + scale · FFN(norm(depthwise convolution(x))).

    The convolution mixes places, each map alone; norm and feed-forward network mix the maps, each place alone, as a
    Transformer does with its tokens.

    Arguments:
        channels: feature maps.
        layer_scale: what the learned factor of each map starts from; none for no such factors.
        stochastic_depth: how often the branch of an example is left out in training.

    Source: Liu et al. 2022, figure 4 and section 2.6; layer scale: Touvron et al. 2021 (CaiT), equation 3.
    """

    def __init__(self, channels: int, *, layer_scale: float | None = 1e-6, stochastic_depth: float = 0.0) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, _KERNEL_SIZE, padding=_KERNEL_SIZE // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=_EPS)
        self.feed_forward = FeedForward(channels, 4 * channels, activation="gelu")
        self.scale = None if layer_scale is None else nn.Parameter(torch.full((channels,), layer_scale))
        self.stochastic_depth = StochasticDepth(stochastic_depth) if stochastic_depth else nn.Identity()

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        """The block's feature maps."""
        tokens = self.depthwise(x).flatten(2).transpose(1, 2)
        tokens = self.feed_forward(self.norm(tokens))
        if self.scale is not None:
            tokens = tokens * self.scale
        branch = tokens.transpose(1, 2).view_as(x)
        y: Tensor = x + self.stochastic_depth(branch)
        return y
