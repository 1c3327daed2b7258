"""The arguments of published models, each with where it was published; their parameter counts are tested.

>>> resnet50().blocks
(3, 4, 6, 3)
"""

from __future__ import annotations

from typing import Literal

from glassrun.models.arguments import ConvNeXtArguments, LeNetArguments, ResNetArguments, VGGArguments

# --- LeNet: LeCun et al. 1998, for images of 32 × 32 -----------------------------------------------------------------


def lenet5() -> LeNetArguments:
    """LeNet-5."""
    return LeNetArguments(kind="lenet", padding=0)


# --- VGG: Simonyan & Zisserman 2015, table 1, for images of 224 × 224 ------------------------------------------------


def vgg11(*, batch_norm: bool = False) -> VGGArguments:
    """Configuration A."""
    return VGGArguments(kind="vgg", convolutions=(1, 1, 2, 2, 2), batch_norm=batch_norm)


def vgg13(*, batch_norm: bool = False) -> VGGArguments:
    """Configuration B."""
    return VGGArguments(kind="vgg", convolutions=(2, 2, 2, 2, 2), batch_norm=batch_norm)


def vgg16(*, batch_norm: bool = False) -> VGGArguments:
    """Configuration D."""
    return VGGArguments(kind="vgg", convolutions=(2, 2, 3, 3, 3), batch_norm=batch_norm)


def vgg19(*, batch_norm: bool = False) -> VGGArguments:
    """Configuration E."""
    return VGGArguments(kind="vgg", convolutions=(2, 2, 4, 4, 4), batch_norm=batch_norm)


# --- ResNet: He et al. 2016, table 1, for images of any size ---------------------------------------------------------


def resnet18() -> ResNetArguments:
    """18 layers, in basic blocks."""
    return ResNetArguments(kind="resnet", block="basic", blocks=(2, 2, 2, 2))


def resnet34() -> ResNetArguments:
    """34 layers, in basic blocks."""
    return ResNetArguments(kind="resnet", block="basic", blocks=(3, 4, 6, 3))


def resnet50() -> ResNetArguments:
    """50 layers, in bottlenecks."""
    return ResNetArguments(kind="resnet", block="bottleneck", blocks=(3, 4, 6, 3))


def resnet101() -> ResNetArguments:
    """101 layers, in bottlenecks."""
    return ResNetArguments(kind="resnet", block="bottleneck", blocks=(3, 4, 23, 3))


def resnet152() -> ResNetArguments:
    """152 layers, in bottlenecks."""
    return ResNetArguments(kind="resnet", block="bottleneck", blocks=(3, 8, 36, 3))


def cifar_resnet(layers: Literal[20, 32, 44, 56, 110]) -> ResNetArguments:
    """The networks for CIFAR-10 of section 4.2: 6n + 2 layers, with shortcuts of option A, as there."""
    blocks = (layers - 2) // 6
    return ResNetArguments(
        kind="resnet",
        stem="cifar",
        stem_channels=16,
        channels=(16, 32, 64),
        blocks=(blocks, blocks, blocks),
        shortcut="padding",
    )


# --- ConvNeXt: Liu et al. 2022, section 3, with the stochastic depth of table 5 --------------------------------------


def convnext_tiny() -> ConvNeXtArguments:
    """ConvNeXt-T."""
    return ConvNeXtArguments(kind="convnext", stochastic_depth=0.1)


def convnext_small() -> ConvNeXtArguments:
    """ConvNeXt-S."""
    return ConvNeXtArguments(kind="convnext", blocks=(3, 3, 27, 3), stochastic_depth=0.4)


def convnext_base() -> ConvNeXtArguments:
    """ConvNeXt-B."""
    return ConvNeXtArguments(
        kind="convnext", channels=(128, 256, 512, 1024), blocks=(3, 3, 27, 3), stochastic_depth=0.5
    )
