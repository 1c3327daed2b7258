"""Rotary position embedding (Su et al. 2021): queries and keys are turned, so that their product knows the distance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def rotary_frequencies(d_k: int, base: float = 10000.0) -> Float[Tensor, " half"]:
    """How far each pair of features turns from one position to the next, in radians: θ_i = base^(−2i / d_k).

    In float64, so that late positions keep their digits.

    >>> rotary_frequencies(4).tolist()
    [1.0, 0.01]

    Source: Su et al. 2021, section 3.2.2, equation 15.
    """
    return base ** (-torch.arange(0, d_k, 2, dtype=torch.float64) / d_k)


def rotary_table(
    frequencies: Float[Tensor, " half"], length: int
) -> tuple[Float[Tensor, "length half"], Float[Tensor, "length half"]]:
    """The cosine and the sine of every position's angles, in float32."""
    position = torch.arange(length, dtype=torch.float64, device=frequencies.device)
    angle = position[:, None] * frequencies
    return torch.cos(angle).float(), torch.sin(angle).float()


def rotate(
    x: Float[Tensor, "*batch length d_k"], cosine: Float[Tensor, "length half"], sine: Float[Tensor, "length half"]
) -> Float[Tensor, "*batch length d_k"]:
    """Turn each pair of features by its position's angle.

        (x_i, x_j) → (x_i cos − x_j sin, x_j cos + x_i sin),   j = i + d_k / 2

    Arguments:
        x: queries or keys, Float[batch…, length, d_k].
        cosine, sine: of the positions of these tokens, Float[length, d_k / 2].

    >>> cosine, sine = torch.tensor([[0.0]]), torch.tensor([[1.0]])
    >>> rotate(torch.tensor([[3.0, 5.0]]), cosine, sine).tolist()
    [[-5.0, 3.0]]

    Source: Su et al. 2021, equation 34. We differ: their pairs are neighbours; here, as in GPT-NeoX and Llama as
    Hugging Face keeps it, feature i goes with i + d_k / 2. That is another order of the same features.
    """
    cosine, sine = cosine.to(x.dtype), sine.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def linear_scaling(frequencies: Float[Tensor, " half"], *, factor: float) -> Float[Tensor, " half"]:
    """Positions `factor` times as dense: every frequency divided by it.

    Source: Chen et al. 2023 (position interpolation), equation 4.
    """
    return frequencies / factor


def ntk_scaling(frequencies: Float[Tensor, " half"], *, factor: float) -> Float[Tensor, " half"]:
    """The slowest pair slowed by `factor`, the fastest left alone, those between by powers of it.

        θ_i · factor^(−2i / (d_k − 2)),   which is the base times factor^(d_k / (d_k − 2))

    Source: "NTK-aware" scaling, from Peng et al. 2023 (YaRN), section 3.1, equation 16.
    """
    place = torch.arange(len(frequencies), dtype=frequencies.dtype, device=frequencies.device)
    return frequencies * factor ** (-place / max(len(frequencies) - 1, 1))


def llama3_scaling(
    frequencies: Float[Tensor, " half"],
    *,
    factor: float,
    original_length: int,
    low_frequency_factor: float = 1.0,
    high_frequency_factor: float = 4.0,
) -> Float[Tensor, " half"]:
    """Pairs that turn often within the original length left alone, those that hardly turn slowed by `factor`.

    Arguments:
        frequencies: of `rotary_frequencies`.
        factor: how much longer the texts are.
        original_length: of the texts that the model was trained on.
        low_frequency_factor: with so few turns or fewer, slowed in full.
        high_frequency_factor: with so many turns or more, left alone; between the two a straight line.

    Source: Llama 3.1 (Grattafiori et al. 2024), its code.
    """
    turns = original_length * frequencies / (2 * math.pi)
    kept = ((turns - low_frequency_factor) / (high_frequency_factor - low_frequency_factor)).clamp(0.0, 1.0)
    return kept * frequencies + (1 - kept) * frequencies / factor


def yarn_scaling(
    frequencies: Float[Tensor, " half"],
    *,
    factor: float,
    original_length: int,
    base: float = 10000.0,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
) -> Float[Tensor, " half"]:
    """As `llama3_scaling`, with the straight line over the pairs' numbers instead of their turns.

    Arguments:
        frequencies: of `rotary_frequencies`.
        factor: how much longer the texts are.
        original_length: of the texts that the model was trained on.
        base: of the frequencies.
        beta_fast: pairs that turn so often or more are left alone.
        beta_slow: pairs that turn so seldom or less are slowed in full.

    Source: Peng et al. 2023, section 3.2, with the borders rounded outwards as in their code. It goes with
    `yarn_amplitude`.
    """

    def place(turns: float) -> float:
        """The number of the pair that turns so often within the original length."""
        return len(frequencies) * math.log(original_length / (turns * 2 * math.pi)) / math.log(base)

    first = max(math.floor(place(beta_fast)), 0)
    last = min(math.ceil(place(beta_slow)), 2 * len(frequencies) - 1)
    number = torch.arange(len(frequencies), dtype=frequencies.dtype, device=frequencies.device)
    slowed = ((number - first) / max(last - first, 0.001)).clamp(0.0, 1.0)
    return (1 - slowed) * frequencies + slowed * frequencies / factor


def yarn_amplitude(factor: float) -> float:
    """What cosine and sine are multiplied with, so that attention stays as sharp: 0.1 · ln(factor) + 1, and 1 below 1.

    Source: Peng et al. 2023, section 3.3, equation 22.
    """
    return 0.1 * math.log(max(factor, 1.0)) + 1.0
