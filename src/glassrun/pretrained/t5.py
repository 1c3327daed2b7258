"""T5 and its version 1.1: Hugging Face's T5ForConditionalGeneration."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import partial
from typing import get_args

from glassrun.models.encoder_decoder import EncoderDecoder
from glassrun.nn.feedforward import Activation, Gated
from glassrun.pretrained.dropout import set_dropout
from glassrun.pretrained.plan import Plan, Source, layers, same, scaled, stacked
from glassrun.pretrained.settings import Settings

ACTIVATIONS: dict[str, Activation] = {
    "relu": "relu",
    "gelu": "gelu",
    "silu": "silu",
    "gated-gelu": "geglu-tanh",  # whatever the name says: their code takes the tanh form
    "gated-silu": "swiglu",
}
NO_LIMIT = 2**15  # to the length that positions by distance can tell; what writes a text wants one
UNREAD = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"  # of older files; in no formula
EMBEDDING, OUTPUT = "shared.weight", "lm_head.weight"


def attention(ours: str, theirs: str, d_k: int) -> dict[str, Source]:
    """Queries √d_k times as large: T5 does not divide the scores by it."""
    parts = (f"{theirs}.{part}.weight" for part in "qkv")
    return {
        f"{ours}.projections.weight": stacked(*parts, factors=(math.sqrt(d_k), 1.0, 1.0)),
        f"{ours}.output.weight": same(f"{theirs}.o.weight"),
    }


def feed_forward(number: int, gated: bool) -> dict[str, Source]:
    """The part of a block with this number."""
    part = f"layer.{number}.DenseReluDense"
    expand = {"gate": "wi_0", "expand": "wi_1"} if gated else {"expand": "wi"}
    return {
        "feed_forward_residual.norm.weight": same(f"layer.{number}.layer_norm.weight"),
        "feed_forward.contract.weight": same(f"{part}.wo.weight"),
        **{f"feed_forward.{ours}.weight": same(f"{part}.{theirs}.weight") for ours, theirs in expand.items()},
    }


def encoder_layer(d_k: int, gated: bool) -> dict[str, Source]:
    return {
        **attention("attention", "layer.0.SelfAttention", d_k),
        "attention_residual.norm.weight": same("layer.0.layer_norm.weight"),
        **feed_forward(1, gated),
    }


def decoder_layer(d_k: int, gated: bool) -> dict[str, Source]:
    return {
        **attention("self_attention", "layer.0.SelfAttention", d_k),
        "self_attention_residual.norm.weight": same("layer.0.layer_norm.weight"),
        **attention("cross_attention", "layer.1.EncDecAttention", d_k),
        "cross_attention_residual.norm.weight": same("layer.1.layer_norm.weight"),
        **feed_forward(2, gated),
    }


def plan(settings: Settings, names: Collection[str]) -> Plan:
    """The encoder-decoder with T5's position biases.

    T5 does not scale embeddings, ours does by √d_model: they are taken 1 / √d_model times as large. That is also what
    T5 scales the logits by where their weights are the embedding's, so there the two agree.
    """
    settings.fixed("relative_attention_num_buckets", 32)
    settings.fixed("relative_attention_max_distance", 128)
    settings.fixed("is_decoder", False)
    settings.fixed("is_encoder_decoder", True)
    settings.ignore("classifier_dropout", "n_positions")
    said = settings.flag("tie_word_embeddings", True)
    scales_logits = settings.flag("scale_decoder_outputs", said)
    tied = said or OUTPUT not in names
    dropout = settings.share("dropout_rate", 0.1)
    activation = settings.choice("feed_forward_proj", "relu", ACTIVATIONS)
    gated = activation in get_args(Gated)
    form = settings.values.get("feed_forward_proj", "relu")
    # What their code computes with: it follows from the form, unless a file says otherwise.
    settings.fixed("dense_act_fn", "gelu_new" if form == "gated-gelu" else form.removeprefix("gated-"))
    settings.fixed("is_gated_act", gated)
    encoder_layers = settings.layers("num_layers", 6)
    decoder_layers = settings.layers("num_decoder_layers", encoder_layers)
    vocabulary_size = settings.integer("vocab_size", 32128)
    d_model, d_k = settings.integer("d_model", 512), settings.integer("d_kv", 64)
    make = partial(
        EncoderDecoder,
        source_vocabulary_size=vocabulary_size,
        target_vocabulary_size=vocabulary_size,
        max_length=NO_LIMIT,
        padding_token=settings.token("pad_token_id", 0),
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        d_model=d_model,
        num_heads=settings.integer("num_heads", 8),
        d_ff=settings.integer("d_ff", 2048),
        d_k=d_k,
        activation=activation,
        norm="pre",
        bias=False,
        normalisation="rms",
        eps=settings.number("layer_norm_epsilon", 1e-6),
        positions="t5",
        tie_embeddings="all" if tied and scales_logits else False,
    )
    sources = {
        "source_embedding.weight": scaled(EMBEDDING, d_model**-0.5),
        "target_embedding.weight": scaled(EMBEDDING, d_model**-0.5),
        "output.weight": scaled(EMBEDDING if tied else OUTPUT, d_model**-0.5 if scales_logits else 1.0),
        "encoder.0.attention.score_bias.weight": same(
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        ),
        "decoder.0.self_attention.score_bias.weight": same(
            "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        ),
        "encoder_norm.weight": same("encoder.final_layer_norm.weight"),
        "decoder_norm.weight": same("decoder.final_layer_norm.weight"),
        **layers(encoder_layers, "encoder.{}.", "encoder.block.{}.", encoder_layer(d_k, gated)),
        **layers(decoder_layers, "decoder.{}.", "decoder.block.{}.", decoder_layer(d_k, gated)),
    }
    shared = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", *((OUTPUT,) if tied else ()))
    return Plan(
        lambda: set_dropout(make(), dropout, attention=dropout),
        sources,
        ties=dict.fromkeys(shared, EMBEDDING),
        derived={UNREAD},
    )
