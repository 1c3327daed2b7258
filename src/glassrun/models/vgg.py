"""VGG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from glassrun.models.image_size import POOL, pooled_size
from glassrun.nn.initialisation import Draw, he_normal, norm_or_bias, xavier_uniform

if TYPE_CHECKING:
    from jaxtyping import Float


class VGG(nn.Module):
    """Blocks of 3 × 3 convolutions with a ReLU and max pooling, then three fully connected layers.

    Arguments:
        in_channels, image_height, image_width: the images.
        num_classes: how many logits.
        channels: feature maps of each block.
        convolutions: how many in each block.
        batch_norm: whether one stands between each convolution and its ReLU, as many train it today.
        hidden: features of both fully connected layers.
        dropout: share of them set to zero in training.

    Raises:
        ModelError: the images are too small for so many poolings.

    Source: Simonyan & Zisserman 2015, table 1.
    """

    def __init__(
        self,
        in_channels: int,
        image_height: int,
        image_width: int,
        num_classes: int,
        *,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        convolutions: Sequence[int] = (1, 1, 2, 2, 2),
        batch_norm: bool = False,
        hidden: int = 4096,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        height, width = pooled_size(image_height, image_width, len(channels))
        layers: list[nn.Module] = []
        before = in_channels
        for after, count in zip(channels, convolutions, strict=True):
            for _ in range(count):
                layers.append(nn.Conv2d(before, after, 3, padding=1))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(after))
                layers.append(nn.ReLU())
                before = after
            layers.append(nn.MaxPool2d(POOL))
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        self.hidden = nn.Sequential(
            nn.Linear(before * height * width, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.classify = nn.Linear(hidden, num_classes)

    def forward(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """The logits of every class."""
        logits: Tensor = self.classify(self.hidden(self.flatten(self.features(image))))
        return logits

    def start(self, name: str, parameter: nn.Parameter) -> Draw | float:
        """He's normal before each ReLU, Xavier's uniform for the logits; norms 1, biases 0."""
        if parameter.ndim < 2:
            return norm_or_bias(name)
        return xavier_uniform() if name.startswith("classify") else he_normal
