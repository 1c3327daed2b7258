"""ConvNeXt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from glassrun.errors import ModelError
from glassrun.functional.stochastic_depth import linear_rates
from glassrun.nn.convnext import ConvNeXtBlock
from glassrun.nn.convolution import GlobalAveragePooling
from glassrun.nn.feature_maps import ChannelLayerNorm
from glassrun.nn.initialisation import Draw, norm_or_bias, normal

if TYPE_CHECKING:
    from jaxtyping import Float

_DOWNSAMPLING = 2


class ConvNeXt(nn.Module):
    """Patches as a stem, stages of ConvNeXt blocks, the mean of every map, a norm, and one fully connected layer.

    Before each stage but the first, a norm and a convolution of 2 × 2 with stride 2 halve the maps' size.

    Arguments:
        in_channels, image_height, image_width: the images.
        num_classes: how many logits.
        patch_size: of the stem's convolution and its stride: 4 in the paper, less for small images.
        channels: feature maps of each stage.
        blocks: how many in each stage.
        layer_scale: see `nn.convnext.ConvNeXtBlock`.
        stochastic_depth: how often the last block's branch is left out in training; see
            `functional.stochastic_depth.linear_rates` for the others.
        final_norm_eps: of the norm before the logits.

    Raises:
        ModelError: the images are too small for the patches and stages.

    Source: Liu et al. 2022, section 3 and table 9.
    """

    def __init__(
        self,
        in_channels: int,
        image_height: int,
        image_width: int,
        num_classes: int,
        *,
        patch_size: int = 4,
        channels: Sequence[int] = (96, 192, 384, 768),
        blocks: Sequence[int] = (3, 3, 9, 3),
        layer_scale: float | None = 1e-6,
        stochastic_depth: float = 0.0,
        final_norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        smallest = patch_size * _DOWNSAMPLING ** (len(channels) - 1)
        if min(image_height, image_width) < smallest:
            raise ModelError(
                f"images of {image_height} × {image_width} are too small for patches of {patch_size} × {patch_size} "
                f"and {len(channels)} stages, which need {smallest} × {smallest}: make model.patch_size smaller, give "
                "model.channels and model.blocks fewer entries, or scale the images (data.image_size, where the source "
                "is images)"
            )
        self.layer_scale = layer_scale
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels[0], patch_size, stride=patch_size), ChannelLayerNorm(channels[0])
        )
        rates = iter(linear_rates(stochastic_depth, sum(blocks)))
        stages: list[nn.Module] = []
        before = channels[0]
        for stage, (after, count) in enumerate(zip(channels, blocks, strict=True)):
            layers: list[nn.Module] = []
            if stage > 0:
                layers += [
                    ChannelLayerNorm(before),
                    nn.Conv2d(before, after, _DOWNSAMPLING, stride=_DOWNSAMPLING),
                ]
            layers += [
                ConvNeXtBlock(after, layer_scale=layer_scale, stochastic_depth=next(rates)) for _ in range(count)
            ]
            stages.append(nn.Sequential(*layers))
            before = after
        self.stages = nn.Sequential(*stages)
        self.pooling = GlobalAveragePooling()
        self.norm = nn.LayerNorm(before, eps=final_norm_eps)
        self.classify = nn.Linear(before, num_classes)

    def forward(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """The logits of every class."""
        logits: Tensor = self.classify(self.norm(self.pooling(self.stages(self.stem(image)))))
        return logits

    def start(self, name: str, parameter: nn.Parameter) -> Draw | float:
        """Normal of standard deviation 0.02; layer scale as given, norms 1, biases 0."""
        if parameter.ndim >= 2:
            return normal(0.02)
        if name.endswith(".scale"):
            assert self.layer_scale is not None, "there is a scale"
            return self.layer_scale
        return norm_or_bias(name)
