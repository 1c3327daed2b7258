"""Networks for images that differ in the one thing that a study asks about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from variants import started

from glassrun.look.sharing_study import SmallNetwork
from glassrun.models.resnet import ResNet
from glassrun.nn.convolution import ConvolutionBlock, GlobalAveragePooling
from glassrun.nn.initialisation import Draw, he_normal, norm_or_bias, xavier_uniform


def start(name: str, parameter: nn.Parameter) -> Draw | float:
    """He's normal for convolutions, Xavier's uniform for the logits; norms 1, biases 0: as glassrun's own networks."""
    if parameter.ndim < 2:
        return norm_or_bias(name)
    return xavier_uniform() if name.startswith("classify") else he_normal


# --- how maps become smaller -----------------------------------------------------------------------------------------


class ShrinkingCNN(nn.Module):
    """Blocks of two convolutions whose maps become half as wide and high in one of three ways, and a linear classifier.

    All three have the same parameters, and maps of the same sizes.

    Arguments:
        in_channels, image_height, image_width, num_classes: of the data.
        shrink: "max pooling" or "average pooling" over 2 × 2 after the second convolution, or "stride": the second
            convolution has a stride of 2, and nothing is pooled (Springenberg et al. 2015, section 2).
        channels: maps of each block.
        margin: pixels of background that are put around every image, so that it can be shifted without being cut.
    """

    def __init__(
        self,
        in_channels: int,
        image_height: int,
        image_width: int,
        num_classes: int,
        *,
        shrink: str,
        channels: Sequence[int],
        margin: int,
    ) -> None:
        super().__init__()
        self.margin = margin
        height, width = image_height + 2 * margin, image_width + 2 * margin
        layers: list[nn.Module] = []
        before = in_channels
        for after in channels:
            stride = 2 if shrink == "stride" else 1
            layers += [ConvolutionBlock(before, after, 3), ConvolutionBlock(after, after, 3, stride=stride)]
            if shrink != "stride":
                # A stride rounds odd sizes up, so the poolings must.
                pool = {"max pooling": nn.MaxPool2d, "average pooling": nn.AvgPool2d}[shrink]
                layers.append(pool(2, ceil_mode=True))
            before, height, width = after, -(-height // 2), -(-width // 2)
        self.features = nn.Sequential(*layers)
        self.classify = nn.Linear(before * height * width, num_classes)

    def framed(self, image: Tensor) -> Tensor:
        """The images with their margin, in the value of their first pixel."""
        margin = self.margin
        height, width = image.shape[-2] + 2 * margin, image.shape[-1] + 2 * margin
        out = image[..., :1, :1].expand(*image.shape[:2], height, width).clone()
        out[..., margin : height - margin, margin : width - margin] = image
        return out

    def of_framed(self, framed: Tensor) -> Tensor:
        """The logits of images that have their margin already."""
        logits: Tensor = self.classify(self.features(framed).flatten(1))
        return logits

    def forward(self, image: Tensor) -> Tensor:
        """The logits of every class: Float[batch, classes]."""
        return self.of_framed(self.framed(image))

    start = staticmethod(start)


def shrinking_cnn(
    in_channels: int, image_height: int, image_width: int, num_classes: int, **model: Any
) -> ShrinkingCNN:
    return started(ShrinkingCNN(in_channels, image_height, image_width, num_classes, **model))


# --- with and without batch norm -------------------------------------------------------------------------------------


class PlainCNN(nn.Module):
    """Convolutions of 3 × 3, each with a ReLU, with or without batch norm; the mean of every map; a linear classifier.

    Arguments:
        in_channels, num_classes: of the data.
        batch_norm: between each convolution and its ReLU. Without it the convolutions have biases.
        channels: maps of each convolution.
        strides: of each.
    """

    def __init__(
        self, in_channels: int, num_classes: int, *, batch_norm: bool, channels: Sequence[int], strides: Sequence[int]
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = in_channels
        for after, stride in zip(channels, strides, strict=True):
            if batch_norm:
                layers.append(ConvolutionBlock(before, after, 3, stride=stride))
            else:
                layers += [nn.Conv2d(before, after, 3, stride, padding=1), nn.ReLU()]
            before = after
        self.features = nn.Sequential(*layers)
        self.pooling = GlobalAveragePooling()
        self.classify = nn.Linear(before, num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """The logits of every class: Float[batch, classes]."""
        logits: Tensor = self.classify(self.pooling(self.features(image)))
        return logits

    start = staticmethod(start)


def plain_cnn(
    in_channels: int, num_classes: int, *, batch_norm: bool, channels: Sequence[int], strides: Sequence[int]
) -> PlainCNN:
    return started(PlainCNN(in_channels, num_classes, batch_norm=batch_norm, channels=channels, strides=strides))


# --- with and without skip connections -------------------------------------------------------------------------------


class NoShortcut(nn.Module):
    """Nothing beside a branch: a residual block becomes two plain convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        """Zero, of no axes: what is added to it stays as it is."""
        return x.new_zeros(())


def resnet(
    in_channels: int,
    num_classes: int,
    *,
    skips: bool,
    stem_channels: int,
    channels: Sequence[int],
    blocks: Sequence[int],
) -> ResNet:
    """A residual network for small images, or the same without its skip connections; both have the same parameters.

    Arguments:
        in_channels, num_classes: of the data.
        skips: whether they are there. They have no parameters (He et al. 2016, option A).
        stem_channels, channels, blocks: see `ResNet`.
    """
    made = ResNet(
        in_channels,
        num_classes,
        stem="cifar",
        stem_channels=stem_channels,
        channels=channels,
        blocks=blocks,
        shortcut="padding",
    )
    if not skips:
        for stage in made.stages:
            for block in stage:
                block.shortcut = NoShortcut()
    return started(made)


# --- with and without parameter sharing ------------------------------------------------------------------------------


def sharing_network(
    in_channels: int, image_height: int, image_width: int, num_classes: int, *, layers: str
) -> SmallNetwork:
    """The network of the exhibit on parameter sharing; `layers` is one of `sharing_study.KINDS`."""
    return started(SmallNetwork(layers, (in_channels, image_height, image_width), num_classes))


def loss_of_guessing(shares: Tensor) -> float:
    """The least cross-entropy without a look at the image: that of the classes' own shares, ln K where all are equal.

    Arguments:
        shares: of each class, Float[classes]; they sum to one.
    """
    return float(-(shares * shares.clamp_min(1e-12).log()).sum())


def cross_entropy_and_accuracy(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Means over examples."""
    loss = F.cross_entropy(logits.double(), labels)
    return float(loss), float((logits.argmax(-1) == labels).double().mean())
