"""The arguments of published models, each with where it was published; their parameter counts are tested.

>>> gpt2_xl().num_layers
48
"""

from __future__ import annotations

from glassrun.models.arguments import EncoderDecoderArguments, LanguageModelArguments, Llama3Scaling, LlamaArguments

# --- Transformer: Vaswani et al. 2017, table 3, for one vocabulary of 37,000 tokens on both sides (section 5.1) ------


def transformer_base() -> EncoderDecoderArguments:
    """The base model."""
    return _transformer(d_model=512, num_heads=8, d_ff=2048, dropout=0.1)


def transformer_big() -> EncoderDecoderArguments:
    """The big model, with the dropout of English to German."""
    return _transformer(d_model=1024, num_heads=16, d_ff=4096, dropout=0.3)


def _transformer(*, d_model: int, num_heads: int, d_ff: int, dropout: float) -> EncoderDecoderArguments:
    return EncoderDecoderArguments(
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


# --- GPT-2: Radford et al. 2019, table 2, for 50,257 tokens and texts of 1,024 ---------------------------------------


def gpt2_small() -> LanguageModelArguments:
    """124M parameters."""
    return _gpt2(num_layers=12, d_model=768, num_heads=12)


def gpt2_medium() -> LanguageModelArguments:
    """355M."""
    return _gpt2(num_layers=24, d_model=1024, num_heads=16)


def gpt2_large() -> LanguageModelArguments:
    """774M."""
    return _gpt2(num_layers=36, d_model=1280, num_heads=20)


def gpt2_xl() -> LanguageModelArguments:
    """1.5B."""
    return _gpt2(num_layers=48, d_model=1600, num_heads=25)


def _gpt2(*, num_layers: int, d_model: int, num_heads: int) -> LanguageModelArguments:
    return LanguageModelArguments(
        kind="language-model",
        num_layers=num_layers,
        d_model=d_model,
        num_heads=num_heads,
        dropout=0.1,
        activation="gelu-tanh",
    )


# --- Llama: Touvron et al. 2023, table 2, for 32,000 tokens; Grattafiori et al. 2024, table 3, for 128,256 -----------


def llama_7b() -> LlamaArguments:
    """The first one."""
    return LlamaArguments(kind="llama", num_layers=32, d_model=4096, num_heads=32, d_ff=11_008, eps=1e-6)


def llama_3_1_8b() -> LlamaArguments:
    """With grouped-query attention; how its rotary positions are scaled is in its released configuration."""
    return LlamaArguments(
        kind="llama",
        num_layers=32,
        d_model=4096,
        num_heads=32,
        num_key_value_heads=8,
        d_ff=14_336,
        rotary_base=500_000.0,
        rotary_scaling=Llama3Scaling(kind="llama3", factor=8.0, original_length=8192),
    )
