"""The arguments of published models, each with where it was published; their parameter counts are tested.

>>> gpt2_xl().num_layers
48
"""

from __future__ import annotations

from typing import Literal

from glassrun.models.arguments import (
    ConvNeXtArguments,
    EncoderArguments,
    EncoderDecoderArguments,
    LanguageModelArguments,
    LeNetArguments,
    Llama3Scaling,
    LlamaArguments,
    ResNetArguments,
    VGGArguments,
    VisionTransformerArguments,
)

# --- Transformer: Vaswani et al. 2017, table 3, for one vocabulary of 37,000 tokens on both sides (section 5.1) ------


def transformer_base() -> EncoderDecoderArguments:
    """The base model."""
    return _transformer(d_model=512, num_heads=8, d_ff=2048, dropout=0.1)


def transformer_big() -> EncoderDecoderArguments:
    """The big model, with the dropout of English to German."""
    return _transformer(d_model=1024, num_heads=16, d_ff=4096, dropout=0.3)


def _transformer(*, d_model: int, num_heads: int, d_ff: int, dropout: float) -> EncoderDecoderArguments:
    return EncoderDecoderArguments(
        kind="encoder-decoder",
        encoder_layers=6,
        decoder_layers=6,
        d_model=d_model,
        num_heads=num_heads,
        d_ff=d_ff,
        dropout=dropout,
        norm="post",
        tie_embeddings="all",
    )


# --- GPT-2: Radford et al. 2019, table 2, for 50,257 tokens and texts of 1,024 ---------------------------------------


def gpt2_small() -> LanguageModelArguments:
    """124M parameters."""
    return _gpt2(num_layers=12, d_model=768, num_heads=12)


def gpt2_medium() -> LanguageModelArguments:
    """355M."""
    return _gpt2(num_layers=24, d_model=1024, num_heads=16)


def gpt2_large() -> LanguageModelArguments:
    """774M."""
    return _gpt2(num_layers=36, d_model=1280, num_heads=20)


def gpt2_xl() -> LanguageModelArguments:
    """1.5B."""
    return _gpt2(num_layers=48, d_model=1600, num_heads=25)


def _gpt2(*, num_layers: int, d_model: int, num_heads: int) -> LanguageModelArguments:
    return LanguageModelArguments(
        kind="language-model",
        num_layers=num_layers,
        d_model=d_model,
        num_heads=num_heads,
        dropout=0.1,
        activation="gelu-tanh",
    )


# --- Llama: Touvron et al. 2023, table 2, for 32,000 tokens; Grattafiori et al. 2024, table 3, for 128,256 -----------


def llama_7b() -> LlamaArguments:
    """The first one."""
    return LlamaArguments(kind="llama", num_layers=32, d_model=4096, num_heads=32, d_ff=11_008, eps=1e-6)


def llama_3_1_8b() -> LlamaArguments:
    """With grouped-query attention; how its rotary positions are scaled is in its released configuration."""
    return LlamaArguments(
        kind="llama",
        num_layers=32,
        d_model=4096,
        num_heads=32,
        num_key_value_heads=8,
        d_ff=14_336,
        rotary_base=500_000.0,
        rotary_scaling=Llama3Scaling(kind="llama3", factor=8.0, original_length=8192),
    )


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


# --- BERT: Devlin et al. 2019, section 3 -----------------------------------------------------------------------------


def bert_base() -> EncoderArguments:
    """BERT-base; its pooler and its second segment are not a recipe's: see `models.encoder.Encoder`."""
    return EncoderArguments(kind="encoder", num_layers=12, d_model=768, num_heads=12, dropout=0.1)


def bert_large() -> EncoderArguments:
    """BERT-large, likewise."""
    return EncoderArguments(kind="encoder", num_layers=24, d_model=1024, num_heads=16, dropout=0.1)


# --- Vision Transformer: Dosovitskiy et al. 2021, table 1, for images of 224 × 224 -----------------------------------


def vit_b16() -> VisionTransformerArguments:
    """ViT-B/16."""
    return _vit(num_layers=12, d_model=768, num_heads=12, patch_size=16)


def vit_b32() -> VisionTransformerArguments:
    """ViT-B/32."""
    return _vit(num_layers=12, d_model=768, num_heads=12, patch_size=32)


def vit_l16() -> VisionTransformerArguments:
    """ViT-L/16."""
    return _vit(num_layers=24, d_model=1024, num_heads=16, patch_size=16)


def _vit(*, num_layers: int, d_model: int, num_heads: int, patch_size: int) -> VisionTransformerArguments:
    return VisionTransformerArguments(
        kind="vision-transformer", num_layers=num_layers, d_model=d_model, num_heads=num_heads, patch_size=patch_size
    )
