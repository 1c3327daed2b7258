"""Sinusoidal positions: what tells attention, which is blind to order, where a token stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def sinusoidal_positions(length: int, d_model: int) -> Float[Tensor, "length d_model"]:
    """A sine and a cosine of each of d_model / 2 wavelengths, from 2π to 10000 · 2π.

        PE[p, 2i]     = sin(p / 10000^(2i / d_model))
        PE[p, 2i + 1] = cos(p / 10000^(2i / d_model))

    An odd d_model ends in a sine without its cosine. Computed in float64, so that late positions keep their digits.

    >>> sinusoidal_positions(2, 4).round(decimals=4).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.8414999842643738, 0.5403000116348267, 0.009999999776482582, 1.0]]

    Source: Vaswani et al. 2017, section 3.5.
    """
    position = torch.arange(length, dtype=torch.float64)[:, None]
    even = torch.arange(0, d_model, 2, dtype=torch.float64)
    angle = position / 10000.0 ** (even / d_model)
    table = torch.empty(length, d_model, dtype=torch.float64)
    table[:, 0::2] = torch.sin(angle)
    table[:, 1::2] = torch.cos(angle[:, : d_model // 2])
    return table.to(torch.float32)


def sinusoidal_shift(k: int, d_model: int) -> Float[Tensor, "d_model d_model"]:
    """The matrix that moves every position's encoding k positions on: PE[p + k] = T PE[p], whatever p is.

    It turns each pair of sine and cosine by the angle of k.

    >>> table = sinusoidal_positions(8, 4)
    >>> torch.allclose(sinusoidal_shift(3, 4) @ table[2], table[5], atol=1e-6)
    True

    Raises:
        ValueError: d_model is odd: the last sine would need its cosine.

    Source: Vaswani et al. 2017, section 3.5: what they chose the encoding for.
    """
    if d_model % 2:
        raise ValueError(f"d_model is {d_model}; expected an even one, so that every sine has its cosine")
    angle = k / 10000.0 ** (torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    shift = torch.zeros(d_model, d_model, dtype=torch.float64)
    even, odd = torch.arange(0, d_model, 2), torch.arange(1, d_model, 2)
    shift[even, even], shift[even, odd] = torch.cos(angle), torch.sin(angle)
    shift[odd, even], shift[odd, odd] = -torch.sin(angle), torch.cos(angle)
    return shift.to(torch.float32)
