"""The building block of convolutional networks, and the pooling at their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from glassrun.functional.convolution import global_average_pooling

if TYPE_CHECKING:
    from jaxtyping import Float

MemoryFormat = Literal["contiguous", "channels_last"]
# torch's own layers hold the weights; in training they compute `functional.convolution` and `batch_normalisation`.
_CONVOLUTIONS: dict[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_BATCH_NORMS: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class ConvolutionBlock(nn.Module):
    """Convolution → norm → ReLU, keeping the size of the maps, or dividing it by the stride.

    Batch norm normalises over the slice of the batch that it is given (a logical shard), and keeps running averages for
    evaluation; group norm normalises within each example. The convolution has no bias: the norm would take it out again
    (group norm up to what differs between the channels of a group, and it has a bias of its own).

    Arguments:
        in_channels, out_channels: feature maps before and after.
        kernel_size: odd; zeros around the maps make up for it.
        stride, dilation, groups: of the convolution; see `functional.convolution`.
        norm_groups: of group norm; none for batch norm.
        activation: whether the ReLU is there.
        dimensions: 1 for sequences, 2 for images, 3 for volumes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm_groups: int | None = None,
        activation: bool = True,
        dimensions: Literal[1, 2, 3] = 2,
    ) -> None:
        super().__init__()
        self.convolution = _CONVOLUTIONS[dimensions](
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            groups=groups,
            bias=False,
        )
        batch_norm = _BATCH_NORMS[dimensions]
        self.norm = batch_norm(out_channels) if norm_groups is None else nn.GroupNorm(norm_groups, out_channels)
        self.activation = nn.ReLU() if activation else nn.Identity()

    def forward(self, x: Float[Tensor, "batch in_channels *size"]) -> Float[Tensor, "batch out_channels *out_size"]:
        """The block's feature maps."""
        maps: Tensor = self.activation(self.norm(self.convolution(x)))
        return maps


def in_memory(
    image: Float[Tensor, "batch channels height width"], memory_format: MemoryFormat
) -> Float[Tensor, "batch channels height width"]:
    """The same image, laid out in memory as a network's convolutions are to compute.

    They keep the order that they find. With `channels_last` the channels of one place lie beside one another, as the
    kernels for processors and tensor cores read them, so that nothing is reordered before and after. The sums are
    taken in another order then, so the bits are others.

    Source: "Channels Last Memory Format in PyTorch" (PyTorch tutorials).
    """
    return image.clone(memory_format=torch.channels_last) if memory_format == "channels_last" else image


class GlobalAveragePooling(nn.Module):
    """The mean of every map; see `functional.convolution.global_average_pooling`."""

    def forward(self, x: Float[Tensor, "batch channels *size"]) -> Float[Tensor, "batch channels"]:
        """One number a map."""
        return global_average_pooling(x)
