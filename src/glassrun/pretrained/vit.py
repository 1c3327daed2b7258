"""The Vision Transformer: Hugging Face's ViTForImageClassification."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from glassrun.models.vision_transformer import VisionTransformer
from glassrun.pretrained.activations import ACTIVATIONS
from glassrun.pretrained.dropout import set_dropout
from glassrun.pretrained.plan import Plan, layers, shaped, stacked, weight_and_bias
from glassrun.pretrained.settings import Settings

SOURCES = {
    "class_token": shaped("embeddings.cls_token"),
    "positions.weight": shaped("embeddings.position_embeddings"),
    **weight_and_bias(
        {
            "patches.projection": "embeddings.patch_embeddings.projection",
            "norm": "layernorm",
            "classify": "classifier",
        }
    ),
}
LAYER = {
    **{
        f"attention.projections.{part}": stacked(
            f"attention.attention.query.{part}", f"attention.attention.key.{part}", f"attention.attention.value.{part}"
        )
        for part in ("weight", "bias")
    },
    **weight_and_bias(
        {
            "attention_residual.norm": "layernorm_before",
            "attention.output": "attention.output.dense",
            "feed_forward_residual.norm": "layernorm_after",
            "feed_forward.expand": "intermediate.dense",
            "feed_forward.contract": "output.dense",
        }
    ),
}


def plan(settings: Settings, names: Collection[str]) -> Plan:  # noqa: ARG001 - a family's form
    """The Vision Transformer with a class token."""
    settings.fixed("qkv_bias", True)
    settings.ignore("encoder_stride", "pooler_act", "pooler_output_size")  # of heads that this one is not
    height, width = settings.square("image_size", 224)
    patch_height, patch_width = settings.square("patch_size", 16)
    if patch_height != patch_width:
        raise settings.wrong("patch_size", "a square", settings.values["patch_size"])
    dropout = settings.share("hidden_dropout_prob", 0.0)
    attention = settings.share("attention_probs_dropout_prob", 0.0)
    num_layers = settings.layers("num_hidden_layers", 12)
    make = partial(
        VisionTransformer,
        in_channels=settings.integer("num_channels", 3),
        image_height=height,
        image_width=width,
        num_classes=settings.classes(),
        patch_size=patch_height,
        num_layers=num_layers,
        d_model=settings.integer("hidden_size", 768),
        num_heads=settings.integer("num_attention_heads", 12),
        d_ff=settings.integer("intermediate_size", 3072),
        activation=settings.choice("hidden_act", "gelu", ACTIVATIONS),
        eps=settings.number("layer_norm_eps", 1e-12),
    )
    sources = SOURCES | layers(num_layers, "layers.{}.", "encoder.layer.{}.", LAYER)
    return Plan(lambda: set_dropout(make(), dropout, attention=attention), sources, prefix="vit.")
