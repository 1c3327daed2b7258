"""The arguments of every built-in model, validated before torch is imported.

One class a `kind`; its docstring says what the model is. What follows from the data (vocabulary sizes, image shape,
number of classes, longest text) is not written in a recipe: the registry passes it on.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isqrt
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from glassrun.identity import IfGiven

Probability = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1, lt=2**31)]
Factor = Annotated[float, Field(ge=1.0)]
# A test holds these against the modules that take them, which cannot be imported without torch.
Plain = Literal["relu", "gelu", "gelu-tanh", "silu", "relu2"]
Activation = Literal["relu", "gelu", "gelu-tanh", "silu", "relu2", "swiglu", "geglu", "geglu-tanh"]
MemoryFormat = Literal["contiguous", "channels_last"]
Positions = Literal["sinusoidal", "learned", "rotary", "alibi", "relative", "t5", "none"]


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
    memory_format: Annotated[MemoryFormat, IfGiven] = "contiguous"

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
    memory_format: Annotated[MemoryFormat, IfGiven] = "contiguous"

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


def _heads_divide(d_model: int, num_heads: int) -> None:
    if d_model % num_heads:
        lower = [heads for heads in range(1, isqrt(d_model) + 1) if d_model % heads == 0]
        fitting = [*lower, *(d_model // heads for heads in lower)]
        nearest = min(fitting, key=lambda heads: (abs(heads - num_heads), heads))
        raise ValueError(
            f"num_heads is {num_heads}, which does not divide d_model {d_model}; "
            f"the nearest number of heads that does is {nearest}"
        )


class TransformerArguments(Arguments):
    """What every Transformer has."""

    d_model: Positive = 128
    num_heads: Positive = 4
    d_ff: Positive | None = None  # None: four times d_model
    dropout: Probability = 0.0
    activation: Activation = "relu"
    norm: Literal["pre", "post"] = "pre"
    positions: Positions = "sinusoidal"
    tie_embeddings: bool = True

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        _heads_divide(self.d_model, self.num_heads)
        if self.positions == "rotary" and self.d_model // self.num_heads % 2:
            raise ValueError(
                f"rotary positions turn pairs of features, but d_model {self.d_model} / num_heads {self.num_heads} is "
                f"{self.d_model // self.num_heads}; make it even"
            )
        return self

    @property
    def feed_forward_width(self) -> int:
        return self.d_ff or 4 * self.d_model


class EncoderDecoderArguments(TransformerArguments):
    """The encoder-decoder Transformer of Vaswani et al. (2017)."""

    kind: Literal["encoder-decoder"]
    encoder_layers: Positive = 2
    decoder_layers: Positive = 2
    tie_embeddings: bool | Literal["all"] = True  # type: ignore[assignment]


class LanguageModelArguments(TransformerArguments):
    """A decoder-only Transformer (Radford et al. 2019): causal self-attention and feed-forward layers."""

    kind: Literal["language-model"]
    num_layers: Positive = 4
    activation: Activation = "gelu"
    positions: Positions = "learned"
    bias: bool = True


class LinearScaling(Arguments):
    """Rotary positions `factor` times as dense (Chen et al. 2023)."""

    kind: Literal["linear"]
    factor: Factor


class NTKScaling(Arguments):
    """The base of rotary positions raised, so that the slowest pair turns `factor` times as slowly."""

    kind: Literal["ntk"]
    factor: Factor


class Llama3Scaling(Arguments):
    """Pairs that turn seldom within `original_length` slowed by `factor` (Llama 3.1)."""

    kind: Literal["llama3"]
    factor: Factor
    original_length: Positive
    low_frequency_factor: Annotated[float, Field(gt=0.0)] = 1.0
    high_frequency_factor: Annotated[float, Field(gt=0.0)] = 4.0

    @model_validator(mode="after")
    def _low_is_lower(self) -> Self:
        if self.high_frequency_factor <= self.low_frequency_factor:
            raise ValueError(
                f"high_frequency_factor is {self.high_frequency_factor}; it must be above low_frequency_factor "
                f"{self.low_frequency_factor}"
            )
        return self


class YarnScaling(Arguments):
    """The same by the pairs' numbers, and attention kept as sharp (Peng et al. 2023)."""

    kind: Literal["yarn"]
    factor: Factor
    original_length: Positive
    beta_fast: Annotated[float, Field(gt=0.0)] = 32.0
    beta_slow: Annotated[float, Field(gt=0.0)] = 1.0

    @model_validator(mode="after")
    def _slow_is_slower(self) -> Self:
        if self.beta_fast <= self.beta_slow:
            raise ValueError(f"beta_fast is {self.beta_fast}; it must be above beta_slow {self.beta_slow}")
        return self


