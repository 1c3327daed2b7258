"""Normalisation of feature maps, whose channels come second: over the batch, over groups of channels, over channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    return F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)


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
    return F.group_norm(x, groups, weight, bias, eps)


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
