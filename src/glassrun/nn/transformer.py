"""Encoder and decoder layers (Vaswani et al. 2017, section 3.1), with the norm before or after each part."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from glassrun.nn.attention import MultiHeadAttention
from glassrun.nn.feedforward import FeedForward

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Activation = Literal["relu", "gelu"]
Norm = Literal["pre", "post"]


class Residual(nn.Module):
    """One part of a layer with its shortcut and its norm.

        pre:   x + dropout(part(norm(x)))       (Xiong et al. 2020: trains without warmup, and deeper)
        post:  norm(x + dropout(part(x)))       (Vaswani et al. 2017)

    Arguments:
        d_model: features of a token.
        norm: where the layer norm stands.
        dropout: share of the part's output set to zero in training.
        bias: whether the norm has one.
    """

    def __init__(self, d_model: int, *, norm: Norm, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        self.place: Norm = norm
        self.norm = nn.LayerNorm(d_model, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch length d_model"], part: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "batch length d_model"]:
        """x with the part's contribution."""
        if self.place == "pre":
            return x + self.dropout(part(self.norm(x)))  # type: ignore[no-any-return]
        return self.norm(x + self.dropout(part(x)))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """Self-attention, then the feed-forward network. With `causal`, a layer of a decoder-only model.

    Arguments:
        d_model, num_heads, d_ff: features of a token, heads, features inside the feed-forward network.
        dropout: after attention weights and after each part, in training.
        activation: of the feed-forward network.
        norm: where the layer norms stand.
        bias: whether linear layers and norms have one.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        *,
        dropout: float = 0.0,
        activation: Activation = "relu",
        norm: Norm = "pre",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(d_model, num_heads, bias=bias, dropout=dropout)
        self.attention_residual = Residual(d_model, norm=norm, dropout=dropout, bias=bias)
        self.feed_forward = FeedForward(d_model, d_ff, activation=activation, bias=bias)
        self.feed_forward_residual = Residual(d_model, norm=norm, dropout=dropout, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        *,
        mask: Bool[Tensor, "batch #heads #query key"] | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "batch length d_model"]:
        """The tokens after this layer; `mask` and `causal` as for `MultiHeadAttention`."""
        x = self.attention_residual(x, lambda y: self.attention(y, y, mask=mask, causal=causal))
        x = self.feed_forward_residual(x, self.feed_forward)
        return x


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the encoder's output, then the feed-forward network.

    Arguments: as for `EncoderLayer`.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        *,
        dropout: float = 0.0,
        activation: Activation = "relu",
        norm: Norm = "pre",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, num_heads, bias=bias, dropout=dropout)
        self.self_attention_residual = Residual(d_model, norm=norm, dropout=dropout, bias=bias)
        self.cross_attention = MultiHeadAttention(d_model, num_heads, bias=bias, dropout=dropout)
        self.cross_attention_residual = Residual(d_model, norm=norm, dropout=dropout, bias=bias)
        self.feed_forward = FeedForward(d_model, d_ff, activation=activation, bias=bias)
        self.feed_forward_residual = Residual(d_model, norm=norm, dropout=dropout, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "batch target d_model"],
        memory: Float[Tensor, "batch source d_model"],
        *,
        memory_mask: Bool[Tensor, "batch #heads #target source"] | None = None,
    ) -> Float[Tensor, "batch target d_model"]:
        """The target's tokens after this layer.

        Arguments:
            x: Float[batch, target, d_model].
            memory: Float[batch, source, d_model], the encoder's output.
            memory_mask: where in the source each target token may look.
        """
        x = self.self_attention_residual(x, lambda y: self.self_attention(y, y, causal=True))
        x = self.cross_attention_residual(x, lambda y: self.cross_attention(y, memory, mask=memory_mask))
        x = self.feed_forward_residual(x, self.feed_forward)
        return x
