"""From an image to a sequence: one vector for each patch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float


class PatchEmbedding(nn.Module):
    """Cut an image into patches side by side, and map each linearly to d_model features.

        z[i] = E · flatten(patchᵢ) + b

    The patches are counted row by row. A convolution whose stride is its size is the same map at every patch.

    Arguments:
        in_channels: of the image.
        patch_size: height and width of a patch, in pixels; what does not fill a patch at the right and below is left
            out.
        d_model: features of a patch.

    Source: Dosovitskiy et al. 2021, equation 1.
    """

    def __init__(self, in_channels: int, patch_size: int, d_model: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(in_channels, d_model, patch_size, stride=patch_size)

    def forward(self, image: Float[Tensor, "batch in_channels height width"]) -> Float[Tensor, "batch patch d_model"]:
        """The patches' features."""
        patches: Tensor = self.projection(image).flatten(2).transpose(1, 2)
        return patches
