"""A locally connected layer: a convolution with parameter sharing off."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from glassrun.functional.convolution import output_size
from glassrun.functional.locally_connected import locally_connected

if TYPE_CHECKING:
    from jaxtyping import Float


class LocallyConnected(nn.Module):
    """Every place has kernels of its own; see `functional.locally_connected`.

    Arguments:
        in_channels, out_channels: feature maps before and after.
        size: of the input, one number an axis; it fixes how many kernels there are.
        kernel_size, stride, padding: the same for all axes.
        bias: whether each place and map has one.

    Raises:
        ValueError: the input is smaller than the kernel.

    The parameters start as torch's convolution does: uniform in ±1/√fan_in.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: Sequence[int],
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.padding = padding
        out = [output_size(side, kernel_size, stride=stride, padding=padding) for side in size]
        if min(out) < 1:
            raise ValueError(f"expected an input of at least the kernel's size {kernel_size}, found {tuple(size)}")
        places = prod(out)
        self.weight = nn.Parameter(torch.empty(places, out_channels, in_channels, *(kernel_size for _ in size)))
        self.bias = nn.Parameter(torch.empty(places, out_channels)) if bias else None
        bound = self.weight[0, 0].numel() ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Float[Tensor, "batch in_channels *size"]) -> Float[Tensor, "batch out_channels *out_size"]:
        """The layer's feature maps."""
        return locally_connected(x, self.weight, self.bias, stride=self.stride, padding=self.padding)

    def extra_repr(self) -> str:
        places, out_channels, in_channels, *kernel_size = self.weight.shape
        return (
            f"{in_channels} → {out_channels} at {places} places, kernel_size={tuple(kernel_size)}, "
            f"stride={self.stride}, padding={self.padding}"
        )
