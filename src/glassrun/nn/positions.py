"""Positions as modules: added to the tokens, turned into queries and keys, or added to the scores of attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from glassrun.errors import ModelError
from glassrun.functional.positions import sinusoidal_positions
from glassrun.functional.relative_positions import alibi_bias, alibi_slopes, relative_bias, t5_bias
from glassrun.functional.rotary import rotary_table, rotate

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# --- added to the tokens ---------------------------------------------------------------------------------------------


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

    def forward(
        self, x: Float[Tensor, "batch length d_model"], places: Int[Tensor, "#batch length"] | None = None
    ) -> Float[Tensor, "batch length d_model"]:
        """x + PE.

        Arguments:
            x: Float[batch, length, d_model].
            places: where each token stands, counted from 0; None for 0, 1, 2, …

        Raises:
            ModelError: a token stands behind the table's end.
        """
        return x + _rows(self.table, x.shape[1], places)


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

    def forward(
        self, x: Float[Tensor, "batch length d_model"], places: Int[Tensor, "#batch length"] | None = None
    ) -> Float[Tensor, "batch length d_model"]:
        """x + the vectors of its positions; `places` as for `SinusoidalPositions`.

        Raises:
            ModelError: a token stands where there is no vector.
        """
        return x + _rows(self.weight, x.shape[1], places)


class NoPositions(nn.Module):
    """Adds nothing: for attention that knows positions itself, or none at all."""

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        places: Int[Tensor, "#batch length"] | None = None,  # noqa: ARG002 - as the others are called
    ) -> Float[Tensor, "batch length d_model"]:
        """x."""
        return x


def _rows(table: Tensor, length: int, places: Tensor | None) -> Tensor:
    if places is not None:
        length = int(places.max()) + 1
    if length > len(table):
        raise ModelError(
            f"expected at most {len(table)} tokens, which is what the model has positions for, found {length}"
        )
    return table[:length] if places is None else table[places]


# --- turned into queries and keys ------------------------------------------------------------------------------------


class RotaryPositions(nn.Module):
    """Turns queries and keys by the angles of their positions; see `functional.rotary`.

    Layers may share one.

    Arguments:
        frequencies: of `rotary_frequencies`, scaled or not.
        max_length: positions in the table.
        amplitude: cosine and sine are multiplied with it (see `yarn_amplitude`).
    """

    def __init__(self, frequencies: Float[Tensor, " half"], max_length: int, *, amplitude: float = 1.0) -> None:
        super().__init__()
        self.cosine: Tensor
        self.sine: Tensor
        for name, table in zip(("cosine", "sine"), rotary_table(frequencies, max_length), strict=True):
            self.register_buffer(name, table * amplitude, persistent=False)

    def forward(
        self, x: Float[Tensor, "batch heads length d_k"], start: int = 0
    ) -> Float[Tensor, "batch heads length d_k"]:
        """x turned; its first token stands at `start`.

        Raises:
            ModelError: a token stands behind the table's end, or has another number of features.
        """
        end = start + x.shape[-2]
        if end > len(self.cosine):
            raise ModelError(
                f"expected at most {len(self.cosine)} tokens, which is what the model has positions for, found {end}"
            )
        if x.shape[-1] != 2 * self.cosine.shape[-1]:
            raise ModelError(
                f"rotary positions turn {2 * self.cosine.shape[-1]} features of a head, found {x.shape[-1]}: "
                "d_k must be even, and the frequencies made for it"
            )
        return rotate(x, self.cosine[start:end], self.sine[start:end])


# --- added to the scores ---------------------------------------------------------------------------------------------


class ALiBi(nn.Module):
    """−slope · |distance| on every score, another slope for each head; see `functional.relative_positions`.

    Layers may share one.

    Arguments:
        num_heads: of the attention.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.slopes: Tensor
        self.register_buffer("slopes", alibi_slopes(num_heads), persistent=False)

    def forward(self, query: Float[Tensor, "batch heads query d_k"], keys: int) -> Float[Tensor, "heads query key"]:
        """The bias for these queries, the last of which stands at the last key."""
        return alibi_bias(self.slopes, query.shape[-2], keys)


class T5Bias(nn.Module):
    """A learned number for each head and bucket of distances; see `functional.relative_positions.t5_bias`.

    Layers share one, as in T5.

    Arguments:
        num_heads: of the attention.
        bidirectional: whether keys behind the query have buckets of their own.
        num_buckets: how many buckets.
        max_distance: all that is as far or farther shares one.
    """

    def __init__(self, num_heads: int, *, bidirectional: bool, num_buckets: int = 32, max_distance: int = 128) -> None:
        super().__init__()
        self.bidirectional = bidirectional
        self.max_distance = max_distance
        self.weight = nn.Parameter(torch.empty(num_buckets, num_heads))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, query: Float[Tensor, "batch heads query d_k"], keys: int) -> Float[Tensor, "heads query key"]:
        """The bias for these queries, the last of which stands at the last key."""
        return t5_bias(
            self.weight, query.shape[-2], keys, bidirectional=self.bidirectional, max_distance=self.max_distance
        )


class RelativePositions(nn.Module):
    """q · a / √d_k with a learned vector a for each distance; see `functional.relative_positions.relative_bias`.

    Each layer has its own.

    Arguments:
        d_k: features of a head; heads share the vectors.
        reach: distances from −reach to reach have a vector; what is farther away takes the last.
    """

    def __init__(self, d_k: int, *, reach: int = 16) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2 * reach + 1, d_k))
        nn.init.normal_(self.weight, std=0.02)

    def forward(
        self, query: Float[Tensor, "batch heads query d_k"], keys: int
    ) -> Float[Tensor, "batch heads query key"]:
        """The bias for these queries, the last of which stands at the last key."""
        return relative_bias(query, self.weight, keys)
