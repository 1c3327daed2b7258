"""Scaled dot-product attention (Vaswani et al. 2017, section 3.2). Its masks are in `masks`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from glassrun.functional.masks import causal_mask

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


@overload
def attention(
    query: Float[Tensor, "*batch query d_k"],
    key: Float[Tensor, "*groups key d_k"],
    value: Float[Tensor, "*groups key d_v"],
    *,
    mask: Bool[Tensor, "*#batch #query key"] | None = None,
    causal: bool = False,
    bias: Float[Tensor, "*#batch #query key"] | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    weights: Literal[False] = False,
) -> Float[Tensor, "*batch query d_v"]: ...
@overload
def attention(
    query: Float[Tensor, "*batch query d_k"],
    key: Float[Tensor, "*groups key d_k"],
    value: Float[Tensor, "*groups key d_v"],
    *,
    mask: Bool[Tensor, "*#batch #query key"] | None = None,
    causal: bool = False,
    bias: Float[Tensor, "*#batch #query key"] | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    weights: Literal[True],
) -> tuple[Float[Tensor, "*batch query d_v"], Float[Tensor, "*batch query key"]]: ...
def attention(
    query: Float[Tensor, "*batch query d_k"],
    key: Float[Tensor, "*groups key d_k"],
    value: Float[Tensor, "*groups key d_v"],
    *,
    mask: Bool[Tensor, "*#batch #query key"] | None = None,
    causal: bool = False,
    bias: Float[Tensor, "*#batch #query key"] | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    weights: bool = False,
) -> Float[Tensor, "*batch query d_v"] | tuple[Float[Tensor, "*batch query d_v"], Float[Tensor, "*batch query key"]]:
    """Each query's weighted sum of the values, by the fused kernel; with the weights themselves when asked.

        Attention(Q, K, V) = softmax(scale · Q Kᵀ + bias) V,   scale = 1 / √d_k

    Arguments:
        query, key, value: Float[batch…, query | key, d_k | d_v]. The last of the batch axes are the heads; keys and
            values may have fewer of them, each for as many neighbouring heads of queries (see `repeat_heads`).
        mask: Bool, broadcast to [batch…, query, key]; True = may attend. A query that may look nowhere gives zeros.
        causal: a query looks at itself and what stands before it, see `causal_mask`.
        bias: Float, broadcast to [batch…, query, key], added to the scores.
        scale: of the scores; None for 1 / √d_k.
        dropout: share of the weights set to zero, drawn from torch's default generator.
        weights: also return the weights, rebuilt by `attention_weights` (before dropout). Both ways agree to rounding.

    Returns:
        Float[batch…, query, d_v], or that and the weights Float[batch…, query, key].

    Source: Vaswani et al. 2017, equation 1. We differ for a query without any key: there the formula divides by zero.
    """
    queries, keys = query.shape[-2], key.shape[-2]
    # The kernel's own causal way is the fast one, but takes nothing beside it and aligns queries with the first keys.
    # (A Python bool: under torch.export sizes are symbols.)
    fused_causal = causal and mask is None and bias is None and bool(queries == keys)
    allowed = mask if fused_causal else _allowed(mask, causal, queries, keys, query.device)
    output = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=allowed if bias is None else _masked(bias.to(query.dtype), allowed),
        is_causal=fused_causal,
        dropout_p=dropout,
        scale=scale,
        enable_gqa=query.shape[:-2] != key.shape[:-2],
    )
    if allowed is not None:
        output = output.masked_fill(~allowed.any(-1, keepdim=True), 0.0)
    if weights:
        return output, attention_weights(query, key, mask=mask, causal=causal, bias=bias, scale=scale)
    return output


def attention_weights(
    query: Float[Tensor, "*batch query d_k"],
    key: Float[Tensor, "*groups key d_k"],
    *,
    mask: Bool[Tensor, "*#batch #query key"] | None = None,
    causal: bool = False,
    bias: Float[Tensor, "*#batch #query key"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "*batch query key"]:
    """How much each query takes of each key: softmax(scale · Q Kᵀ + bias).

    Every row sums to one, or is zero where masked out.

    Arguments:
        query, key, mask, causal, bias, scale: as for `attention`.

    Returns:
        Float[batch…, query, key].
    """
    if query.shape[:-2] != key.shape[:-2]:
        key = repeat_heads(key, query.shape[-3] // key.shape[-3])
    scores = query @ key.transpose(-2, -1)
    scores = scores / math.sqrt(query.shape[-1]) if scale is None else scores * scale
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    allowed = _allowed(mask, causal, scores.shape[-2], scores.shape[-1], scores.device)
    if allowed is None:
        return torch.softmax(scores, dim=-1)
    weights = torch.softmax(_masked(scores, allowed), dim=-1)
    return weights.masked_fill(~allowed.any(-1, keepdim=True), 0.0)


def _allowed(
    mask: Bool[Tensor, "*#batch #query key"] | None, causal: bool, queries: int, keys: int, device: torch.device
) -> Bool[Tensor, "*#batch #query key"] | None:
    """Where a query may look by both, or None for everywhere. The last query may look at every key."""
    if not causal or queries == 1:
        return mask
    earlier = causal_mask(queries, keys, device=device)
    return earlier if mask is None else mask & earlier


def _masked(scores: Tensor, allowed: Tensor | None) -> Tensor:
    return scores if allowed is None else torch.where(allowed, scores, -math.inf)


def split_heads(x: Float[Tensor, "batch length d_model"], num_heads: int) -> Float[Tensor, "batch heads length d_k"]:
    """Cut the features into heads: head h takes the features from h · d_k to (h + 1) · d_k."""
    return x.view(*x.shape[:-1], num_heads, -1).transpose(-3, -2)


def merge_heads(x: Float[Tensor, "batch heads length d_k"]) -> Float[Tensor, "batch length d_model"]:
    """Put the heads side by side again: the inverse of `split_heads`."""
    return x.transpose(-3, -2).flatten(-2)


def repeat_heads(x: Float[Tensor, "*batch groups length d_k"], times: int) -> Float[Tensor, "*batch heads length d_k"]:
    """Give each head of keys or values to `times` neighbouring heads of queries.

    >>> repeat_heads(torch.tensor([[[[1.0]], [[2.0]]]]), 2).flatten().tolist()
    [1.0, 1.0, 2.0, 2.0]

    Source: Ainslie et al. 2023 (grouped-query attention), section 2.2; with one head Shazeer 2019 (multi-query).
    """
    return x.repeat_interleave(times, dim=-3)
