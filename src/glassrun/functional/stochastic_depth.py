"""Stochastic depth: whole residual branches left out at random in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def stochastic_depth(branch: Float[Tensor, "batch *shape"], rate: float) -> Float[Tensor, "batch *shape"]:
    """Each example's branch is zero with probability `rate`, else divided by 1 − rate, so that its mean stays.

        y[n] = b[n] / (1 − rate) · x[n],  b[n] ~ Bernoulli(1 − rate)

    The draws come from torch's default generator, as those of dropout, which a run sets from (seed, step, shard).

    Arguments:
        branch: Float[batch, …], what is to be added to the shortcut.
        rate: from 0 to below 1.

    Source: Huang et al. 2016, equation 2. There the branch is one for the whole batch, and evaluation multiplies by
    1 − rate (equation 5); as in later networks it is drawn for each example and training divides instead.
    """
    if rate == 0.0:
        return branch
    kept = branch.new_empty((len(branch), *(1 for _ in branch.shape[1:]))).bernoulli_(1.0 - rate)
    return branch * (kept / (1.0 - rate))


def linear_rates(rate: float, blocks: int) -> list[float]:
    """The rate of each block: from 0 for the first on a straight line to `rate` for the last.

    >>> linear_rates(0.5, 3)
    [0.0, 0.25, 0.5]

    Source: Huang et al. 2016, equation 4, which starts one block's step above 0; as ConvNeXt, we start at 0.
    """
    return [rate * block / max(blocks - 1, 1) for block in range(blocks)]
