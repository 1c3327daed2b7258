"""One attention call, however the model wrote it: its weights row by row, and the proof beside its own output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glassrun.capturing.maps import Kind, Masking
from glassrun.capturing.masking import MASKED, masking_of

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, kw_only=True)
class AttentionCall(ABC):
    """An attention call with its tensors as [batch, heads, rows, columns].

    Arguments:
        function: the function that the model called.
        kind: whether queries and keys come from the same sequence.
        dropped: whether the output was made of weights after an active dropout.
    """

    function: str
    kind: Kind
    dropped: bool
    value: Float[Tensor, "batch groups key d_v"]
    output: Float[Tensor, "batch heads query d_v"]

    @abstractmethod
    def weights(self, heads: Tensor, queries: Tensor) -> Float[Tensor, "batch chosen_heads chosen_queries key"]:
        """The weights of some heads and queries, at least in float32."""

    @property
    @abstractmethod
    def masking(self) -> Masking:
        """What limits where a query may look."""

    @property
    def num_key_value_heads(self) -> int:
        """How many heads of keys and values there are.

        Told by the values: where groups share them, they may have been repeated for neighbouring heads before the call.
        """
        count = self.value.shape[1]
        others = (self.value[:, 1:] != self.value[:, :-1]).flatten(2).any(-1).any(0)  # than the head before
        groups = 1 + int(others.sum())
        regular = count % groups == 0 and bool(others[count // groups - 1 :: count // groups].all())
        return groups if regular and self.value.any() else count

    def difference(self, weights: Tensor, heads: Tensor, queries: Tensor) -> float:
        """The largest between these weights · V and the call's own output."""
        value = _of_heads(self.value, heads, self.output.shape[1]).to(weights.dtype)
        own = self.output.index_select(1, heads).index_select(2, queries).to(weights.dtype)
        return float((weights @ value - own).abs().max())


@dataclass(frozen=True, kw_only=True)
class Fused(AttentionCall):
    """A call of `F.scaled_dot_product_attention`, whose weights never were: they are made again from its arguments.

    The formula is that of the function's documentation; a query that may look nowhere has weights of zero.

    Arguments:
        mask, is_causal, scale: as the function has them; the mask with four axes.
        added: how many of the keys, the last ones, are no tokens.
    """

    query: Float[Tensor, "batch heads query d_k"]
    key: Float[Tensor, "batch groups key d_k"]
    mask: Tensor | None
    is_causal: bool
    scale: float | None
    added: int

    def weights(self, heads: Tensor, queries: Tensor) -> Float[Tensor, "batch chosen_heads chosen_queries key"]:
        kind = torch.promote_types(self.query.dtype, torch.float32)
        query = self.query.index_select(1, heads).index_select(2, queries).to(kind)
        key = _of_heads(self.key, heads, self.query.shape[1]).to(kind)
        scores = query @ key.mT * (query.shape[-1] ** -0.5 if self.scale is None else self.scale)
        if self.mask is not None:
            mask = self.mask if self.mask.shape[1] == 1 else self.mask.index_select(1, heads)
            mask = mask if mask.shape[2] == 1 else mask.index_select(2, queries)
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        if self.is_causal:
            later = torch.arange(key.shape[2], device=key.device) > queries[:, None]
            scores = scores.masked_fill(later, -torch.inf)
        nowhere = (scores == -torch.inf).all(-1, keepdim=True)
        return scores.softmax(-1).masked_fill(nowhere, 0.0)

    @property
    def masking(self) -> Masking:
        if self.is_causal:
            return "causal"
        if self.mask is None:
            return "none"
        blocked = ~self.mask if self.mask.dtype == torch.bool else self.mask <= MASKED
        return masking_of(blocked[..., : blocked.shape[-1] - self.added], self.query.shape[2])


@dataclass(frozen=True, kw_only=True)
class Written(AttentionCall):
    """Attention written out, softmax and product: the weights are the model's own tensor, before dropout.

    Arguments:
        blocked: Bool[..., query, key], where the scores were masked; None for nowhere.
    """

    own: Float[Tensor, "batch heads query key"]
    blocked: Tensor | None

    @property
    def masking(self) -> Masking:
        return masking_of(self.blocked, self.own.shape[2])

    def weights(self, heads: Tensor, queries: Tensor) -> Float[Tensor, "batch chosen_heads chosen_queries key"]:
        kind = torch.promote_types(self.own.dtype, torch.float32)
        return self.own.index_select(1, heads).index_select(2, queries).to(kind)


def _of_heads(x: Float[Tensor, "batch groups key d"], heads: Tensor, num_heads: int) -> Tensor:
    """What these heads of the queries look at."""
    return x.index_select(1, heads // (num_heads // x.shape[1]))


def split_lead(lead: Sequence[int], heads: int) -> tuple[int, int]:
    """Batch and heads of the axes before the last two.

    Arguments:
        lead: their sizes. The last of several is the heads.
        heads: how many heads lie in the axis where there is only one.

    >>> split_lead((2, 3), 1), split_lead((5, 2, 3), 1), split_lead((6,), 3), split_lead((), 1)
    ((2, 3), (10, 3), (2, 3), (1, 1))
    """
    if not lead:
        return 1, 1
    if len(lead) == 1:
        return lead[0] // heads, heads
    batch = 1
    for count in lead[:-1]:
        batch *= count
    return batch, lead[-1]


def four_axes(x: Tensor, lead: Sequence[int], heads: int) -> Tensor:
    """As [batch, heads, rows, columns]; axes of size one that can stand for more stay as they are, where they can.

    Arguments:
        x: [..., rows, columns]; what stands before may be broadcast to `lead`, the last of it may be groups of heads.
        lead: the sizes before the last two of the query.
        heads: as for `split_lead`.
    """
    while x.ndim < len(lead) + 2:
        x = x.unsqueeze(0)
    if len(lead) == 2:
        return x
    own = (*lead[:-1], x.shape[-3]) if len(lead) > 2 else tuple(lead)
    return x.expand(*own, *x.shape[-2:]).reshape(*split_lead(own, heads), *x.shape[-2:])


def folded_heads(leading: int, queries: int, around: Sequence[Tensor]) -> int:
    """How many heads lie in the leading axis of [batch · heads, query, …]: told by the batch of the module's input.

    Arguments:
        leading: its size.
        queries: how many there are.
        around: the tensors that the module was called with, as [batch, length, features], [length, batch, features] or
            [length, features].
    """
    for x in around:
        if x.ndim == 3 and queries in x.shape[:2]:
            batch = x.shape[0] if x.shape[1] == queries else x.shape[1]
            return leading // batch if leading % batch == 0 else 1
        if x.ndim == 2 and x.shape[0] == queries and x.is_floating_point():
            return leading
    return 1
