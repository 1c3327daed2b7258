"""Multi-head attention (Vaswani et al. 2017, section 3.2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

import torch.nn.functional as F
from torch import Tensor, nn

from glassrun.errors import ModelError
from glassrun.functional import attention as attend

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each on its own projection of the features to d_k = d_model / num_heads.

        MultiHead(X, M) = concat(head₁, …, head_h) W_o,   head_i = Attention(X W_q,i, M W_k,i, M W_v,i)

    With memory = query this is self-attention; with another sequence as memory it is cross-attention.

    Arguments:
        d_model: features of a token; a multiple of num_heads.
        num_heads: how many attentions.
        bias: whether the projections have one.
        dropout: share of the attention weights set to zero in training.
    """

    def __init__(self, d_model: int, num_heads: int, *, bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        if num_heads < 1 or d_model % num_heads:
            raise ModelError(
                f"num_heads is {num_heads}, which does not divide d_model {d_model}: every head takes "
                "d_model / num_heads features. Change one of them"
            )
        self.num_heads = num_heads
        self.dropout = dropout
        # W_q, W_k and W_v of all heads in one: for small models three products in one call save a third of the time.
        self.projections = nn.Linear(d_model, 3 * d_model, bias=bias)
        self.output = nn.Linear(d_model, d_model, bias=bias)

    @overload
    def forward(
        self,
        query: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"],
        *,
        mask: Bool[Tensor, "batch #heads #query key"] | None = None,
        causal: bool = False,
        weights: Literal[False] = False,
    ) -> Float[Tensor, "batch query d_model"]: ...
    @overload
    def forward(
        self,
        query: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"],
        *,
        mask: Bool[Tensor, "batch #heads #query key"] | None = None,
        causal: bool = False,
        weights: Literal[True],
    ) -> tuple[Float[Tensor, "batch query d_model"], Float[Tensor, "batch heads query key"]]: ...
    def forward(
        self,
        query: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"],
        *,
        mask: Bool[Tensor, "batch #heads #query key"] | None = None,
        causal: bool = False,
        weights: bool = False,
    ) -> (
        Float[Tensor, "batch query d_model"]
        | tuple[Float[Tensor, "batch query d_model"], Float[Tensor, "batch heads query key"]]
    ):
        """Attend from `query` to `memory`.

        Arguments:
            query: Float[batch, query, d_model].
            memory: Float[batch, key, d_model]; the same tensor as query for self-attention.
            mask: Bool, broadcast to [batch, heads, query, key]; True = may attend.
            causal: query i looks at keys 0 to i only.
            weights: also return the weights Float[batch, heads, query, key], without dropout.
        """
        q, k, v = (attend.split_heads(x, self.num_heads) for x in self._project(query, memory))
        dropout = self.dropout if self.training else 0.0
        if weights:
            mixed, found = attend.attention(q, k, v, mask=mask, causal=causal, dropout=dropout, weights=True)
            return self.output(attend.merge_heads(mixed)), found
        mixed = attend.attention(q, k, v, mask=mask, causal=causal, dropout=dropout)
        projected: Tensor = self.output(attend.merge_heads(mixed))
        return projected

    def _project(self, query: Tensor, memory: Tensor) -> tuple[Tensor, ...]:
        """Queries of `query`, keys and values of `memory`: each Float[batch, length, d_model]."""
        if query is memory:
            return self.projections(query).chunk(3, dim=-1)  # type: ignore[no-any-return]
        d_model = query.shape[-1]
        weight, bias = self.projections.weight, self.projections.bias
        first = F.linear(query, weight[:d_model], None if bias is None else bias[:d_model])
        return first, *F.linear(memory, weight[d_model:], None if bias is None else bias[d_model:]).chunk(2, dim=-1)
