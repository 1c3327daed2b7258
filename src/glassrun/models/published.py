"""The arguments of published models: in our terms, to be built, counted, and filled with their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from glassrun.models.arguments import (
    Arguments,
    EncoderDecoderArguments,
    LanguageModelArguments,
    Llama3Scaling,
    LlamaArguments,
)


@dataclass(frozen=True)
class Published:
    """A model section, and what else would follow from the data: `models.registry.construct` makes the model."""

    arguments: Arguments
    facts: Mapping[str, int]


# --- Vaswani et al. 2017, table 3, at the shared vocabulary of 37,000 tokens of section 5.1 --------------------------


def transformer_base() -> Published:
    """The base model."""
    return _transformer(d_model=512, num_heads=8, d_ff=2048, dropout=0.1)


def transformer_big() -> Published:
    """The big model, with the dropout of English to German."""
    return _transformer(d_model=1024, num_heads=16, d_ff=4096, dropout=0.3)


def _transformer(*, d_model: int, num_heads: int, d_ff: int, dropout: float) -> Published:
    arguments = EncoderDecoderArguments(
        kind="encoder-decoder",
        encoder_layers=6,
        decoder_layers=6,
        d_model=d_model,
        num_heads=num_heads,
        d_ff=d_ff,
        dropout=dropout,
        norm="post",
        tie_embeddings="all",
    )
    facts = {
        "source_vocabulary_size": 37_000,
        "target_vocabulary_size": 37_000,
        "max_length": 1024,
        "padding_token": 0,
    }
    return Published(arguments, facts)


# --- Radford et al. 2019, table 2, as released -----------------------------------------------------------------------


def gpt2_small() -> Published:
    """124M parameters."""
    return _gpt2(num_layers=12, d_model=768, num_heads=12)


def gpt2_medium() -> Published:
    """355M."""
    return _gpt2(num_layers=24, d_model=1024, num_heads=16)


def gpt2_large() -> Published:
    """774M."""
    return _gpt2(num_layers=36, d_model=1280, num_heads=20)


def gpt2_xl() -> Published:
    """1.5B."""
    return _gpt2(num_layers=48, d_model=1600, num_heads=25)


def _gpt2(*, num_layers: int, d_model: int, num_heads: int) -> Published:
    arguments = LanguageModelArguments(
        kind="language-model",
        num_layers=num_layers,
        d_model=d_model,
        num_heads=num_heads,
        dropout=0.1,
        activation="gelu-tanh",
    )
    return Published(arguments, {"vocabulary_size": 50_257, "max_length": 1024})


# --- Llama -----------------------------------------------------------------------------------------------------------


def llama_7b() -> Published:
    """Touvron et al. 2023, table 2."""
    arguments = LlamaArguments(kind="llama", num_layers=32, d_model=4096, num_heads=32, d_ff=11_008, eps=1e-6)
    return Published(arguments, {"vocabulary_size": 32_000, "max_length": 2048})


def llama_3_1_8b() -> Published:
    """Grattafiori et al. 2024, table 3; the scaling of rotary positions as released."""
    arguments = LlamaArguments(
        kind="llama",
        num_layers=32,
        d_model=4096,
        num_heads=32,
        num_key_value_heads=8,
        d_ff=14_336,
        rotary_base=500_000.0,
        rotary_scaling=Llama3Scaling(kind="llama3", factor=8.0, original_length=8192),
    )
    return Published(arguments, {"vocabulary_size": 128_256, "max_length": 131_072})
