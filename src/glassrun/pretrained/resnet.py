"""ResNet: Hugging Face's ResNetForImageClassification, and state dicts under torchvision's names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Literal

from torch import nn

from glassrun.errors import ModelError
from glassrun.models.resnet import ResNet
from glassrun.nn.residual import BOTTLENECK_EXPANSION
from glassrun.pretrained.plan import Plan, Source, layers, same, weight_and_bias
from glassrun.pretrained.settings import Settings

Block = Literal["basic", "bottleneck"]
BLOCKS: dict[str, Block] = {"basic": "basic", "bottleneck": "bottleneck"}
CONVOLUTIONS: dict[Block, int] = {"basic": 2, "bottleneck": 3}
STEM_SIZE = 7
COUNTER = "num_batches_tracked"  # of batch norm, which older files have not; it changes nothing


def block(convolution: str, norm: str) -> dict[str, Source]:
    """One of our convolution blocks, from the names of theirs."""
    parts = ("weight", "bias", "running_mean", "running_var", COUNTER)
    return {"convolution.weight": same(f"{convolution}.weight")} | {
        f"norm.{part}": same(f"{norm}.{part}") for part in parts
    }


def under(ours: str, table: Mapping[str, Source]) -> dict[str, Source]:
    """The same for a module inside of ours."""
    return {f"{ours}.{name}": source for name, source in table.items()}


def branch(kind: Block, convolution: str, norm: str, *, first: int = 0) -> dict[str, Source]:
    """All convolutions of a residual block's branch; `{}` in their names stands for the number, from `first`."""
    return {
        name: source
        for j in range(CONVOLUTIONS[kind])
        for name, source in under(f"branch.{j}", block(convolution.format(first + j), norm.format(first + j))).items()
    }


def plan(settings: Settings, names: Collection[str]) -> Plan:  # noqa: ARG001 - a family's form
    """The ImageNet form, from a config.json."""
    settings.fixed("hidden_act", "relu")
    settings.fixed("downsample_in_first_stage", False)
    settings.fixed("downsample_in_bottleneck", False)
    settings.ignore("out_features", "out_indices", "stage_names")  # of a backbone
    kind = settings.choice("layer_type", "bottleneck", BLOCKS)
    widths = settings.integers("hidden_sizes", [256, 512, 1024, 2048])
    if kind == "bottleneck" and any(width % BOTTLENECK_EXPANSION for width in widths):
        raise settings.wrong("hidden_sizes", f"multiples of {BOTTLENECK_EXPANSION}", widths)
    blocks = settings.blocks("depths", [3, 4, 6, 3], stages=len(widths))
    place = branch(kind, "layer.{}.convolution", "layer.{}.normalization")
    place |= under("shortcut", block("shortcut.convolution", "shortcut.normalization"))
    sources = {
        **under("stem.0", block("embedder.embedder.convolution", "embedder.embedder.normalization")),
        **weight_and_bias({"classify": "classifier.1"}),
    }
    for stage, count in enumerate(blocks):
        sources |= layers(count, f"stages.{stage}.{{}}.", f"encoder.stages.{stage}.layers.{{}}.", place)
    return _plan(
        sources,
        in_channels=settings.integer("num_channels", 3),
        num_classes=settings.classes(),
        stem_channels=settings.integer("embedding_size", 64),
        kind=kind,
        channels=[width // (BOTTLENECK_EXPANSION if kind == "bottleneck" else 1) for width in widths],
        blocks=blocks,
        prefix="resnet.",
    )


def torchvision(shapes: Mapping[str, tuple[int, ...]], where: str) -> Plan:
    """The ImageNet form, from the names and shapes of a state dict: there is no config beside it.

    Raises:
        ModelError: the names are not those of a ResNet, or the stem is another.
    """
    stem, last = shapes.get("conv1.weight", ()), shapes.get("fc.weight", ())
    if len(stem) != 4 or stem[2:] != (STEM_SIZE, STEM_SIZE) or len(last) != 2:
        raise ModelError(
            f"{where}: expected the weights of a ResNet for ImageNet under torchvision's names (conv1.weight of "
            f"64 × 3 × {STEM_SIZE} × {STEM_SIZE}, …, fc.weight). Of other models give the folder with their config.json"
        )
    found = [re.fullmatch(r"layer(\d{1,3})\.(\d{1,3})\.conv1\.weight", name) for name in shapes]
    pairs = sorted((int(match[1]), int(match[2])) for match in found if match)
    blocks = [sum(stage == number for number, _ in pairs) for stage in range(1, 1 + max(pairs, default=(0, 0))[0])]
    kind: Block = "bottleneck" if "layer1.0.conv3.weight" in shapes else "basic"
    channels = [shapes.get(f"layer{stage}.0.conv1.weight", (0,))[0] for stage in range(1, len(blocks) + 1)]
    if not blocks or not all(blocks) or not all(channels):
        raise ModelError(f"{where}: expected layer1.0.conv1.weight, layer1.1.conv1.weight, … without a gap")
    place = branch(kind, "conv{}", "bn{}", first=1)
    place |= under("shortcut", block("downsample.0", "downsample.1"))
    sources = {**under("stem.0", block("conv1", "bn1")), **weight_and_bias({"classify": "fc"})}
    for stage, count in enumerate(blocks):
        sources |= layers(count, f"stages.{stage}.{{}}.", f"layer{stage + 1}.{{}}.", place)
    return _plan(
        sources,
        in_channels=stem[1],
        num_classes=last[0],
        stem_channels=stem[0],
        kind=kind,
        channels=channels,
        blocks=blocks,
    )


def _plan(
    sources: dict[str, Source],
    *,
    in_channels: int,
    num_classes: int,
    stem_channels: int,
    kind: Block,
    channels: list[int],
    blocks: list[int],
    prefix: str = "",
) -> Plan:
    def build() -> nn.Module:
        return ResNet(
            in_channels, num_classes, stem_channels=stem_channels, block=kind, channels=channels, blocks=blocks
        )

    return Plan(build, sources, prefix=prefix, optional={name for name in sources if name.endswith(COUNTER)})
