"""Encoder and decoder layers (Vaswani et al. 2017, section 3.1), with the norm before or after each part."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Unpack, get_args

from torch import Tensor, nn

from glassrun.errors import ModelError, nearest
from glassrun.nn.attention import HeadOptions, MultiHeadAttention
from glassrun.nn.cache import KeysAndValues, KeyValueCache, LayerCache
from glassrun.nn.feedforward import Activation, make_feed_forward
from glassrun.nn.normalisation import Normalisation, make_norm
from glassrun.nn.positions import ALiBi, RelativePositions, RotaryPositions, T5Bias

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Norm = Literal["pre", "post"]
ScoreBias = ALiBi | T5Bias | RelativePositions


class Residual(nn.Module):
    """One part of a layer with its shortcut and its norm.

        pre:   x + dropout(part(norm(x)))       (Xiong et al. 2020: trains without warmup, and deeper)
        post:  norm(x + dropout(part(x)))       (Vaswani et al. 2017)

    Arguments:
        d_model: features of a token.
        norm: where the norm stands.
        dropout: share of the part's output set to zero in training.
        bias: whether a layer norm has one.
        normalisation: layer or rms.
        eps: the norm's ε.
    """

    def __init__(
        self,
        d_model: int,
        *,
        norm: Norm,
        dropout: float = 0.0,
        bias: bool = True,
        normalisation: Normalisation = "layer",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if norm not in get_args(Norm):
            raise ModelError(f"norm is {norm!r}; {nearest(str(norm), get_args(Norm))}")
        self.place: Norm = norm
        self.norm = make_norm(normalisation, d_model, eps=eps, bias=bias)
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
        norm: where the norms stand.
        bias: whether linear layers and layer norms have one.
        normalisation, eps: the kind of norm; ε of all norms.
        rotary, score_bias, window: of the attention, see `MultiHeadAttention`.
        heads: num_key_value_heads, d_k and qk_norm of the attention.
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
        normalisation: Normalisation = "layer",
        eps: float = 1e-5,
        rotary: RotaryPositions | None = None,
        score_bias: ScoreBias | None = None,
        window: int | None = None,
        **heads: Unpack[HeadOptions],
    ) -> None:
        super().__init__()

        def residual() -> Residual:
            return Residual(d_model, norm=norm, dropout=dropout, bias=bias, normalisation=normalisation, eps=eps)

        self.attention = MultiHeadAttention(
            d_model,
            num_heads,
            bias=bias,
            dropout=dropout,
            eps=eps,
            rotary=rotary,
            score_bias=score_bias,
            window=window,
            **heads,
        )
        self.attention_residual = residual()
        self.feed_forward = make_feed_forward(d_model, d_ff, activation=activation, bias=bias)
        self.feed_forward_residual = residual()

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        *,
        mask: Bool[Tensor, "batch #heads #query key"] | None = None,
        causal: bool = False,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """The tokens after this layer; `mask`, `causal` and `cache` as for `MultiHeadAttention`."""
        tokens = None if cache is None else cache.tokens
        x = self.attention_residual(x, lambda y: self.attention(y, y, mask=mask, causal=causal, cache=tokens))
        x = self.feed_forward_residual(x, self.feed_forward)
        return x


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the encoder's output, then the feed-forward network.

    Arguments: as for `EncoderLayer`; `rotary`, `score_bias` and `window` are of the self-attention, `heads` of both.
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
        normalisation: Normalisation = "layer",
        eps: float = 1e-5,
        rotary: RotaryPositions | None = None,
        score_bias: ScoreBias | None = None,
        window: int | None = None,
        **heads: Unpack[HeadOptions],
    ) -> None:
        super().__init__()

        def residual() -> Residual:
            return Residual(d_model, norm=norm, dropout=dropout, bias=bias, normalisation=normalisation, eps=eps)

        self.self_attention = MultiHeadAttention(
            d_model,
            num_heads,
            bias=bias,
            dropout=dropout,
            eps=eps,
            rotary=rotary,
            score_bias=score_bias,
            window=window,
            **heads,
        )
        self.self_attention_residual = residual()
        self.cross_attention = MultiHeadAttention(d_model, num_heads, bias=bias, dropout=dropout, eps=eps, **heads)
        self.cross_attention_residual = residual()
        self.feed_forward = make_feed_forward(d_model, d_ff, activation=activation, bias=bias)
        self.feed_forward_residual = residual()

    def forward(
        self,
        x: Float[Tensor, "batch target d_model"],
        memory: Float[Tensor, "batch source d_model"],
        *,
        memory_mask: Bool[Tensor, "batch #heads #target source"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "batch target d_model"]:
        """The target's tokens after this layer.

        Arguments:
            x: Float[batch, target, d_model].
            memory: Float[batch, source, d_model], the encoder's output.
            memory_mask: where in the source each target token may look.
            cache: what was computed for the tokens before these and, at the first call, for the memory.
        """
        tokens: KeyValueCache | None = None
        source: Tensor | KeysAndValues = memory
        if cache is not None:
            tokens = cache.tokens
            if cache.memory is None:
                cache.memory = self.cross_attention.keys_and_values(memory)
            source = cache.memory
        x = self.self_attention_residual(x, lambda y: self.self_attention(y, y, causal=True, cache=tokens))
        x = self.cross_attention_residual(x, lambda y: self.cross_attention(y, source, mask=memory_mask))
        x = self.feed_forward_residual(x, self.feed_forward)
        return x
