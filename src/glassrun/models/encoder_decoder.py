"""The encoder-decoder Transformer of "Attention is all you need"."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from glassrun.errors import ModelError
from glassrun.functional.masks import padding_mask
from glassrun.models.positions import Positions, added_positions, rotary_positions, score_biases
from glassrun.nn.attention import features_of_a_head
from glassrun.nn.cache import Cache
from glassrun.nn.feedforward import Activation
from glassrun.nn.initialisation import Draw, norm_or_bias, normal, xavier_uniform
from glassrun.nn.normalisation import Normalisation, make_norm
from glassrun.nn.transformer import DecoderLayer, EncoderLayer, Norm

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class EncoderDecoder(nn.Module):
    """An encoder reads the source, a decoder writes the target and looks at the encoder's output.

    The softmax is in the loss, which takes logits.

    Arguments:
        source_vocabulary_size, target_vocabulary_size: how many tokens there are on each side.
        max_length: the longest text on either side, in tokens.
        padding_token: what fills up shorter texts; no source position that holds it is looked at.
        encoder_layers, decoder_layers, d_model, num_heads, d_ff: the size.
        d_k: features of a head; None for d_model / num_heads.
        dropout: after the embeddings and in every layer.
        activation, norm, bias: of the layers.
        normalisation, eps: layer or RMS norms, and their ε.
        positions: how the places of the tokens are told.
        tie_embeddings: with true the output layer's weights are the target embedding's (Press & Wolf 2017); with `all`
            the source embedding's, too, as in the paper: the two sides must have one vocabulary.

    Raises:
        ModelError: the sizes do not fit, or embeddings are to be one whose vocabularies are not.

    Source: Vaswani et al. 2017.
    """

    def __init__(
        self,
        source_vocabulary_size: int,
        target_vocabulary_size: int,
        max_length: int,
        padding_token: int,
        *,
        encoder_layers: int = 2,
        decoder_layers: int = 2,
        d_model: int = 128,
        num_heads: int = 4,
        d_ff: int = 512,
        d_k: int | None = None,
        dropout: float = 0.0,
        activation: Activation = "relu",
        norm: Norm = "pre",
        bias: bool = True,
        normalisation: Normalisation = "layer",
        eps: float = 1e-5,
        positions: Positions = "sinusoidal",
        tie_embeddings: bool | Literal["all"] = True,
    ) -> None:
        super().__init__()
        if tie_embeddings == "all" and source_vocabulary_size != target_vocabulary_size:
            raise ModelError(
                f"tie_embeddings is all, but the source has {source_vocabulary_size} tokens and the target "
                f"{target_vocabulary_size}: one embedding needs one vocabulary. Use true to tie the target's alone"
            )
        self.padding_token = padding_token
        self.max_length = max_length
        self.scale = math.sqrt(d_model)
        self.source_embedding = nn.Embedding(source_vocabulary_size, d_model)
        self.target_embedding = nn.Embedding(target_vocabulary_size, d_model)
        self.source_positions = added_positions(positions, max_length, d_model)
        self.target_positions = added_positions(positions, max_length, d_model)
        self.dropout = nn.Dropout(dropout)
        per_head = features_of_a_head(d_model, num_heads, d_k)
        rotary = rotary_positions(positions, max_length, per_head)

        def final_norm() -> nn.Module:
            return make_norm(normalisation, d_model, eps=eps, bias=bias) if norm == "pre" else nn.Identity()

        self.encoder = nn.ModuleList(
            EncoderLayer(
                d_model,
                num_heads,
                d_ff,
                d_k=d_k,
                dropout=dropout,
                activation=activation,
                norm=norm,
                bias=bias,
                normalisation=normalisation,
                eps=eps,
                rotary=rotary,
                score_bias=score_bias,
            )
            for score_bias in score_biases(positions, encoder_layers, num_heads, per_head, bidirectional=True)
        )
        self.encoder_norm = final_norm()
        self.decoder = nn.ModuleList(
            DecoderLayer(
                d_model,
                num_heads,
                d_ff,
                d_k=d_k,
                dropout=dropout,
                activation=activation,
                norm=norm,
                bias=bias,
                normalisation=normalisation,
                eps=eps,
                rotary=rotary,
                score_bias=score_bias,
            )
            for score_bias in score_biases(positions, decoder_layers, num_heads, per_head, bidirectional=False)
        )
        self.decoder_norm = final_norm()
        self.output = nn.Linear(d_model, target_vocabulary_size, bias=False)
        if tie_embeddings:
            self.output.weight = self.target_embedding.weight
        if tie_embeddings == "all":
            self.target_embedding.weight = self.output.weight = self.source_embedding.weight

    def forward(
        self, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target vocabulary"]:
        """For every target position the logits of the token that comes next.

        Raises:
            ModelError: a text is longer than max_length.
        """
        memory, mask = self.encode(source)
        return self.decode(target, memory, mask)

    def encode(
        self, source: Int[Tensor, "batch source"]
    ) -> tuple[Float[Tensor, "batch source d_model"], Bool[Tensor, "batch 1 1 source"]]:
        """The encoder's output, and where it is no padding."""
        mask = padding_mask(source, self.padding_token)
        x = self.dropout(self.source_positions(self.source_embedding(source) * self.scale))
        for layer in self.encoder:
            x = layer(x, mask=mask)
        return self.encoder_norm(x), mask

    def decode(
        self,
        target: Int[Tensor, "batch target"],
        memory: Float[Tensor, "batch source d_model"],
        memory_mask: Bool[Tensor, "batch 1 1 source"],
        *,
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch target vocabulary"]:
        """For every target position the logits of the token that comes next, given what `encode` returned.

        The target needs no padding mask: padding stands at the end, where no earlier position may look.

        Arguments:
            target: Int[batch, target].
            memory, memory_mask: of `encode`.
            cache: of the target tokens before these, and of the memory; these are added to it. See `new_cache`.
        """
        layers = [None] * len(self.decoder) if cache is None else cache.layers
        x = self.dropout(self.target_positions(self.target_embedding(target) * self.scale, _places(target, cache)))
        for layer, kept in zip(self.decoder, layers, strict=True):
            x = layer(x, memory, memory_mask=memory_mask, cache=kept)
        if cache is not None:
            cache.advance(target.shape[1])
        logits: Tensor = self.output(self.decoder_norm(x))
        return logits

    def new_cache(self) -> Cache:
        """An empty one, for writing token by token: `decode` computes then what is new alone."""
        return Cache(len(self.decoder))

    def start(self, name: str, parameter: nn.Parameter) -> Draw | float:
        """Embeddings normal with d_model^-½, for they are scaled by its inverse; else Xavier's uniform."""
        if parameter.ndim < 2:
            return norm_or_bias(name)
        if "embedding" in name or name == "output.weight":
            return normal(1.0 / self.scale)
        if "positions" in name or "score_bias" in name:
            return normal(0.02)
        return xavier_uniform(parts=3 if name.endswith("projections.weight") else 1)


def _places(target: Tensor, cache: Cache | None) -> Int[Tensor, "1 target"] | None:
    """Where each token stands; None for 0, 1, 2, …"""
    if cache is None:
        return None
    return torch.arange(cache.length, cache.length + target.shape[1], device=target.device)[None]
