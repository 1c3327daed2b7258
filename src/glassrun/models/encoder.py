"""Encoder-only Transformers: every token looks at all others, before and after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from glassrun.models.positions import Positions, added_positions, rotary_positions, score_biases
from glassrun.nn.feedforward import ACTIVATIONS, Activation, Plain
from glassrun.nn.initialisation import Draw, norm_or_bias, normal
from glassrun.nn.normalisation import LayerNorm
from glassrun.nn.transformer import EncoderLayer, Norm

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class Encoder(nn.Module):
    """Token, segment and position embeddings, a norm, and layers of self-attention in both directions.

    Arguments:
        vocabulary_size: how many tokens there are.
        max_length: the longest text, in tokens.
        num_segments: how many kinds of text a token can be of, such as question and answer.
        num_layers, d_model, num_heads, d_ff: the size.
        dropout: after the embeddings and in every layer.
        activation, norm: of the layers.
        positions: how the places of the tokens are told.
        eps: of the layer norms.
        pooler: whether there is one: see `pool`.

    Source: Devlin et al. 2019, section 3, whose norms stand after each part; with norm pre one more is at the end.
    """

    def __init__(
        self,
        vocabulary_size: int,
        max_length: int,
        *,
        num_segments: int = 2,
        num_layers: int = 4,
        d_model: int = 128,
        num_heads: int = 4,
        d_ff: int = 512,
        dropout: float = 0.0,
        activation: Activation = "gelu",
        norm: Norm = "post",
        positions: Positions = "learned",
        eps: float = 1e-12,
        pooler: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, d_model)
        self.segments = nn.Embedding(num_segments, d_model)
        self.positions = added_positions(positions, max_length, d_model)
        self.embedding_norm = LayerNorm(d_model, eps=eps)
        self.dropout = nn.Dropout(dropout)
        d_k = d_model // num_heads
        rotary = rotary_positions(positions, max_length, d_k)
        self.layers = nn.ModuleList(
            EncoderLayer(
                d_model,
                num_heads,
                d_ff,
                dropout=dropout,
                activation=activation,
                norm=norm,
                eps=eps,
                rotary=rotary,
                score_bias=score_bias,
            )
            for score_bias in score_biases(positions, num_layers, num_heads, d_k, bidirectional=True)
        )
        self.norm = LayerNorm(d_model, eps=eps) if norm == "pre" else nn.Identity()
        self.pooler = nn.Linear(d_model, d_model) if pooler else None

    def forward(
        self,
        tokens: Int[Tensor, "batch length"],
        *,
        segments: Int[Tensor, "batch length"] | None = None,
        mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """The features of every token.

        Arguments:
            tokens: Int64[batch, length].
            segments: which each token is of; without, all are of segment 0.
            mask: True where a token may be looked at, False at padding.

        Raises:
            ModelError: the text is longer than max_length.
        """
        x = self.embedding(tokens) + self.segments(torch.zeros_like(tokens) if segments is None else segments)
        x = self.dropout(self.embedding_norm(self.positions(x)))
        allowed = None if mask is None else mask[:, None, None, :]
        for layer in self.layers:
            x = layer(x, mask=allowed)
        return self.norm(x)  # type: ignore[no-any-return]

    def pool(self, features: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch d_model"]:
        """One vector for a text, from its first token: tanh(W x₀ + b)."""
        assert self.pooler is not None, "made with pooler=True"
        return torch.tanh(self.pooler(features[:, 0]))


class MaskedLanguageModel(nn.Module):
    """For every token of a text with gaps, the logits of what stands there.

        logits = E · LN(f(W x + b)) + c

    with x the encoder's features, f its activation and E the output layer's weights.

    The softmax is in the loss, which takes logits.

    Arguments:
        encoder: gives the features.
        activation: f, one without a gate.
        eps: of the norm.
        tie_embeddings: E is the token embedding.

    Source: Devlin et al. 2019, section 3.1, task 1.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        activation: Plain = "gelu",
        eps: float = 1e-12,
        tie_embeddings: bool = True,
    ) -> None:
        super().__init__()
        vocabulary_size, d_model = encoder.embedding.weight.shape
        self.encoder = encoder
        self.transform = nn.Linear(d_model, d_model)
        self.activation = ACTIVATIONS[activation]
        self.norm = LayerNorm(d_model, eps=eps)
        self.output = nn.Linear(d_model, vocabulary_size)
        if tie_embeddings:
            self.output.weight = encoder.embedding.weight

    def forward(
        self,
        tokens: Int[Tensor, "batch length"],
        *,
        segments: Int[Tensor, "batch length"] | None = None,
        mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length vocabulary"]:
        """For every token the logits of what it is; `segments` and `mask` as for `Encoder`."""
        x = self.encoder(tokens, segments=segments, mask=mask)
        logits: Tensor = self.output(self.norm(self.activation(self.transform(x))))
        return logits

    def start(self, name: str, parameter: nn.Parameter) -> Draw | float:
        """As BERT: normal with 0.02; norms 1, biases 0."""
        return norm_or_bias(name) if parameter.ndim < 2 else normal(0.02)


class TextClassifier(nn.Module):
    """The logits of a text's class, from the encoder's pooled features.

    The softmax is in the loss, which takes logits.

    Arguments:
        encoder: made with a pooler.
        num_classes: how many logits.
        dropout: share of the pooled features set to zero in training.

    Source: Devlin et al. 2019, section 4.1.
    """

    def __init__(self, encoder: Encoder, num_classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(encoder.embedding.embedding_dim, num_classes)

    def forward(
        self,
        tokens: Int[Tensor, "batch length"],
        *,
        segments: Int[Tensor, "batch length"] | None = None,
        mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """The logits of every class; `segments` and `mask` as for `Encoder`."""
        pooled = self.encoder.pool(self.encoder(tokens, segments=segments, mask=mask))
        logits: Tensor = self.classify(self.dropout(pooled))
        return logits


def encoder(
    vocabulary_size: int,
    max_length: int,
    *,
    num_layers: int,
    d_model: int,
    num_heads: int,
    d_ff: int,
    dropout: float,
    activation: Plain,
    norm: Norm,
    positions: Positions,
    tie_embeddings: bool,
) -> MaskedLanguageModel:
    """The model of a recipe: an encoder with the head that training on gaps needs; a window of text is one segment."""
    body = Encoder(
        vocabulary_size,
        max_length,
        num_segments=1,
        num_layers=num_layers,
        d_model=d_model,
        num_heads=num_heads,
        d_ff=d_ff,
        dropout=dropout,
        activation=activation,
        norm=norm,
        positions=positions,
    )
    return MaskedLanguageModel(body, activation=activation, tie_embeddings=tie_embeddings)
