"""LeNet-5."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from glassrun.errors import ModelError
from glassrun.functional.convolution import output_size
from glassrun.nn.initialisation import Draw, norm_or_bias, xavier_uniform

if TYPE_CHECKING:
    from jaxtyping import Float

_KERNEL_SIZE = 5
_POOL = 2
_SMALLEST = 16  # pixels with the zeros around: both convolutions and poolings leave 1 of them


class LeNet(nn.Module):
    """Two convolutions of 5 × 5, each with a tanh and average pooling, then three fully connected layers.

    The layers are the paper's C1, S2, C3, S4, C5, F6 and output. We depart from it where the field does: pooling has no
    parameters and no squashing of its own; each map of C3 sees all maps of S2, not some; tanh is not stretched; the
    output is linear, for a softmax, instead of Gaussian connections to drawn characters. C5 is fully connected for
    images of any size; for those of the paper's size that is its convolution.

    Arguments:
        in_channels, image_height, image_width: the images.
        num_classes: how many logits.
        padding: zeros around the images; 2 makes the paper's 32 × 32 of 28 × 28.

    Raises:
        ModelError: the images are too small.

    Source: LeCun et al. 1998, section II.B and figure 2.
    """

    def __init__(
        self, in_channels: int, image_height: int, image_width: int, num_classes: int, *, padding: int = 2
    ) -> None:
        super().__init__()
        if min(image_height, image_width) + 2 * padding < _SMALLEST:
            raise ModelError(
                f"images of {image_height} × {image_width} are too small for LeNet: with model.padding {padding} it "
                f"needs at least {_SMALLEST - 2 * padding} × {_SMALLEST - 2 * padding}. Where data.source is images, "
                "data.image_size scales them"
            )
        height, width = (_reduced(size, padding) for size in (image_height, image_width))
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, _KERNEL_SIZE, padding=padding),
            nn.Tanh(),
            nn.AvgPool2d(_POOL),
            nn.Conv2d(6, 16, _KERNEL_SIZE),
            nn.Tanh(),
            nn.AvgPool2d(_POOL),
        )
        self.flatten = nn.Flatten()
        self.hidden = nn.Sequential(nn.Linear(16 * height * width, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh())
        self.classify = nn.Linear(84, num_classes)

    def forward(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """The logits of every class."""
        logits: Tensor = self.classify(self.hidden(self.flatten(self.features(image))))
        return logits

    def start(self, name: str, parameter: nn.Parameter) -> Draw | float:
        """Xavier's uniform, which is made for tanh; biases 0."""
        return norm_or_bias(name) if parameter.ndim < 2 else xavier_uniform()


def _reduced(size: int, padding: int) -> int:
    """What both convolutions and poolings leave of an axis."""
    for around in (padding, 0):
        size = output_size(output_size(size, _KERNEL_SIZE, padding=around), _POOL, stride=_POOL)
    return size
