"""What becomes of a map when the input is shifted: the map shifts along, or how far it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor


@dataclass(frozen=True)
class ShiftError:
    """How far an operation is from shifting its output with its input.

    Attributes:
        map: f(x), of its first channel. Float[height, width].
        map_of_shifted: f(T x).
        difference: f(T x) − T′ f(x), with T′ the shift of the map.
        inside: Bool[height, width], where neither the border nor the seam of the shift can be felt.
        error: the largest |difference| inside, over all channels, in units of the largest |f(x)|.
        error_with_border: the same over all places.
    """

    map: Tensor
    map_of_shifted: Tensor
    difference: Tensor
    inside: Tensor
    error: float
    error_with_border: float


def shifted(x: Tensor, rows: int, columns: int) -> Tensor:
    """The picture moved down and to the right; what leaves comes in again on the other side."""
    return torch.roll(x, (rows, columns), (-2, -1))


@torch.no_grad()
def shift_error(
    operation: Callable[[Tensor], Tensor], x: Tensor, shift: tuple[int, int], *, stride: int = 1, reach: int = 0
) -> ShiftError:
    """Compare f(T x) with T′ f(x): equal for an operation that is equivariant to the shift T.

    Where the stride does not divide the shift, no whole shift of the map belongs to it: that with the smallest error is
    taken.

    Arguments:
        operation: from Float[batch, channels, height, width] to maps.
        x: the input.
        shift: rows down and columns to the right, not below zero.
        stride: of the operation, all its parts together.
        reach: how many places at each border of the map may see what is outside the input.

    Source: Cohen & Welling 2016 (Group equivariant convolutional networks), equation 10; for stride and pooling: Zhang
    2019 (Making convolutional networks shift-invariant again), section 3.1.
    """
    first, second = operation(x), operation(shifted(x, *shift))
    rows, columns = (sorted({steps // stride, -(-steps // stride)}) for steps in shift)
    tried = [_compared(first, second, whole, reach) for whole in product(rows, columns)]
    return min(tried, key=lambda compared: compared.error)


def _compared(first: Tensor, second: Tensor, shift: tuple[int, int], reach: int) -> ShiftError:
    difference = second - shifted(first, *shift)
    height, width = difference.shape[-2:]
    # The first map's border moves with the map, so the shift widens it on the sides where it comes in.
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[shift[0] + reach : height - reach, shift[1] + reach : width - reach] = True
    largest = float(first.abs().max()) or 1.0
    errors = difference.abs() / largest
    return ShiftError(
        map=first[0, 0],
        map_of_shifted=second[0, 0],
        difference=difference[0, 0],
        inside=inside,
        error=float(errors[..., inside].max()),
        error_with_border=float(errors.max()),
    )
