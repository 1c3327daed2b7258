"""Filters whose effect is known, to show what a filter does before it is learned.

Each is a kernel for one grey image with values from 0 to 1. Those that look for something sum to zero and are scaled so
that their weights above zero sum to one: flat parts give 0, and no value is outside −1 to 1. The blur sums to one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def vertical_edge() -> Tensor:
    """Sobel's derivative along the columns: positive where it gets brighter to the right. Float[3, 3].

    Source: Duda & Hart 1973 (Pattern classification and scene analysis), section 7.3, who name Sobel.
    """
    return _balanced(torch.outer(_SMOOTH, _DERIVATIVE))


def horizontal_edge() -> Tensor:
    """Sobel's derivative along the rows: positive where it gets brighter downwards. Float[3, 3]."""
    return _balanced(torch.outer(_DERIVATIVE, _SMOOTH))


def corner() -> Tensor:
    """The mixed second derivative, ∂²/∂row ∂column: 0 along upright and level edges, not at a corner. Float[3, 3]."""
    return _balanced(torch.outer(_DERIVATIVE, _DERIVATIVE))


def texture(*, wavelength: float = 4.0, angle: float = 0.0, size: int = 11) -> Tensor:
    """A Gabor filter, a wave under a bell: it answers to stripes of its wavelength and direction. Float[size, size].

        k(r, c) = exp(−(r² + c²) / 2σ²) · cos(2π (c cos angle + r sin angle) / wavelength) − mean,   σ = wavelength / 2

    Arguments:
        wavelength: of the stripes, in pixels.
        angle: of the direction across the stripes, in radians from the columns' axis: at 0 the stripes stand upright.
        size: odd.

    Source: Daugman 1985, equation 2, its real part.
    """
    places = torch.arange(size, dtype=torch.float32) - size // 2
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    bell = torch.exp(-(rows**2 + columns**2) / (2 * (wavelength / 2) ** 2))
    wave = torch.cos(2 * math.pi * (columns * math.cos(angle) + rows * math.sin(angle)) / wavelength)
    kernel = bell * wave
    return _balanced(kernel - bell * (kernel.sum() / bell.sum()))


def blur(size: int = 9) -> Tensor:
    """The binomial approximation of a Gaussian, whose weights sum to one. Float[size, size]."""
    row = torch.tensor([float(math.comb(size - 1, place)) for place in range(size)])
    kernel = torch.outer(row, row)
    return kernel / kernel.sum()


def edge_in_depth() -> Tensor:
    """Sobel's derivative along the first axis of a volume: positive where slices get brighter. Float[3, 3, 3]."""
    return _balanced(_DERIVATIVE[:, None, None] * torch.outer(_SMOOTH, _SMOOTH))


_SMOOTH = torch.tensor([1.0, 2.0, 1.0])
_DERIVATIVE = torch.tensor([-1.0, 0.0, 1.0])


def _balanced(kernel: Tensor) -> Tensor:
    """Scaled so that what is above zero sums to one; what is below then sums to minus one."""
    return kernel / kernel.clamp(min=0).sum()
