"""Residual blocks: a branch of convolutions beside a shortcut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from glassrun.nn.convolution import ConvolutionBlock
from glassrun.nn.stochastic_depth import StochasticDepth

if TYPE_CHECKING:
    from jaxtyping import Float

BOTTLENECK_EXPANSION = 4  # times as many maps leave a bottleneck as are inside


class ResidualBlock(nn.Module):
    """y = relu(shortcut(x) + branch(x)).

    Arguments:
        branch: what is learned on top of the shortcut; its last layer has no activation.
        shortcut: the identity, or what brings x to the branch's shape.
        stochastic_depth: how often the branch of an example is left out in training.

    Source: He et al. 2016 (Deep residual learning), equations 1 and 2.
    """

    def __init__(self, branch: nn.Module, shortcut: nn.Module, *, stochastic_depth: float = 0.0) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.stochastic_depth = StochasticDepth(stochastic_depth) if stochastic_depth else nn.Identity()
        self.activation = nn.ReLU()

    def forward(self, x: Float[Tensor, "batch in_channels *size"]) -> Float[Tensor, "batch out_channels *out_size"]:
        """The block's feature maps."""
        maps: Tensor = self.activation(self.shortcut(x) + self.stochastic_depth(self.branch(x)))
        return maps


class PaddingShortcut(nn.Module):
    """Every stride-th place, and maps of zeros behind those that are there: a shortcut without parameters (option A).

    Arguments:
        in_channels, out_channels: maps before and after; not fewer.
        stride: of both axes.

    Source: He et al. 2016, section 3.3.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.added = out_channels - in_channels
        self.stride = stride

    def forward(
        self, x: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        """The shortcut's maps."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))

    def extra_repr(self) -> str:
        return f"{self.added} maps of zeros, stride {self.stride}"


def basic_branch(in_channels: int, channels: int, *, stride: int, norm_groups: int | None) -> nn.Sequential:
    """Two convolutions of 3 × 3 (He et al. 2016, figure 5, left).

    Arguments:
        in_channels, channels: maps before, and inside and after.
        stride: of the first convolution.
        norm_groups: of group norm; none for batch norm.
    """
    return nn.Sequential(
        ConvolutionBlock(in_channels, channels, 3, stride=stride, norm_groups=norm_groups),
        ConvolutionBlock(channels, channels, 3, activation=False, norm_groups=norm_groups),
    )


def bottleneck_branch(in_channels: int, channels: int, *, stride: int, norm_groups: int | None) -> nn.Sequential:
    """Convolutions of 1 × 1, 3 × 3 and 1 × 1, the middle one on fewer maps (He et al. 2016, figure 5, right).

    The stride is in the 3 × 3, not in the first 1 × 1 as in the paper: that one would skip three of four places. So do
    torchvision ("v1.5") and Hugging Face.

    Arguments:
        in_channels, channels: maps before and inside; four times `channels` after.
        stride: of the middle convolution.
        norm_groups: of group norm; none for batch norm.
    """
    return nn.Sequential(
        ConvolutionBlock(in_channels, channels, 1, norm_groups=norm_groups),
        ConvolutionBlock(channels, channels, 3, stride=stride, norm_groups=norm_groups),
        ConvolutionBlock(channels, BOTTLENECK_EXPANSION * channels, 1, activation=False, norm_groups=norm_groups),
    )


def projection_shortcut(in_channels: int, out_channels: int, *, stride: int, norm_groups: int | None) -> nn.Module:
    """A convolution of 1 × 1 where the shape changes, else the identity (option B; He et al. 2016, section 3.3)."""
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    return ConvolutionBlock(in_channels, out_channels, 1, stride=stride, activation=False, norm_groups=norm_groups)


def padding_shortcut(in_channels: int, out_channels: int, *, stride: int, norm_groups: int | None) -> nn.Module:  # noqa: ARG001 - a shortcut's form
    """Zeros for the maps that are missing where the shape changes, else the identity (option A)."""
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    return PaddingShortcut(in_channels, out_channels, stride)
