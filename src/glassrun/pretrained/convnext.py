"""ConvNeXt: Hugging Face's ConvNextForImageClassification."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from glassrun.models.convnext import ConvNeXt
from glassrun.pretrained.plan import Plan, layers, same, weight_and_bias
from glassrun.pretrained.settings import Settings

ENDS = weight_and_bias(
    {
        "stem.0": "embeddings.patch_embeddings",
        "stem.1": "embeddings.layernorm",
        "norm": "layernorm",
        "classify": "classifier",
    }
)
BLOCK = {
    **weight_and_bias(
        {
            "depthwise": "dwconv",
            "norm": "layernorm",
            "feed_forward.expand": "pwconv1",
            "feed_forward.contract": "pwconv2",
        }
    ),
    "scale": same("layer_scale_parameter"),
}
DOWNSAMPLING = 2  # modules, which stand before the blocks of each stage but the first


def plan(settings: Settings, names: Collection[str]) -> Plan:  # noqa: ARG001 - a family's form
    """The classifier of images."""
    settings.fixed("hidden_act", "gelu")
    settings.ignore("out_features", "out_indices", "stage_names")  # of a backbone
    height, width = settings.square("image_size", 224)
    channels = settings.integers("hidden_sizes", [96, 192, 384, 768])
    settings.fixed("num_stages", len(channels))
    blocks = settings.blocks("depths", [3, 3, 9, 3], stages=len(channels))
    layer_scale = settings.number("layer_scale_init_value", 1e-6)
    stochastic_depth = settings.share("drop_path_rate", 0.0)
    eps = settings.number("layer_norm_eps", 1e-12)
    sizes = {
        "in_channels": settings.integer("num_channels", 3),
        "num_classes": settings.classes(),
        "patch_size": settings.integer("patch_size", 4),
    }

    def build() -> nn.Module:
        return ConvNeXt(
            image_height=height,
            image_width=width,
            channels=channels,
            blocks=blocks,
            layer_scale=layer_scale or None,
            stochastic_depth=stochastic_depth,
            final_norm_eps=eps,
            **sizes,
        )

    sources = dict(ENDS)
    for stage, count in enumerate(blocks):
        theirs = f"encoder.stages.{stage}."
        before = DOWNSAMPLING if stage else 0
        sources |= weight_and_bias({f"stages.{stage}.{i}": f"{theirs}downsampling_layer.{i}" for i in range(before)})
        for number in range(count):
            sources |= layers(1, f"stages.{stage}.{before + number}.", f"{theirs}layers.{number}.", BLOCK)
    return Plan(build, sources, prefix="convnext.")
