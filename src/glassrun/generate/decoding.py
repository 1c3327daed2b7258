"""How the next token is chosen: the likeliest, one that is drawn, or the best of several texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from sys import float_info
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glassrun.errors import ConfigError
from glassrun.functional.sampling import drawn, top_k, top_p
from glassrun.keys import derive

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_SEED = 1


@dataclass(frozen=True)
class Greedy:
    """The likeliest token at every place."""

    def choose(
        self,
        logits: Float[Tensor, "rows vocabulary"],
        keys: Sequence[int],  # noqa: ARG002 - nothing is drawn
        place: int,  # noqa: ARG002
    ) -> Int[Tensor, " rows"]:
        """A token for each row."""
        return logits.argmax(-1)


@dataclass(frozen=True)
class Sampling:
    """A token drawn from softmax(logits / temperature), among the likeliest alone if so asked.

    Arguments:
        temperature: above 0; 1 draws as the model was trained.
        top_k: among the k likeliest.
        top_p: among the likeliest that have the share p together; of those that `top_k` leaves.
        seed: the token at place i is drawn with the key (seed, what stands before, i), whatever else is in the batch.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = _SEED

    def choose(self, logits: Float[Tensor, "rows vocabulary"], keys: Sequence[int], place: int) -> Int[Tensor, " rows"]:
        """A token for each row.

        Arguments:
            logits: of the rows.
            keys: of what each row began with (see `key`).
            place: how many tokens were written before.
        """
        # The largest is taken off first: a temperature near zero would else make infinities of the others, and NaN.
        scaled = (logits - logits.amax(-1, keepdim=True)) / self.temperature
        if self.top_k is not None:
            scaled = top_k(scaled, self.top_k)
        if self.top_p is not None:
            scaled = top_p(scaled, self.top_p)
        numbers = [derive(self.seed, "sample", key, place) / 2.0**63 for key in keys]
        return drawn(scaled, torch.tensor(numbers, dtype=torch.float64).clamp(max=1.0 - 2.0**-53))


@dataclass(frozen=True)
class Beams:
    """The best of several texts that are written side by side (see `generate.beams`).

    Arguments:
        beams: how many texts are kept at every place.
        length_penalty: α of Wu et al. 2016, equation 14; 0 prefers short texts, 1 long ones. At most 10.
    """

    beams: int
    length_penalty: float = 0.6


Decoding = Greedy | Sampling | Beams


def key(tokens: Sequence[int]) -> int:
    """What stands before, as a number."""
    return derive(0, "prompt", *map(int, tokens))


def decoding(
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    beams: int | None = None,
    length_penalty: float | None = None,
    usual_temperature: float,
) -> Decoding:
    """The way to choose that these settings ask for; None is a setting that was not given.

    Arguments:
        temperature: 0 takes the likeliest token.
        top_k, top_p, seed: see `Sampling`.
        beams, length_penalty: see `Beams`.
        usual_temperature: where nothing says otherwise.

    Raises:
        ConfigError: a value is out of range, or a setting would be ignored.
    """
    _in_range("temperature", temperature, 0.0, float_info.max, "a number from 0 up")
    _in_range("top-k", top_k, 1, math.inf, "a whole number from 1 up")
    _in_range("top-p", top_p, math.ulp(0.0), 1.0, "a number above 0 and at most 1")
    _in_range("seed", seed, 0, 2**63 - 1, "a whole number from 0 up")
    _in_range("beams", beams, 1, 2**10, "a whole number from 1 to 1024")
    _in_range("length-penalty", length_penalty, 0.0, 10.0, "a number from 0 to 10")
    drawing = {"top-k": top_k, "top-p": top_p, "seed": seed}
    if beams is not None:
        _ignored(drawing | {"temperature": temperature}, "beam search draws nothing")
        return Beams(beams) if length_penalty is None else Beams(beams, length_penalty)
    _ignored({"length-penalty": length_penalty}, "it goes with beams")
    if temperature is None and any(value is not None for value in drawing.values()):
        temperature = usual_temperature or 1.0  # who says how to draw wants to
    chosen = usual_temperature if temperature is None else temperature
    if not chosen:
        _ignored(drawing, "at temperature 0 nothing is drawn")
        return Greedy()
    return Sampling(chosen, top_k, top_p, _SEED if seed is None else seed)


def _in_range(name: str, value: Any, least: float, most: float, expected: str) -> None:
    whole = name in ("top-k", "seed", "beams")
    fits = type(value) is int or (not whole and isinstance(value, float) and math.isfinite(value))
    if value is not None and not (fits and least <= value <= most):
        raise ConfigError(f"{name} {value}: expected {expected}")


def _ignored(settings: dict[str, Any], why: str) -> None:
    given = [name for name, value in settings.items() if value is not None]
    if given:
        raise ConfigError(
            f"{' and '.join(given)} would be ignored: {why}. Leave {'it' if len(given) == 1 else 'them'} out"
        )
