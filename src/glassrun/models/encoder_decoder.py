"""The encoder-decoder Transformer of "Attention is all you need"."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from glassrun.functional.attention import padding_mask
from glassrun.models.language_model import POSITIONS
from glassrun.nn.initialisation import Draw, norm_or_bias, normal, xavier_uniform
from glassrun.nn.transformer import Activation, DecoderLayer, EncoderLayer, Norm

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
        dropout: after the embeddings and in every layer.
        activation, norm: of the layers.
        positions: sinusoidal or learned.
        tie_embeddings: the output layer's weights are the target embedding's (Press & Wolf 2017).

    Source: Vaswani et al. 2017. We differ: the two embeddings are not shared, since the vocabularies are not.
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
        dropout: float = 0.0,
        activation: Activation = "relu",
        norm: Norm = "pre",
        positions: Literal["sinusoidal", "learned"] = "sinusoidal",
        tie_embeddings: bool = True,
    ) -> None:
        super().__init__()
        self.padding_token = padding_token
        self.max_length = max_length
        self.scale = math.sqrt(d_model)
        self.source_embedding = nn.Embedding(source_vocabulary_size, d_model)
        self.target_embedding = nn.Embedding(target_vocabulary_size, d_model)
        self.source_positions = POSITIONS[positions](max_length, d_model)
        self.target_positions = POSITIONS[positions](max_length, d_model)
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.ModuleList(
            EncoderLayer(d_model, num_heads, d_ff, dropout=dropout, activation=activation, norm=norm)
            for _ in range(encoder_layers)
        )
        self.encoder_norm = nn.LayerNorm(d_model) if norm == "pre" else nn.Identity()
        self.decoder = nn.ModuleList(
            DecoderLayer(d_model, num_heads, d_ff, dropout=dropout, activation=activation, norm=norm)
            for _ in range(decoder_layers)
        )
        self.decoder_norm = nn.LayerNorm(d_model) if norm == "pre" else nn.Identity()
        self.output = nn.Linear(d_model, target_vocabulary_size, bias=False)
        if tie_embeddings:
            self.output.weight = self.target_embedding.weight

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
    ) -> Float[Tensor, "batch target vocabulary"]:
        """For every target position the logits of the token that comes next, given what `encode` returned.

        The target needs no padding mask: padding stands at the end, where no earlier position may look.
        """
        x = self.dropout(self.target_positions(self.target_embedding(target) * self.scale))
        for layer in self.decoder:
            x = layer(x, memory, memory_mask=memory_mask)
        logits: Tensor = self.output(self.decoder_norm(x))
        return logits

    def start(self, name: str, parameter: nn.Parameter) -> Draw | float:
        """Embeddings normal with d_model^-½, for they are scaled by its inverse; else Xavier's uniform."""
        if parameter.ndim < 2:
            return norm_or_bias(name)
        if "embedding" in name or name == "output.weight":
            return normal(1.0 / self.scale)
        if "positions" in name:
            return normal(0.02)
        return xavier_uniform(parts=3 if name.endswith("projections.weight") else 1)
