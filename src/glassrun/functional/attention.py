"""Scaled dot-product attention (Vaswani et al. 2017, section 3.2) and its masks.

Masks are boolean and say where a query *may* look: True = may attend.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


@overload
def attention(
    query: Float[Tensor, "*batch query d_k"],
    key: Float[Tensor, "*batch key d_k"],
    value: Float[Tensor, "*batch key d_v"],
    *,
    mask: Bool[Tensor, "*#batch #query key"] | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    weights: Literal[False] = False,
) -> Float[Tensor, "*batch query d_v"]: ...
@overload
def attention(
    query: Float[Tensor, "*batch query d_k"],
    key: Float[Tensor, "*batch key d_k"],
    value: Float[Tensor, "*batch key d_v"],
    *,
    mask: Bool[Tensor, "*#batch #query key"] | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    weights: Literal[True],
) -> tuple[Float[Tensor, "*batch query d_v"], Float[Tensor, "*batch query key"]]: ...
def attention(
    query: Float[Tensor, "*batch query d_k"],
    key: Float[Tensor, "*batch key d_k"],
    value: Float[Tensor, "*batch key d_v"],
    *,
    mask: Bool[Tensor, "*#batch #query key"] | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    weights: bool = False,
) -> Float[Tensor, "*batch query d_v"] | tuple[Float[Tensor, "*batch query d_v"], Float[Tensor, "*batch query key"]]:
    """Each query's weighted sum of the values, by the fused kernel; with the weights themselves when asked.

        Attention(Q, K, V) = softmax(Q Kᵀ / √d_k) V

    Arguments:
        query, key, value: Float[batch…, query | key, d_k | d_v]; the heads are one of the batch axes.
        mask: Bool, broadcast to [batch…, query, key]; True = may attend. A query that may look nowhere gives zeros.
        causal: query i looks at keys 0 to i only.
        dropout: share of the weights set to zero, drawn from torch's default generator.
        weights: also return the weights, rebuilt by `attention_weights` (before dropout). Both ways agree to rounding.

    Returns:
        Float[batch…, query, d_v], or that and the weights Float[batch…, query, key].

    Source: Vaswani et al. 2017, equation 1. We differ for a query without any key: there the formula divides by zero.
    """
    allowed = mask
    if causal and mask is not None:
        allowed = mask & causal_mask(query.shape[-2], key.shape[-2], device=query.device)
    output = F.scaled_dot_product_attention(
        query, key, value, attn_mask=allowed, is_causal=causal and mask is None, dropout_p=dropout
    )
    if allowed is not None:
        output = output.masked_fill(~allowed.any(-1, keepdim=True), 0.0)
    if weights:
        return output, attention_weights(query, key, mask=mask, causal=causal)
    return output


def attention_weights(
    query: Float[Tensor, "*batch query d_k"],
    key: Float[Tensor, "*batch key d_k"],
    *,
    mask: Bool[Tensor, "*#batch #query key"] | None = None,
    causal: bool = False,
) -> Float[Tensor, "*batch query key"]:
    """How much each query takes of each key: softmax(Q Kᵀ / √d_k); every row sums to one, or is zero where masked out.

    Arguments:
        query, key, mask, causal: as for `attention`.

    Returns:
        Float[batch…, query, key].
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if causal:
        scores = scores.masked_fill(~causal_mask(*scores.shape[-2:], device=scores.device), -math.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return torch.softmax(scores, dim=-1).masked_fill((scores == -math.inf).all(-1, keepdim=True), 0.0)


def causal_mask(queries: int, keys: int, *, device: torch.device | None = None) -> Bool[Tensor, "query key"]:
    """Query i may look at keys 0 to i.

    >>> causal_mask(3, 3).int().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril()


def padding_mask(tokens: Int[Tensor, "batch key"], padding_token: int) -> Bool[Tensor, "batch 1 1 key"]:
    """Every query of every head may look at the keys that are not padding.

    >>> padding_mask(torch.tensor([[5, 6, 0]]), padding_token=0).tolist()
    [[[[True, True, False]]]]
    """
    return (tokens != padding_token)[:, None, None, :]


def split_heads(x: Float[Tensor, "batch length d_model"], num_heads: int) -> Float[Tensor, "batch heads length d_k"]:
    """Cut the features into heads: head h takes the features from h · d_k to (h + 1) · d_k."""
    return x.view(*x.shape[:-1], num_heads, -1).transpose(-3, -2)


def merge_heads(x: Float[Tensor, "batch heads length d_k"]) -> Float[Tensor, "batch length d_model"]:
    """Put the heads side by side again: the inverse of `split_heads`."""
    return x.transpose(-3, -2).flatten(-2)
