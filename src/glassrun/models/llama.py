"""Llama: the decoder-only Transformer with RMS norms, rotary positions, a SwiGLU network and no biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassrun.models.language_model import LanguageModel


def llama(
    vocabulary_size: int,
    max_length: int,
    *,
    num_layers: int = 4,
    d_model: int = 128,
    num_heads: int = 4,
    num_key_value_heads: int | None = None,
    d_ff: int = 384,
    dropout: float = 0.0,
    eps: float = 1e-5,
    qk_norm: bool = False,
    window: int | None = None,
    rotary_base: float = 10000.0,
    rotary_scaling: Mapping[str, Any] | None = None,
    tie_embeddings: bool = False,
) -> LanguageModel:
    """A `LanguageModel` of that form; the arguments are its.

    Source: Touvron et al. 2023, section 2.2; grouped-query attention as in Llama 2 (70B) and 3, scaled rotary
    positions as in Llama 3.1, `window` as in Mistral 7B, `qk_norm` as in Qwen3. We differ: parameters start as those
    of GPT-2, for the paper does not say how they do.
    """
    return LanguageModel(
        vocabulary_size,
        max_length,
        num_layers=num_layers,
        d_model=d_model,
        num_heads=num_heads,
        num_key_value_heads=num_key_value_heads,
        d_ff=d_ff,
        dropout=dropout,
        activation="swiglu",
        norm="pre",
        bias=False,
        normalisation="rms",
        eps=eps,
        qk_norm=qk_norm,
        window=window,
        positions="rotary",
        rotary_base=rotary_base,
        rotary_scaling=rotary_scaling,
        tie_embeddings=tie_embeddings,
    )
