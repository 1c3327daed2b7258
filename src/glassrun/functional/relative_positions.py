"""Positions as a bias on the scores of attention: what a query adds for a key depends on how far away it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int


def relative_positions(queries: int, keys: int, *, device: torch.device | None = None) -> Int[Tensor, "query key"]:
    """How far each key stands behind each query; negative before it. The last query stands at the last key.

    >>> relative_positions(2, 3).tolist()
    [[-1, 0, 1], [-2, -1, 0]]
    >>> relative_positions(3, 2).tolist()
    [[1, 2], [0, 1], [-1, 0]]
    """
    return torch.arange(keys, device=device)[None, :] - torch.arange(keys - queries, keys, device=device)[:, None]


def alibi_slopes(num_heads: int) -> Float[Tensor, " heads"]:
    """How fast each head forgets: 2^(−8 · 1 / n), 2^(−8 · 2 / n), …, 2^−8 for n heads.

    For a number that is no power of two: those of the power below it, then every other one of the power above it.

    >>> alibi_slopes(3).tolist()
    [0.0625, 0.00390625, 0.25]

    Source: Press et al. 2022, section 3, and for other numbers their code.
    """
    below = 2 ** (num_heads.bit_length() - 1)
    first = 2.0 ** (-8.0 * torch.arange(1, below + 1, dtype=torch.float64) / below)
    more = 2.0 ** (-4.0 * torch.arange(1, 2 * below, 2, dtype=torch.float64) / below)
    return torch.cat([first, more])[:num_heads].to(torch.float32)


def alibi_bias(slopes: Float[Tensor, " heads"], queries: int, keys: int) -> Float[Tensor, "heads query key"]:
    """−slope · |distance|: the farther away a key, the less of it.

    >>> alibi_bias(torch.tensor([0.5]), 2, 2).tolist()
    [[[0.0, -0.5], [-0.5, 0.0]]]

    Source: Press et al. 2022, section 3. Theirs is causal; as it is written here it serves both directions.
    """
    return slopes[:, None, None] * -relative_positions(queries, keys, device=slopes.device).abs()


def t5_buckets(
    distance: Int[Tensor, "query key"], *, bidirectional: bool, num_buckets: int = 32, max_distance: int = 128
) -> Int[Tensor, "query key"]:
    """The number of the bucket of each distance: near ones have their own, far ones share, on a logarithmic scale.

    Arguments:
        distance: as of `relative_positions`.
        bidirectional: half of the buckets are for keys behind the query. Else those share the bucket of distance 0.
        num_buckets: how many there are.
        max_distance: all that is as far or farther shares one.

    >>> t5_buckets(torch.tensor([[-1000, -9, -1, 0, 1]]), bidirectional=False).tolist()
    [[31, 9, 1, 0, 0]]

    Source: Raffel et al. 2020, section 2.1, and their code.
    """
    behind = torch.zeros_like(distance)
    if bidirectional:
        num_buckets //= 2
        behind = (distance > 0) * num_buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = num_buckets // 2
    # In float32 as in their code: weights learned with it know these buckets.
    share = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + share * (num_buckets - exact)).long().clamp(max=num_buckets - 1)
    return behind + torch.where(distance < exact, distance, far)


def t5_bias(
    weight: Float[Tensor, "buckets heads"], queries: int, keys: int, *, bidirectional: bool, max_distance: int = 128
) -> Float[Tensor, "heads query key"]:
    """A learned number for each head and bucket of distances.

    Arguments:
        weight: Float[buckets, heads].
        queries, keys, bidirectional, max_distance: as for `t5_buckets`.

    Source: Raffel et al. 2020, section 2.1.
    """
    distance = relative_positions(queries, keys, device=weight.device)
    buckets = t5_buckets(distance, bidirectional=bidirectional, num_buckets=len(weight), max_distance=max_distance)
    return F.embedding(buckets, weight).permute(2, 0, 1)


def relative_bias(
    query: Float[Tensor, "*batch query d_k"], weight: Float[Tensor, "distances d_k"], keys: int
) -> Float[Tensor, "*batch query key"]:
    """What each query says of each distance: q · a / √d_k with a learned vector a for each distance.

    Arguments:
        query: Float[batch…, query, d_k].
        weight: a for the distances −k to k, so 2k + 1 rows; what is farther away counts as k away.
        keys: how many there are.

    Source: Shaw et al. 2018, equation 4, by section 3.3 without a tensor for every pair. We have the vectors of the
    keys alone: those of the values (equation 3) changed nothing (their table 3).
    """
    reach = len(weight) // 2
    distance = relative_positions(query.shape[-2], keys, device=query.device).clamp(-reach, reach) + reach
    scores = query @ weight.T / math.sqrt(query.shape[-1])
    return scores.gather(-1, distance.expand(*scores.shape[:-1], -1))
