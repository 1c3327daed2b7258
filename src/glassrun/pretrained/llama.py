"""Llama: Hugging Face's LlamaForCausalLM, with grouped queries and scaled rotary positions."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

from glassrun.models.language_model import LanguageModel
from glassrun.nn.feedforward import Gated
from glassrun.pretrained.dropout import set_dropout
from glassrun.pretrained.plan import Plan, Source, layers, same, stacked
from glassrun.pretrained.settings import Settings

GATES: dict[str, Gated] = {
    "silu": "swiglu",
    "swish": "swiglu",
    "gelu": "geglu",
    "gelu_new": "geglu-tanh",
    "gelu_pytorch_tanh": "geglu-tanh",
}
SOURCES = {"embedding.weight": same("model.embed_tokens.weight"), "norm.weight": same("model.norm.weight")}
NORMS = {
    "attention_residual.norm.weight": same("input_layernorm.weight"),
    "feed_forward_residual.norm.weight": same("post_attention_layernorm.weight"),
}
OUTPUT = "lm_head.weight"
FREQUENCIES = "model.layers.{}.self_attn.rotary_emb.inv_freq"  # of older files


def linear_layers(part: str, num_heads: int, groups: int) -> dict[str, Source]:
    """A layer's weights, or its biases."""
    projections = (f"self_attn.{name}_proj.{part}" for name in "qkv")
    return {
        f"attention.projections.{part}": stacked(*projections, shares=(num_heads, groups, groups)),
        f"attention.output.{part}": same(f"self_attn.o_proj.{part}"),
        f"feed_forward.gate.{part}": same(f"mlp.gate_proj.{part}"),
        f"feed_forward.expand.{part}": same(f"mlp.up_proj.{part}"),
        f"feed_forward.contract.{part}": same(f"mlp.down_proj.{part}"),
    }


def plan(settings: Settings, names: Collection[str]) -> Plan:  # noqa: ARG001 - a family's form
    """The language model with RMS norms, rotary positions and gates."""
    bias = settings.flag("attention_bias", False)
    settings.fixed("mlp_bias", bias)
    settings.ignore("pretraining_tp")  # how a product was divided, not what it is
    attention = settings.share("attention_dropout", 0.0)
    tied = settings.flag("tie_word_embeddings", False)
    num_layers = settings.layers("num_hidden_layers", 32)
    d_model = settings.integer("hidden_size", 4096)
    num_heads = settings.integer("num_attention_heads", 32)
    groups = settings.integer("num_key_value_heads", num_heads)
    settings.fixed("head_dim", d_model // num_heads, None)
    max_length = settings.integer("max_position_embeddings", 2048)
    base, scaling = rotary(settings, max_length)
    make = partial(
        LanguageModel,
        vocabulary_size=settings.integer("vocab_size", 32000),
        max_length=max_length,
        num_layers=num_layers,
        d_model=d_model,
        num_heads=num_heads,
        num_key_value_heads=groups,
        d_ff=settings.integer("intermediate_size", 11008),
        activation=settings.choice("hidden_act", "silu", GATES),
        bias=bias,
        normalisation="rms",
        eps=settings.number("rms_norm_eps", 1e-6),
        positions="rotary",
        rotary_base=base,
        rotary_scaling=scaling,
        tie_embeddings=tied,
    )
    table = (
        NORMS | linear_layers("weight", num_heads, groups) | (linear_layers("bias", num_heads, groups) if bias else {})
    )
    return Plan(
        lambda: set_dropout(make(), 0.0, attention=attention),
        SOURCES
        | layers(num_layers, "layers.{}.", "model.layers.{}.", table)
        | ({} if tied else {"output.weight": same(OUTPUT)}),
        ties={OUTPUT: "model.embed_tokens.weight"} if tied else {},
        derived={FREQUENCIES.format(i) for i in range(num_layers)},
    )


def rotary(settings: Settings, max_length: int) -> tuple[float, dict[str, Any] | None]:
    """The base of the frequencies and their scaling: under `rope_parameters`, in older files `rope_scaling`."""
    base = settings.positive("rope_theta", 10000.0)
    found = settings.mapping("rope_parameters") or settings.mapping("rope_scaling")
    if found is None:
        return base, None
    base = found.positive("rope_theta", base)
    found.ignore("type")  # the older name of rope_type
    kind = found.choice("rope_type", found.values.get("type", "default"), SCALINGS)
    scaling = None if kind is None else kind(found, max_length)
    if kind is _yarn and base <= 1:
        raise found.wrong("rope_theta", "a number above 1 for yarn", base)
    found.finish()
    return base, scaling


def _linear(found: Settings, _: int) -> dict[str, Any]:
    return {"kind": "linear", "factor": found.positive("factor")}


def _llama3(found: Settings, max_length: int) -> dict[str, Any]:
    low, high = found.positive("low_freq_factor", 1.0), found.positive("high_freq_factor", 4.0)
    if high <= low:
        raise found.wrong("high_freq_factor", f"a number above low_freq_factor, {low}", high)
    return {
        "kind": "llama3",
        "factor": found.positive("factor"),
        "original_length": found.integer("original_max_position_embeddings", max_length),
        "low_frequency_factor": low,
        "high_frequency_factor": high,
    }


def _yarn(found: Settings, max_length: int) -> dict[str, Any]:
    found.fixed("attention_factor", None)
    found.fixed("truncate", True)
    return {
        "kind": "yarn",
        "factor": found.positive("factor"),
        "original_length": found.integer("original_max_position_embeddings", max_length),
        "beta_fast": found.positive("beta_fast", 32.0),
        "beta_slow": found.positive("beta_slow", 1.0),
    }


SCALINGS = {"default": None, "linear": _linear, "llama3": _llama3, "yarn": _yarn}
