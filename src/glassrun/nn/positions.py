"""Positional encodings as modules: they add to each token what tells its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from glassrun.errors import ModelError
from glassrun.functional.positions import sinusoidal_positions

if TYPE_CHECKING:
    from jaxtyping import Float


class SinusoidalPositions(nn.Module):
    """Adds the fixed sines and cosines of `functional.positions.sinusoidal_positions`.

    Arguments:
        max_length: positions in the table.
        d_model: features of a token.
    """

    def __init__(self, max_length: int, d_model: int) -> None:
        super().__init__()
        self.table: Tensor
        # Not persistent: it follows from its shape, so a checkpoint of the weights alone does not need it.
        self.register_buffer("table", sinusoidal_positions(max_length, d_model), persistent=False)

    def forward(self, x: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch length d_model"]:
        """x + PE.

        Raises:
            ModelError: x is longer than the table.
        """
        return x + _first(self.table, x.shape[1])


class LearnedPositions(nn.Module):
    """Adds a learned vector for each position (Gehring et al. 2017, section 3.1).

    Arguments:
        max_length: positions there is a vector for.
        d_model: features of a token.
    """

    def __init__(self, max_length: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_length, d_model))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch length d_model"]:
        """x + the vectors of its positions.

        Raises:
            ModelError: x is longer than there are vectors.
        """
        return x + _first(self.weight, x.shape[1])


def _first(table: Tensor, length: int) -> Tensor:
    if length > len(table):
        raise ModelError(
            f"expected at most {len(table)} tokens, which is what the model has positions for, found {length}"
        )
    return table[:length]
