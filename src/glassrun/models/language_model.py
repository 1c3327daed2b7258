"""A decoder-only Transformer for text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from glassrun.models.positions import Positions, added_positions, rotary_positions, score_biases
from glassrun.nn.attention import features_of_a_head
from glassrun.nn.cache import Cache
from glassrun.nn.feedforward import Activation
from glassrun.nn.initialisation import Draw, norm_or_bias, normal
from glassrun.nn.normalisation import Normalisation, make_norm
from glassrun.nn.transformer import EncoderLayer, Norm

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class LanguageModel(nn.Module):
    """Token embedding and positions, layers of causal self-attention and feed-forward network, the next token's logits.

    The softmax is in the loss, which takes logits. The defaults make GPT-2; `models.llama` makes Llama.

    Arguments:
        vocabulary_size: how many tokens there are.
        max_length: the longest text that it sees at once, in tokens: a limit for sinusoidal, learned and rotary
            positions alone.
        num_layers, d_model, num_heads, d_ff: the size.
        num_key_value_heads, qk_norm, window: of the attention, see `MultiHeadAttention`.
        dropout: after the embedding and in every layer.
        activation, norm, bias: of the layers.
        normalisation, eps: layer or RMS norms, and their ε.
        positions: how the places of the tokens are told.
        rotary_base, rotary_scaling: of rotary positions, see `rotary_positions`.
        tie_embeddings: the output layer's weights are the embedding's (Press & Wolf 2017).

    Raises:
        ModelError: the sizes do not fit, or a setting would be ignored.

    Source: Radford et al. 2019, section 2.3.
    """

    def __init__(
        self,
        vocabulary_size: int,
        max_length: int,
        *,
        num_layers: int = 4,
        d_model: int = 128,
        num_heads: int = 4,
        num_key_value_heads: int | None = None,
        d_ff: int = 512,
        dropout: float = 0.0,
        activation: Activation = "gelu",
        norm: Norm = "pre",
        bias: bool = True,
        normalisation: Normalisation = "layer",
        eps: float = 1e-5,
        qk_norm: bool = False,
        window: int | None = None,
        positions: Positions = "learned",
        rotary_base: float | None = None,
        rotary_scaling: Mapping[str, Any] | None = None,
        tie_embeddings: bool = True,
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.num_layers = num_layers
        self.embedding = nn.Embedding(vocabulary_size, d_model)
        self.positions = added_positions(positions, max_length, d_model)
        self.dropout = nn.Dropout(dropout)
        d_k = features_of_a_head(d_model, num_heads)
        rotary = rotary_positions(positions, max_length, d_k, base=rotary_base, scaling=rotary_scaling)
        self.layers = nn.ModuleList(
            EncoderLayer(
                d_model,
                num_heads,
                d_ff,
                num_key_value_heads=num_key_value_heads,
                dropout=dropout,
                activation=activation,
                norm=norm,
                bias=bias,
                normalisation=normalisation,
                eps=eps,
                qk_norm=qk_norm,
                rotary=rotary,
                score_bias=score_bias,
                window=window,
            )
            for score_bias in score_biases(positions, num_layers, num_heads, d_k, bidirectional=False)
        )
        self.norm = make_norm(normalisation, d_model, eps=eps, bias=bias) if norm == "pre" else nn.Identity()
        self.output = nn.Linear(d_model, vocabulary_size, bias=False)
        if tie_embeddings:
            self.output.weight = self.embedding.weight

    def forward(
        self,
        tokens: Int[Tensor, "batch length"],
        *,
        mask: Bool[Tensor, "batch key"] | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch length vocabulary"]:
        """For every position the logits of the token that comes next.

        Arguments:
            tokens: Int[batch, length].
            mask: which tokens are no padding, those in the cache included. Padding stands before the text, so that
                texts of different lengths can be continued together; positions count from the text's first token.
            cache: of the tokens before these; these are added to it. See `new_cache`.

        Raises:
            ModelError: the text is longer than max_length.
        """
        layers = [None] * len(self.layers) if cache is None else cache.layers
        x = self.dropout(self.positions(self.embedding(tokens), _places(tokens, mask, cache)))
        allowed = None if mask is None else mask[:, None, None, :]
        for layer, kept in zip(self.layers, layers, strict=True):
            x = layer(x, mask=allowed, causal=True, cache=kept)
        if cache is not None:
            cache.advance(tokens.shape[1])
        logits: Tensor = self.output(self.norm(x))
        return logits

    def new_cache(self) -> Cache:
        """An empty one, for writing token by token: `forward` computes then what is new alone."""
        return Cache(len(self.layers))

    def start(self, name: str, parameter: nn.Parameter) -> Draw | float:
        """As GPT-2: normal with 0.02, less for what is added to the residual stream; norms 1, biases 0."""
        if parameter.ndim < 2:
            return norm_or_bias(name)
        residual = name.endswith(("attention.output.weight", "feed_forward.contract.weight"))
        return normal(0.02 / math.sqrt(2 * self.num_layers) if residual else 0.02)


def _places(tokens: Tensor, mask: Tensor | None, cache: Cache | None) -> Int[Tensor, "#batch length"] | None:
    """Where each token stands in its text; None for 0, 1, 2, …"""
    length = tokens.shape[1]
    if mask is not None:
        return (mask.cumsum(-1) - 1).clamp(min=0)[:, -length:]
    if cache is not None:
        return torch.arange(cache.length, cache.length + length, device=tokens.device)[None]
    return None
