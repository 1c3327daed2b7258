"""GPT-2: Hugging Face's GPT2LMHeadModel."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from glassrun.models.language_model import LanguageModel
from glassrun.pretrained.activations import ACTIVATIONS
from glassrun.pretrained.dropout import set_dropout
from glassrun.pretrained.plan import Plan, layers, same, turned, weight_and_bias
from glassrun.pretrained.settings import Settings

SOURCES = {
    "embedding.weight": same("wte.weight"),
    "positions.weight": same("wpe.weight"),
    **weight_and_bias({"norm": "ln_f"}),
}
LAYER = {
    **weight_and_bias({"attention_residual.norm": "ln_1", "feed_forward_residual.norm": "ln_2"}),
    "attention.projections.weight": turned("attn.c_attn.weight"),
    "attention.projections.bias": same("attn.c_attn.bias"),
    "attention.output.weight": turned("attn.c_proj.weight"),
    "attention.output.bias": same("attn.c_proj.bias"),
    "feed_forward.expand.weight": turned("mlp.c_fc.weight"),
    "feed_forward.expand.bias": same("mlp.c_fc.bias"),
    "feed_forward.contract.weight": turned("mlp.c_proj.weight"),
    "feed_forward.contract.bias": same("mlp.c_proj.bias"),
}
OUTPUT = "lm_head.weight"
MASKS = ("attn.bias", "attn.masked_bias")  # of older files: the causal mask, and what it fills in


def plan(settings: Settings, names: Collection[str]) -> Plan:  # noqa: ARG001 - a family's form
    """The language model with learned positions."""
    settings.fixed("scale_attn_weights", True)
    settings.fixed("scale_attn_by_inverse_layer_idx", False)
    settings.fixed("reorder_and_upcast_attn", False)
    settings.fixed("add_cross_attention", False)
    settings.fixed("pruned_heads", {})
    # Of a head that this one is not; n_ctx was the maximum of positions once more. Those of GPT-2 from 355M up have
    # n_special and predict_special_tokens, of an older model's code.
    settings.ignore(
        "is_decoder",
        "n_special",
        "predict_special_tokens",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
        "n_ctx",
    )
    residual, attention = settings.share("resid_pdrop", 0.1), settings.share("attn_pdrop", 0.1)
    embedding = settings.share("embd_pdrop", 0.1)
    tied = settings.flag("tie_word_embeddings", True)
    num_layers = settings.layers("n_layer", 12)
    d_model = settings.integer("n_embd", 768)
    make = partial(
        LanguageModel,
        vocabulary_size=settings.integer("vocab_size", 50257),
        max_length=settings.integer("n_positions", 1024),
        num_layers=num_layers,
        d_model=d_model,
        num_heads=settings.integer("n_head", 12),
        d_ff=settings.integer("n_inner", 4 * d_model),
        activation=settings.choice("activation_function", "gelu_new", ACTIVATIONS),
        eps=settings.number("layer_norm_epsilon", 1e-5),
        tie_embeddings=tied,
    )
    return Plan(
        lambda: set_dropout(make(), residual, attention=attention, embedding=embedding),
        SOURCES | layers(num_layers, "layers.{}.", "h.{}.", LAYER) | ({} if tied else {"output.weight": same(OUTPUT)}),
        prefix="transformer.",
        ties={OUTPUT: "wte.weight"} if tied else {},
        derived={f"h.{i}.{name}" for i in range(num_layers) for name in MASKS},
    )
