"""Windows that slide over a sequence, an image or a volume: convolution and pooling, the same in 1, 2 and 3 dimensions.

The dimension is told by the input: batch, channels, and then 1 to 3 axes. Strides, paddings, dilations and window sizes
are one number for all axes or one for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_MAX_POOLINGS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOLINGS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def convolution(
    x: Float[Tensor, "batch in_channels *size"],
    kernel: Float[Tensor, "out_channels in_channels//{groups} *kernel_size"],
    bias: Float[Tensor, " out_channels"] | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Float[Tensor, "batch out_channels *out_size"]:
    """Slide every kernel over the input: the same weights at every place, which is what makes it shift with its input.

        out[n, o, i] = b[o] + Σ_c Σ_u kernel[o, c, u] · x[n, c, i·s + u·d − p]

    with a place i and an offset u of as many axes as the input has, s the stride, d the dilation and p the padding.
    Outside the input there are zeros. (Strictly a cross-correlation: the kernel is not flipped.)

    Arguments:
        x: Float[batch, in_channels, size…], of 1 to 3 axes.
        kernel: Float[out_channels, in_channels / groups, kernel_size…].
        bias: Float[out_channels], or none.
        stride, padding, dilation: see the formula.
        groups: both kinds of channels are cut into so many parts, and each part of the output reads its own part of the
            input alone; with as many groups as channels it is depthwise.

    Raises:
        ValueError: the input has not 1 to 3 axes behind batch and channels.

    Source: LeCun et al. 1998, section II.A; groups: Krizhevsky et al. 2012, section 3.5; dilation: Yu & Koltun 2016,
    equation 2.
    """
    return _for(x, _CONVOLUTIONS)(x, kernel, bias, stride, padding, dilation, groups)


def output_size(size: int, kernel_size: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """How long an axis is after a convolution or a pooling.

        ⌊(size + 2·padding − dilation·(kernel_size − 1) − 1) / stride⌋ + 1

    >>> output_size(28, 3, padding=1), output_size(28, 2, stride=2), output_size(28, 3, dilation=2)
    (28, 14, 24)

    Source: Dumoulin & Visin 2016, relationships 6 and 15.
    """
    return (size + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1


def max_pooling(
    x: Float[Tensor, "batch channels *size"],
    size: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
) -> Float[Tensor, "batch channels *out_size"]:
    """The largest value of every window; what does not fill a window is left out.

        out[n, c, i] = max_u x[n, c, i·s + u − p]

    Arguments:
        x: Float[batch, channels, size…], of 1 to 3 axes.
        size: of the window.
        stride: the window's size if none is given: windows do not overlap.
        padding: at most half the window; it never wins.

    Raises:
        ValueError: the input has not 1 to 3 axes behind batch and channels.
    """
    return _for(x, _MAX_POOLINGS)(x, size, stride, padding)


def average_pooling(
    x: Float[Tensor, "batch channels *size"],
    size: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
) -> Float[Tensor, "batch channels *out_size"]:
    """The mean of every window; what does not fill a window is left out.

        out[n, c, i] = Σ_u x[n, c, i·s + u − p] / |window|

    Arguments:
        x: Float[batch, channels, size…], of 1 to 3 axes.
        size: of the window.
        stride: the window's size if none is given: windows do not overlap.
        padding: zeros, at most half the window, which count in the mean.

    Raises:
        ValueError: the input has not 1 to 3 axes behind batch and channels.
    """
    return _for(x, _AVERAGE_POOLINGS)(x, size, stride, padding)


def global_average_pooling(x: Float[Tensor, "batch channels *size"]) -> Float[Tensor, "batch channels"]:
    """The mean of every map, whatever its size (Lin et al. 2014, section 3.2)."""
    return x.flatten(2).mean(-1)


def _for(x: Tensor, functions: Mapping[int, Callable[..., Tensor]]) -> Callable[..., Tensor]:
    """The function for as many axes as the input has."""
    if x.ndim - 2 not in functions:
        raise ValueError(f"expected batch, channels and 1 to 3 axes, found the shape {tuple(x.shape)}")
    return functions[x.ndim - 2]
