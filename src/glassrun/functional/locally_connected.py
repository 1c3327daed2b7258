"""A convolution without shared parameters, to compare with: every place has kernels of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def locally_connected(
    x: Float[Tensor, "batch in_channels *size"],
    kernel: Float[Tensor, "places out_channels in_channels *kernel_size"],
    bias: Float[Tensor, "places out_channels"] | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
) -> Float[Tensor, "batch out_channels *out_size"]:
    """Every place of the output looks at its window of the input with its own kernels.

        out[n, o, i] = b[i, o] + Σ_c Σ_u kernel[i, o, c, u] · x[n, c, i·s + u − p]

    With the same kernels at every place it is `convolution`, which then needs that many times fewer parameters.

    Arguments:
        x: Float[batch, in_channels, size…], of any number of axes.
        kernel: Float[places, out_channels, in_channels, kernel_size…]; the output's places in row-major order.
        bias: Float[places, out_channels], or none.
        stride, padding: as for `convolution`, the same for all axes.

    Raises:
        ValueError: there are not as many kernels as places.

    Source: LeCun 1989 (Generalization and network design strategies), section 4; named so in Taigman et al. 2014.
    """
    windows = _windows(x, kernel.shape[3:], stride, padding)
    out_size = windows.shape[: x.ndim - 2]
    if out_size.numel() != len(kernel):
        raise ValueError(
            f"expected kernels for {out_size.numel()} places, which the output of size {tuple(out_size)} has, "
            f"found {len(kernel)}"
        )
    # One product a place: [places, batch, window] · [places, window, out_channels].
    rows = windows.reshape(len(kernel), len(x), -1)
    matrices = kernel.flatten(2).transpose(1, 2)
    out = torch.bmm(rows, matrices) if bias is None else torch.baddbmm(bias[:, None], rows, matrices)
    return out.permute(1, 2, 0).reshape(len(x), -1, *out_size)


def _windows(x: Tensor, kernel_size: Sequence[int], stride: int, padding: int) -> Tensor:
    """Every window of x: Float[out_size…, batch, in_channels, kernel_size…]."""
    axes = len(kernel_size)
    if padding:
        x = F.pad(x, (padding,) * (2 * axes))
    for axis, size in enumerate(kernel_size):
        x = x.unfold(2 + axis, size, stride)
    return x.permute(*range(2, 2 + axes), 0, 1, *range(2 + axes, 2 + 2 * axes))
