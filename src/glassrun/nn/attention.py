"""Multi-head attention (Vaswani et al. 2017, section 3.2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict, overload

import torch.nn.functional as F
from torch import Tensor, nn

from glassrun.errors import ModelError
from glassrun.functional import attention as attend
from glassrun.functional.masks import sliding_window_mask
from glassrun.nn.cache import KeysAndValues, KeyValueCache
from glassrun.nn.normalisation import RMSNorm

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from glassrun.nn.positions import ALiBi, RelativePositions, RotaryPositions, T5Bias


class HeadOptions(TypedDict, total=False):
    """What a layer passes on to each of its attentions; see `MultiHeadAttention`."""

    num_key_value_heads: int | None
    d_k: int | None
    qk_norm: bool


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each on its own projection of the features.

        MultiHead(X, M) = concat(head₁, …, head_h) W_o,   head_i = Attention(X W_q,i, M W_k,i, M W_v,i)

    With memory = query this is self-attention; with another sequence as memory it is cross-attention.

    Arguments:
        d_model: features of a token.
        num_heads: how many attentions.
        num_key_value_heads: heads that keys and values have, each for num_heads / num_key_value_heads neighbouring
            heads of the queries: grouped-query attention (Ainslie et al. 2023), multi-query with 1 (Shazeer 2019).
            None for as many as num_heads.
        d_k: features of a head; None for d_model / num_heads, which must then come out even.
        bias: whether the projections have one.
        dropout: share of the attention weights set to zero in training.
        qk_norm: an RMS norm over the features of each query and key, the same for all heads (Henry et al. 2020; with
            an RMS norm as in Qwen3).
        eps: ε of those norms.
        rotary: turns queries and keys by their positions; for self-attention.
        score_bias: what positions add to the scores; for self-attention.
        window: tokens look only at those that are less than so many away; for self-attention.

    Raises:
        ModelError: the numbers of heads and features do not fit.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        num_key_value_heads: int | None = None,
        d_k: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        qk_norm: bool = False,
        eps: float = 1e-5,
        rotary: RotaryPositions | None = None,
        score_bias: ALiBi | T5Bias | RelativePositions | None = None,
        window: int | None = None,
    ) -> None:
        super().__init__()
        groups = num_heads if num_key_value_heads is None else num_key_value_heads
        d_k = features_of_a_head(d_model, num_heads, d_k)
        if groups < 1 or num_heads % groups:
            raise ModelError(
                f"num_key_value_heads is {groups}, which does not divide num_heads {num_heads}: each of them serves "
                "num_heads / num_key_value_heads heads. Change one of them"
            )
        if window is not None and window < 1:
            raise ModelError(f"window is {window}; it must be at least 1, for a token sees itself")
        self.num_heads = num_heads
        self.num_key_value_heads = groups
        self.d_k = d_k
        self.dropout = dropout
        self.window = window
        # W_q, W_k and W_v of all heads in one: for small models three products in one call save a third of the time.
        self.projections = nn.Linear(d_model, (num_heads + 2 * groups) * d_k, bias=bias)
        self.output = nn.Linear(num_heads * d_k, d_model, bias=bias)
        self.query_norm = RMSNorm(d_k, eps=eps) if qk_norm else None
        self.key_norm = RMSNorm(d_k, eps=eps) if qk_norm else None
        self.rotary = rotary
        self.score_bias = score_bias

    @overload
    def forward(
        self,
        query: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"] | KeysAndValues,
        *,
        mask: Bool[Tensor, "batch #heads #query key"] | None = None,
        causal: bool = False,
        cache: KeyValueCache | None = None,
        weights: Literal[False] = False,
    ) -> Float[Tensor, "batch query d_model"]: ...
    @overload
    def forward(
        self,
        query: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"] | KeysAndValues,
        *,
        mask: Bool[Tensor, "batch #heads #query key"] | None = None,
        causal: bool = False,
        cache: KeyValueCache | None = None,
        weights: Literal[True],
    ) -> tuple[Float[Tensor, "batch query d_model"], Float[Tensor, "batch heads query key"]]: ...
    def forward(
        self,
        query: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"] | KeysAndValues,
        *,
        mask: Bool[Tensor, "batch #heads #query key"] | None = None,
        causal: bool = False,
        cache: KeyValueCache | None = None,
        weights: bool = False,
    ) -> (
        Float[Tensor, "batch query d_model"]
        | tuple[Float[Tensor, "batch query d_model"], Float[Tensor, "batch heads query key"]]
    ):
        """Attend from `query` to `memory`.

        Arguments:
            query: Float[batch, query, d_model].
            memory: Float[batch, key, d_model], the same tensor as query for self-attention; or what
                `keys_and_values` made of it.
            mask: Bool, broadcast to [batch, heads, query, key]; True = may attend. With a cache its keys count, too.
            causal: a query looks at itself and what stands before it.
            cache: keys and values of the tokens before these, for self-attention; those of these are written to it.
            weights: also return the weights Float[batch, heads, query, key], without dropout.
        """
        start = 0 if cache is None else cache.length
        q, k, v = self._heads(query, memory, start)
        if cache is not None:
            k, v = cache.write(k, v)
        if self.window is not None:  # whatever the length: torch.export follows no branch on a size
            near = sliding_window_mask(q.shape[-2], k.shape[-2], self.window, device=q.device)
            mask = near if mask is None else mask & near
        bias = None if self.score_bias is None else self.score_bias(q, k.shape[-2])
        dropout = self.dropout if self.training else 0.0
        if weights:
            mixed, found = attend.attention(q, k, v, mask=mask, causal=causal, bias=bias, dropout=dropout, weights=True)
            return self.output(attend.merge_heads(mixed)), found
        mixed = attend.attention(q, k, v, mask=mask, causal=causal, bias=bias, dropout=dropout)
        projected: Tensor = self.output(attend.merge_heads(mixed))
        return projected

    def keys_and_values(self, memory: Float[Tensor, "batch key d_model"]) -> KeysAndValues:
        """Of a memory that is attended to more than once: `forward` takes them in its place."""
        features = self.num_heads * self.d_k
        weight, bias = self.projections.weight, self.projections.bias
        both = F.linear(memory, weight[features:], None if bias is None else bias[features:])
        k, v = both.chunk(2, dim=-1)
        return self._prepared(k, v, start=0)

    def _heads(self, query: Tensor, memory: Tensor | KeysAndValues, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of `query`, keys and values of `memory`, each Float[batch, heads, length, d_k]."""
        features, others = self.num_heads * self.d_k, self.num_key_value_heads * self.d_k
        if query is memory:
            q, k, v = self.projections(query).split([features, others, others], dim=-1)
            return self._prepared_query(q, start), *self._prepared(k, v, start)
        weight, bias = self.projections.weight, self.projections.bias
        q = F.linear(query, weight[:features], None if bias is None else bias[:features])
        kept = memory if isinstance(memory, KeysAndValues) else self.keys_and_values(memory)
        return self._prepared_query(q, start), *kept

    def _prepared_query(self, q: Tensor, start: int) -> Tensor:
        return self._turned(_normed(attend.split_heads(q, self.num_heads), self.query_norm), start)

    def _prepared(self, k: Tensor, v: Tensor, start: int) -> KeysAndValues:
        k, v = (attend.split_heads(x, self.num_key_value_heads) for x in (k, v))
        return KeysAndValues(self._turned(_normed(k, self.key_norm), start), v)

    def _turned(self, x: Tensor, start: int) -> Tensor:
        if self.rotary is None:
            return x
        turned: Tensor = self.rotary(x, start)
        return turned


def _normed(x: Tensor, norm: RMSNorm | None) -> Tensor:
    if norm is None:
        return x
    normed: Tensor = norm(x)
    return normed


def features_of_a_head(d_model: int, num_heads: int, d_k: int | None = None) -> int:
    """d_k, or where it is None d_model / num_heads.

    Raises:
        ModelError: num_heads does not divide d_model.
    """
    if d_k is not None:
        return d_k
    if num_heads < 1 or d_model % num_heads:
        raise ModelError(
            f"num_heads is {num_heads}, which does not divide d_model {d_model}: every head takes "
            "d_model / num_heads features. Change one of them, or give d_k"
        )
    return d_model // num_heads
