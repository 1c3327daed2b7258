"""What a convolutional network is made of: convolution, batch normalisation, pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def convolution(
    image: Float[Tensor, "batch in_channels height width"],
    kernel: Float[Tensor, "out_channels in_channels kernel_height kernel_width"],
    bias: Float[Tensor, " out_channels"] | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
) -> Float[Tensor, "batch out_channels out_height out_width"]:
    """Slide every kernel over the image: the same weights at every place, which is what makes it shift with its input.

        out[n, o, i, j] = b[o] + Σ_c Σ_u Σ_v kernel[o, c, u, v] · image[n, c, i·s + u − p, j·s + v − p]

    with s the stride and p the padding. Outside the image there are zeros. (Strictly a
    cross-correlation: the kernel is not flipped.)

    Source: LeCun et al. 1998, section II.A.
    """
    return F.conv2d(image, kernel, bias, stride, padding)


def output_size(size: int, kernel_size: int, *, stride: int = 1, padding: int = 0) -> int:
    """How long an axis is after a convolution or a pooling: ⌊(size + 2·padding − kernel_size) / stride⌋ + 1.

    >>> output_size(28, 3, padding=1), output_size(28, 2, stride=2)
    (28, 14)

    Source: Dumoulin & Visin 2016, relationship 6.
    """
    return (size + 2 * padding - kernel_size) // stride + 1


def batch_normalisation(
    x: Float[Tensor, "batch channels height width"],
    weight: Float[Tensor, " channels"],
    bias: Float[Tensor, " channels"],
    eps: float = 1e-5,
) -> Float[Tensor, "batch channels height width"]:
    """Each channel to mean 0 and variance 1 over the batch and all places, then scaled and shifted.

        y = (x − E[x]) / √(Var[x] + eps) · weight + bias

    Here the batch is a *slice* of the global batch (a logical shard).

    Source: Ioffe & Szegedy 2015, algorithm 1.
    """
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = x.var((0, 2, 3), correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + eps) * weight[:, None, None] + bias[:, None, None]


def max_pooling(
    x: Float[Tensor, "batch channels height width"], size: int
) -> Float[Tensor, "batch channels out_height out_width"]:
    """The largest value of every size × size window, without overlap; what does not fill a window is left out."""
    return F.max_pool2d(x, size)


def average_pooling(
    x: Float[Tensor, "batch channels height width"], size: int
) -> Float[Tensor, "batch channels out_height out_width"]:
    """The mean of every size × size window, without overlap; what does not fill a window is left out."""
    return F.avg_pool2d(x, size)
