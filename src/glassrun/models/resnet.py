"""Residual networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from glassrun.functional.stochastic_depth import linear_rates
from glassrun.nn.convolution import ConvolutionBlock, GlobalAveragePooling, MemoryFormat, in_memory
from glassrun.nn.initialisation import Draw, he_normal, norm_or_bias, xavier_uniform
from glassrun.nn.residual import (
    BOTTLENECK_EXPANSION,
    ResidualBlock,
    basic_branch,
    bottleneck_branch,
    padding_shortcut,
    projection_shortcut,
)

if TYPE_CHECKING:
    from jaxtyping import Float

_BRANCHES = {"basic": (basic_branch, 1), "bottleneck": (bottleneck_branch, BOTTLENECK_EXPANSION)}
_SHORTCUTS = {"projection": projection_shortcut, "padding": padding_shortcut}


class ResNet(nn.Module):
    """A stem, stages of residual blocks, the mean of every map, and one fully connected layer.

    Each stage but the first begins with a stride of 2. Images of any size go through.

    Arguments:
        in_channels: of the images.
        num_classes: how many logits.
        stem: imagenet (7 × 7 with stride 2, then max pooling over 3 × 3 with stride 2) or cifar (3 × 3).
        stem_channels: its feature maps.
        block: basic (two convolutions of 3 × 3) or bottleneck (1 × 1, 3 × 3, 1 × 1).
        channels: feature maps of each stage; four times as many leave a bottleneck.
        blocks: how many in each stage.
        shortcut: what stands beside a block that changes the shape: a projection (the paper's option B) or padding with
            maps of zeros (option A, which it takes for CIFAR).
        norm_groups: of group norm; none for batch norm.
        stochastic_depth: how often the last block's branch is left out in training; see
            `functional.stochastic_depth.linear_rates` for the others.
        memory_format: in which order the feature maps lie in memory; see `nn.convolution.in_memory`.

    Source: He et al. 2016, table 1, and section 4.2 for CIFAR; see `nn.residual` for where we depart.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        stem: Literal["imagenet", "cifar"] = "imagenet",
        stem_channels: int = 64,
        block: Literal["basic", "bottleneck"] = "basic",
        channels: Sequence[int] = (64, 128, 256, 512),
        blocks: Sequence[int] = (2, 2, 2, 2),
        shortcut: Literal["projection", "padding"] = "projection",
        norm_groups: int | None = None,
        stochastic_depth: float = 0.0,
        memory_format: MemoryFormat = "contiguous",
    ) -> None:
        super().__init__()
        self.memory_format = memory_format
        self.stem = _STEMS[stem](in_channels, stem_channels, norm_groups)
        branch, expansion = _BRANCHES[block]
        beside = _SHORTCUTS[shortcut]
        rates = iter(linear_rates(stochastic_depth, sum(blocks)))
        before = stem_channels
        stages = []
        for stage, (inside, count) in enumerate(zip(channels, blocks, strict=True)):
            stage_blocks = []
            for place in range(count):
                stride = 2 if stage > 0 and place == 0 else 1
                after = expansion * inside
                stage_blocks.append(
                    ResidualBlock(
                        branch(before, inside, stride=stride, norm_groups=norm_groups),
                        beside(before, after, stride=stride, norm_groups=norm_groups),
                        stochastic_depth=next(rates),
                    )
                )
                before = after
            stages.append(nn.Sequential(*stage_blocks))
        self.stages = nn.Sequential(*stages)
        self.pooling = GlobalAveragePooling()
        self.classify = nn.Linear(before, num_classes)

    def forward(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """The logits of every class."""
        logits: Tensor = self.classify(self.pooling(self.stages(self.stem(in_memory(image, self.memory_format)))))
        return logits

    def start(self, name: str, parameter: nn.Parameter) -> Draw | float:
        """He's normal for convolutions, Xavier's uniform for the logits; norms 1, biases 0."""
        if parameter.ndim < 2:
            return norm_or_bias(name)
        return xavier_uniform() if name.startswith("classify") else he_normal


def _imagenet_stem(in_channels: int, out_channels: int, norm_groups: int | None) -> nn.Sequential:
    return nn.Sequential(
        ConvolutionBlock(in_channels, out_channels, 7, stride=2, norm_groups=norm_groups),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def _cifar_stem(in_channels: int, out_channels: int, norm_groups: int | None) -> nn.Sequential:
    return nn.Sequential(ConvolutionBlock(in_channels, out_channels, 3, norm_groups=norm_groups))


_STEMS = {"imagenet": _imagenet_stem, "cifar": _cifar_stem}
