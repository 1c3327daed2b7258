"""Normalisation of feature maps as a module. (Batch and group norm are torch's own; see `nn.convolution`.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from glassrun.functional.feature_maps import channel_layer_normalisation

if TYPE_CHECKING:
    from jaxtyping import Float


class ChannelLayerNorm(nn.Module):
    """Layer norm over the channels of each place; see `functional.feature_maps.channel_layer_normalisation`.

    Arguments:
        channels: how many maps.
        eps: keeps a place whose channels are all alike finite.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "batch channels *size"]) -> Float[Tensor, "batch channels *size"]:
        """The normalised maps."""
        return channel_layer_normalisation(x, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{len(self.weight)} features"
