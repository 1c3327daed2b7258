"""The arguments of every built-in model, validated before torch is imported.

One class a `kind`; its docstring says what the model is. What follows from the data (vocabulary sizes, image shape,
number of classes, longest text) is not written in a recipe: the registry passes it on.
"""

from __future__ import annotations

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
    "encoder": EncoderArguments,
    "encoder-decoder": EncoderDecoderArguments,
    "language-model": LanguageModelArguments,
    "vision-transformer": VisionTransformerArguments,
}
