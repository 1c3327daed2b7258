"""A convolutional network for images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from glassrun.models.image_size import POOL, pooled_size
from glassrun.nn.convolution import ConvolutionBlock, MemoryFormat, in_memory
from glassrun.nn.initialisation import Draw, he_normal, norm_or_bias, xavier_uniform

if TYPE_CHECKING:
    from jaxtyping import Float


class CNN(nn.Module):
    """Blocks of (convolution → batch norm → ReLU) and a pooling, then flatten and two fully connected layers.

    The softmax is in the loss, which takes logits.

    Arguments:
        in_channels, image_height, image_width: the images.
        num_classes: how many logits.
        channels: feature maps of each block.
        convolutions: how many in a block.
        kernel_size: odd; zeros around the image keep its size.
        pooling: max or average, over 2 × 2.
        hidden: features of the fully connected layer.
        dropout: share of them set to zero in training.
        memory_format: in which order the feature maps lie in memory; see `nn.convolution.in_memory`.

    Raises:
        ModelError: the images are too small for so many poolings.

    Source: the plan of Simonyan & Zisserman 2015, with batch norm (Ioffe & Szegedy 2015).
    """

    def __init__(
        self,
        in_channels: int,
        image_height: int,
        image_width: int,
        num_classes: int,
        *,
        channels: Sequence[int] = (32, 64),
        convolutions: int = 2,
        kernel_size: int = 3,
        pooling: Literal["max", "average"] = "max",
        hidden: int = 128,
        dropout: float = 0.25,
        memory_format: MemoryFormat = "contiguous",
    ) -> None:
        super().__init__()
        self.memory_format = memory_format
        height, width = pooled_size(image_height, image_width, len(channels))
        layers: list[nn.Module] = []
        before = in_channels
        for after in channels:
            for _ in range(convolutions):
                layers.append(ConvolutionBlock(before, after, kernel_size))
                before = after
            layers.append(nn.MaxPool2d(POOL) if pooling == "max" else nn.AvgPool2d(POOL))
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(before * height * width, hidden)
        self.activation = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(hidden, num_classes)

    def forward(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """The logits of every class."""
        x = self.features(in_memory(image, self.memory_format))
        x = self.flatten(x)
        x = self.dropout(self.activation(self.hidden(x)))
        logits: Tensor = self.classify(x)
        return logits

    def start(self, name: str, parameter: nn.Parameter) -> Draw | float:
        """He's normal before each ReLU, Xavier's uniform for the logits; norms 1, biases 0."""
        if parameter.ndim < 2:
            return norm_or_bias(name)
        return xavier_uniform() if name.startswith("classify") else he_normal