ROTARY_SCALINGS: dict[str, type[Arguments]] = {
    "linear": LinearScaling,
    "ntk": NTKScaling,
    "llama3": Llama3Scaling,
    "yarn": YarnScaling,
}


class LlamaArguments(Arguments):
    """A decoder-only Transformer as Llama is: RMS norms, rotary positions, SwiGLU, no biases."""

    kind: Literal["llama"]
    num_layers: Positive = 4
    d_model: Positive = 128
    num_heads: Positive = 4
    num_key_value_heads: Positive | None = None  # None: as many as num_heads
    d_ff: Positive | None = None  # None: 8/3 of d_model, rounded up to a multiple of 64
    dropout: Probability = 0.0
    eps: Annotated[float, Field(gt=0.0)] = 1e-5
    qk_norm: bool = False
    window: Positive | None = None  # None: all that stands before
    rotary_base: Annotated[float, Field(gt=1.0)] = 10000.0
    rotary_scaling: (
        Annotated[LinearScaling | NTKScaling | Llama3Scaling | YarnScaling, Field(discriminator="kind")] | None
    ) = None
    tie_embeddings: bool = False

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.d_model % (2 * self.num_heads):
            raise ValueError(
                f"d_model is {self.d_model}; it must be a multiple of 2 · num_heads ({2 * self.num_heads}): rotary "
                "positions turn pairs of the features of a head"
            )
        groups = self.num_key_value_heads
        if groups is not None and self.num_heads % groups:
            raise ValueError(f"num_key_value_heads is {groups}, which does not divide num_heads {self.num_heads}")
        return self

    @property
    def feed_forward_width(self) -> int:
        return self.d_ff or -(-8 * self.d_model // (3 * 64)) * 64


class EncoderArguments(TransformerArguments):
    """An encoder-only Transformer (Devlin et al. 2019) that tells hidden tokens from both sides."""

    kind: Literal["encoder"]
    num_layers: Positive = 4
    activation: Plain = "gelu"
    norm: Literal["pre", "post"] = "post"
    positions: Positions = "learned"


class VisionTransformerArguments(Arguments):
    """A Transformer on the patches of an image (Dosovitskiy et al. 2021)."""

    kind: Literal["vision-transformer"]
    patch_size: Positive = 4
    num_layers: Positive = 4
    d_model: Positive = 64
    num_heads: Positive = 4
    d_ff: Positive | None = None  # None: four times d_model
    dropout: Probability = 0.0
    activation: Activation = "gelu"
    pooling: Literal["class-token", "mean"] = "class-token"

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        _heads_divide(self.d_model, self.num_heads)
        return self

    @property
    def feed_forward_width(self) -> int:
        return self.d_ff or 4 * self.d_model


ARGUMENTS: dict[str, type[Arguments]] = {
    "cnn": CNNArguments,
    "convnext": ConvNeXtArguments,
    "encoder": EncoderArguments,
    "encoder-decoder": EncoderDecoderArguments,
    "language-model": LanguageModelArguments,
    "lenet": LeNetArguments,
    "llama": LlamaArguments,
    "resnet": ResNetArguments,
    "vgg": VGGArguments,
    "vision-transformer": VisionTransformerArguments,
}
