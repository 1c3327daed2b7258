"""A decoder-only Transformer for text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from glassrun.nn.initialisation import Draw, norm_or_bias, normal
from glassrun.nn.positions import LearnedPositions, SinusoidalPositions
from glassrun.nn.transformer import Activation, EncoderLayer, Norm

if TYPE_CHECKING:
    from jaxtyping import Float, Int

POSITIONS = {"sinusoidal": SinusoidalPositions, "learned": LearnedPositions}


class LanguageModel(nn.Module):
    """Token embedding and positions, layers of causal self-attention and feed-forward network, the next token's logits.

    The softmax is in the loss, which takes logits.

    Arguments:
        vocabulary_size: how many tokens there are.
        max_length: the longest text that it sees at once, in tokens.
        num_layers, d_model, num_heads, d_ff: the size.
        dropout: after the embedding and in every layer.
        activation, norm, bias: of the layers.
        positions: sinusoidal or learned.
        tie_embeddings: the output layer's weights are the embedding's (Press & Wolf 2017).

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
        d_ff: int = 512,
        dropout: float = 0.0,
        activation: Activation = "gelu",
        norm: Norm = "pre",
        bias: bool = True,
        positions: Literal["sinusoidal", "learned"] = "learned",
        tie_embeddings: bool = True,
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.num_layers = num_layers
        self.embedding = nn.Embedding(vocabulary_size, d_model)
        self.positions = POSITIONS[positions](max_length, d_model)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, num_heads, d_ff, dropout=dropout, activation=activation, norm=norm, bias=bias)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, bias=bias) if norm == "pre" else nn.Identity()
        self.output = nn.Linear(d_model, vocabulary_size, bias=False)
        if tie_embeddings:
            self.output.weight = self.embedding.weight

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length vocabulary"]:
        """For every position the logits of the token that comes next.

        Raises:
            ModelError: the text is longer than max_length.
        """
        x = self.dropout(self.positions(self.embedding(tokens)))
        for layer in self.layers:
            x = layer(x, causal=True)
        logits: Tensor = self.output(self.norm(x))
        return logits

    def start(self, name: str, parameter: nn.Parameter) -> Draw | float:
        """As GPT-2: normal with 0.02, less for what is added to the residual stream; norms 1, biases 0."""
        if parameter.ndim < 2:
            return norm_or_bias(name)
        residual = name.endswith(("attention.output.weight", "feed_forward.contract.weight"))
        return normal(0.02 / math.sqrt(2 * self.num_layers) if residual else 0.02)
