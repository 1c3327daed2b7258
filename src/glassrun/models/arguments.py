"""The arguments of every built-in model, validated before torch is imported.

One class a `kind`; its docstring says what the model is. What follows from the data (vocabulary sizes, image shape,
number of classes, longest text) is not written in a recipe: the registry passes it on.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Probability = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]


class Arguments(BaseModel):
    """What all argument classes share: unknown keys and wrong types are errors, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class CNNArguments(Arguments):
    """Blocks of (convolution, batch norm, ReLU) × `convolutions` and pooling, then fully connected layers."""

    kind: Literal["cnn"]
    channels: Annotated[tuple[Positive, ...], Field(min_length=1)] = (32, 64)
    convolutions: Positive = 2
    kernel_size: Positive = 3
    pooling: Literal["max", "average"] = "max"
    hidden: Positive = 128
    dropout: Probability = 0.25

    @model_validator(mode="after")
    def _kernel_has_a_centre(self) -> Self:
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {self.kernel_size}; it must be odd, so that padding keeps the size")
        return self


class LeNetArguments(Arguments):
    """LeNet-5 (LeCun et al. 1998). Its images are of 32 × 32, or of 28 × 28 with zeros around them."""

    kind: Literal["lenet"]
    padding: Annotated[int, Field(ge=0, le=2)] = 2


class VGGArguments(Arguments):
    """VGG (Simonyan & Zisserman 2015): blocks of 3 × 3 convolutions and pooling, then three fully connected layers."""

    kind: Literal["vgg"]
    channels: Annotated[tuple[Positive, ...], Field(min_length=1)] = (64, 128, 256, 512, 512)
    convolutions: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 1, 2, 2, 2)
    batch_norm: bool = False
    hidden: Positive = 4096
    dropout: Probability = 0.5

    @model_validator(mode="after")
    def _an_entry_a_block(self) -> Self:
        _same_length("channels", self.channels, "convolutions", self.convolutions)
        return self


class ResNetArguments(Arguments):
    """A residual network (He et al. 2016): stages of residual blocks, each but the first halving the maps' size."""

    kind: Literal["resnet"]
    stem: Literal["imagenet", "cifar"] = "imagenet"
    stem_channels: Positive = 64
    block: Literal["basic", "bottleneck"] = "basic"
    channels: Annotated[tuple[Positive, ...], Field(min_length=1)] = (64, 128, 256, 512)
    blocks: Annotated[tuple[Positive, ...], Field(min_length=1)] = (2, 2, 2, 2)
    shortcut: Literal["projection", "padding"] = "projection"
    norm_groups: Positive | None = None  # None: batch norm
    stochastic_depth: Probability = 0.0

    @model_validator(mode="after")
    def _an_entry_a_stage(self) -> Self:
        _same_length("channels", self.channels, "blocks", self.blocks)
        return self

    @model_validator(mode="after")
    def _groups_divide_channels(self) -> Self:
        for channels in (self.stem_channels, *self.channels):
            if self.norm_groups is not None and channels % self.norm_groups:
                raise ValueError(f"norm_groups is {self.norm_groups}, which does not divide {channels} channels")
        return self

    @model_validator(mode="after")
    def _padding_only_adds(self) -> Self:
        widths = (self.stem_channels, *(self.expansion * channels for channels in self.channels))
        fewer = next((pair for pair in pairwise(widths) if pair[1] < pair[0]), None)
        if self.shortcut == "padding" and fewer:
            raise ValueError(
                f"shortcut is padding, which can add maps but not take them away: found {fewer[1]} maps after "
                f"{fewer[0]}. Take projection"
            )
        return self

    @property
    def expansion(self) -> int:
        """How many times `channels` leave a block."""
        return 4 if self.block == "bottleneck" else 1


class ConvNeXtArguments(Arguments):
    """ConvNeXt (Liu et al. 2022): a convolutional network built as a Transformer is."""

    kind: Literal["convnext"]
    patch_size: Positive = 4
    channels: Annotated[tuple[Positive, ...], Field(min_length=1)] = (96, 192, 384, 768)
    blocks: Annotated[tuple[Positive, ...], Field(min_length=1)] = (3, 3, 9, 3)
    layer_scale: Annotated[float, Field(gt=0.0)] | None = 1e-6  # None: no layer scale
    stochastic_depth: Probability = 0.0
    final_norm_eps: Annotated[float, Field(gt=0.0)] = 1e-6

    @model_validator(mode="after")
    def _an_entry_a_stage(self) -> Self:
        _same_length("channels", self.channels, "blocks", self.blocks)
        return self


def _same_length(name: str, values: Sequence[int], other: str, others: Sequence[int]) -> None:
    if len(values) != len(others):
        raise ValueError(
            f"{name} has {len(values)} entries, but {other} {len(others)}: expected one of each for every part"
        )


class Width(Arguments):
    """What every model with attention has."""

    d_model: Positive = 128
    num_heads: Positive = 4
    d_ff: Positive | None = None  # None: four times d_model
    dropout: Probability = 0.0

    @model_validator(mode="after")
    def _heads_divide_d_model(self) -> Self:
        if self.d_model % self.num_heads:
            fitting = [heads for heads in range(1, self.d_model + 1) if self.d_model % heads == 0]
            nearest = min(fitting, key=lambda heads: (abs(heads - self.num_heads), heads))
            raise ValueError(
                f"num_heads is {self.num_heads}, which does not divide d_model {self.d_model}; "
                f"the nearest number of heads that does is {nearest}"
            )
        return self

    @property
    def feed_forward_width(self) -> int:
        return self.d_ff or 4 * self.d_model


class TransformerArguments(Width):
    """What every Transformer for text has."""

    activation: Literal["relu", "gelu"] = "relu"
    norm: Literal["pre", "post"] = "pre"
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    tie_embeddings: bool = True


class EncoderDecoderArguments(TransformerArguments):
    """The encoder-decoder Transformer of Vaswani et al. (2017)."""

    kind: Literal["encoder-decoder"]
    encoder_layers: Positive = 2
    decoder_layers: Positive = 2


class LanguageModelArguments(TransformerArguments):
    """A decoder-only Transformer (Radford et al. 2019): causal self-attention and feed-forward layers."""

    kind: Literal["language-model"]
    num_layers: Positive = 4
    activation: Literal["relu", "gelu"] = "gelu"
    positions: Literal["sinusoidal", "learned"] = "learned"
    bias: bool = True


class EncoderArguments(TransformerArguments):
    """An encoder-only Transformer (Devlin et al. 2019) that tells hidden tokens from both sides."""

    kind: Literal["encoder"]
    num_layers: Positive = 4
    activation: Literal["relu", "gelu"] = "gelu"
    norm: Literal["pre", "post"] = "post"
    positions: Literal["sinusoidal", "learned"] = "learned"


class VisionTransformerArguments(Width):
    """A Transformer on the patches of an image (Dosovitskiy et al. 2021)."""

    kind: Literal["vision-transformer"]
    num_layers: Positive = 4
    d_model: Positive = 64
    patch_size: Positive = 4
    activation: Literal["relu", "gelu"] = "gelu"
    pooling: Literal["class-token", "mean"] = "class-token"


ARGUMENTS: dict[str, type[Arguments]] = {
    "cnn": CNNArguments,
    "convnext": ConvNeXtArguments,
    "encoder": EncoderArguments,
    "encoder-decoder": EncoderDecoderArguments,
    "language-model": LanguageModelArguments,
    "lenet": LeNetArguments,
    "resnet": ResNetArguments,
    "vgg": VGGArguments,
    "vision-transformer": VisionTransformerArguments,
}
