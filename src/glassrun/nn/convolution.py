"""The building block of the CNN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float


class ConvolutionBlock(nn.Module):
    """Convolution → batch norm → ReLU, keeping height and width.

    Batch norm normalises over the slice of the batch that it is given (a logical shard), and keeps running averages for
    evaluation. The convolution has no bias: batch norm would take it out again.

    Arguments:
        in_channels, out_channels: feature maps before and after.
        kernel_size: odd.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = nn.ReLU()

    def forward(
        self, x: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch out_channels height width"]:
        """The block's feature maps."""
        maps: Tensor = self.activation(self.norm(self.convolution(x)))
        return maps
