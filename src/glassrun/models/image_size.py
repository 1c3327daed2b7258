"""What poolings leave of an image."""

from __future__ import annotations

from glassrun.errors import ModelError
from glassrun.functional.convolution import output_size

POOL = 2  # each pooling halves height and width


def pooled_size(image_height: int, image_width: int, poolings: int) -> tuple[int, int]:
    """Height and width after so many poolings over 2 × 2, one for each entry of `model.channels`.

    Raises:
        ModelError: nothing would be left.
    """
    height, width = image_height, image_width
    for _ in range(poolings):
        height, width = (output_size(size, POOL, stride=POOL) for size in (height, width))
    if min(height, width) < 1:
        raise ModelError(
            f"images of {image_height} × {image_width} are too small for {poolings} poolings, each of which "
            f"halves them: give model.channels at most {min(image_height, image_width).bit_length() - 1} entries"
        )
    return height, width
