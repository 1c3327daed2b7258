"""Normalisation of feature maps, whose channels come second: over the batch, over groups of channels, over channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def batch_normalisation(
    x: Float[Tensor, "batch channels *size"],
    weight: Float[Tensor, " channels"],
    bias: Float[Tensor, " channels"],
    eps: float = 1e-5,
) -> Float[Tensor, "batch channels *size"]:
    """Each channel to mean 0 and variance 1 over the batch and all places, then scaled and shifted.

        y = (x − E[x]) / √(Var[x] + eps) · weight + bias

    Here the batch is a *slice* of the global batch (a logical shard).

    Arguments:
        x: Float[batch, channels, size…], of any number of axes.
        weight, bias: Float[channels].
        eps: keeps a constant channel finite.

    Source: Ioffe & Szegedy 2015, algorithm 1.
    """
    over = (0, *range(2, x.ndim))
    mean = x.mean(over, keepdim=True)
    variance = x.var(over, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + eps) * _along_channels(weight, x) + _along_channels(bias, x)


def group_normalisation(
    x: Float[Tensor, "batch channels *size"],
    groups: int,
    weight: Float[Tensor, " channels"],
    bias: Float[Tensor, " channels"],
    eps: float = 1e-5,
) -> Float[Tensor, "batch channels *size"]:
    """Each group of neighbouring channels of each example to mean 0 and variance 1, then scaled and shifted.

        y = (x − E[x]) / √(Var[x] + eps) · weight + bias

    No example depends on another, so it is the same in training and evaluation, and for slices of any size. One group
    is layer norm over the whole example; as many groups as channels is instance norm.

    Arguments:
        x: Float[batch, channels, size…], of any number of axes.
        groups: into how many the channels are cut; it divides their number.
        weight, bias: Float[channels].
        eps: keeps a constant group finite.

    Source: Wu & He 2018, section 3.1.
    """
    parts = x.reshape(len(x), groups, -1)
    mean = parts.mean(-1, keepdim=True)
    variance = parts.var(-1, correction=0, keepdim=True)
    normalised = ((parts - mean) * torch.rsqrt(variance + eps)).view_as(x)
    return normalised * _along_channels(weight, x) + _along_channels(bias, x)


def channel_layer_normalisation(
    x: Float[Tensor, "batch channels *size"],
    weight: Float[Tensor, " channels"],
    bias: Float[Tensor, " channels"],
    eps: float = 1e-6,
) -> Float[Tensor, "batch channels *size"]:
    """The channels of each place to mean 0 and variance 1, then scaled and shifted.

        y = (x − E_c[x]) / √(Var_c[x] + eps) · weight + bias

    It is layer norm with each place as a token (Ba et al. 2016, equation 4).

    Source: Liu et al. 2022 (ConvNeXt), section 2.6.
    """
    return F.layer_norm(x.movedim(1, -1), weight.shape, weight, bias, eps).movedim(-1, 1)


def _along_channels(values: Tensor, x: Tensor) -> Tensor:
    """One value a channel, in a shape that broadcasts over x."""
    return values.view(-1, *(1 for _ in x.shape[2:]))
