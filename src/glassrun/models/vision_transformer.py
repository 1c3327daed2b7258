"""The Vision Transformer: an image as a sequence of patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn

from glassrun.errors import ModelError, nearest
from glassrun.nn.feedforward import Activation
from glassrun.nn.initialisation import Draw, he_normal, norm_or_bias, normal, xavier_uniform
from glassrun.nn.normalisation import LayerNorm
from glassrun.nn.patches import PatchEmbedding
from glassrun.nn.positions import LearnedPositions
from glassrun.nn.transformer import EncoderLayer

if TYPE_CHECKING:
    from jaxtyping import Float

Pooling = Literal["class-token", "mean"]


class VisionTransformer(nn.Module):
    """Patches and a class token with learned positions, pre-norm encoder layers, the logits of every class.

        z₀ = [class; E patch₁; …; E patchₙ] + positions,   zₗ = layerₗ(zₗ₋₁),   logits = W LN(z_L)[class]

    With mean pooling there is no class token, and the head reads the mean over the patches.

    The softmax is in the loss, which takes logits.

    Arguments:
        in_channels, image_height, image_width: the images; patches divide height and width.
        num_classes: how many logits.
        patch_size: height and width of a patch, in pixels.
        num_layers, d_model, num_heads, d_ff: the size.
        dropout: after the embedding and in every layer.
        activation: of the feed-forward networks.
        pooling: what the head reads, the class token or the mean over the patches.
        eps: of the layer norms.

    Raises:
        ModelError: patches do not divide the image.

    Source: Dosovitskiy et al. 2021, equations 1 to 4; the mean instead of a class token: their appendix D.3. We differ:
    the patches are drawn with He's variance at the start, and no layer starts at zero.
    """

    def __init__(
        self,
        in_channels: int,
        image_height: int,
        image_width: int,
        num_classes: int,
        *,
        patch_size: int = 4,
        num_layers: int = 4,
        d_model: int = 64,
        num_heads: int = 4,
        d_ff: int = 256,
        dropout: float = 0.0,
        activation: Activation = "gelu",
        pooling: Pooling = "class-token",
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if pooling not in get_args(Pooling):
            raise ModelError(f"pooling is {pooling!r}; {nearest(str(pooling), get_args(Pooling))}")
        if image_height % patch_size or image_width % patch_size:
            raise ModelError(
                f"patches of {patch_size} × {patch_size} do not divide images of {image_height} × {image_width}: "
                "change model.patch_size, or the images' size"
            )
        self.image_size = (image_height, image_width)
        num_patches = (image_height // patch_size) * (image_width // patch_size)
        self.patches = PatchEmbedding(in_channels, patch_size, d_model)
        self.class_token = nn.Parameter(torch.zeros(1, 1, d_model)) if pooling == "class-token" else None
        self.positions = LearnedPositions(num_patches + (pooling == "class-token"), d_model)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, num_heads, d_ff, dropout=dropout, activation=activation, norm="pre", eps=eps)
            for _ in range(num_layers)
        )
        self.norm = LayerNorm(d_model, eps=eps)
        self.classify = nn.Linear(d_model, num_classes)

    def forward(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """The logits of every class.

        Raises:
            ModelError: the image is of another size than those that the model was made for.
        """
        if image.shape[-2:] != self.image_size:
            height, width = self.image_size
            raise ModelError(
                f"expected images of {height} × {width}, which is what the model has positions for, found "
                f"{image.shape[-2]} × {image.shape[-1]}"
            )
        x = self.patches(image)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.dropout(self.positions(x))
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        pooled = x[:, 0] if self.class_token is not None else x.mean(dim=1)
        logits: Tensor = self.classify(pooled)
        return logits

    def start(self, name: str, parameter: nn.Parameter) -> Draw | float:
        """Patches He's normal, positions and class token normal with 0.02, else Xavier's uniform; norms 1, biases 0."""
        if parameter.ndim < 2:
            return norm_or_bias(name)
        if name.startswith("patches"):
            return he_normal
        if name in ("positions.weight", "class_token"):
            return normal(0.02)
        return xavier_uniform(parts=3 if name.endswith("projections.weight") else 1)
