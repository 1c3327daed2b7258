"""Attention's second product as an equation of `torch.einsum`: which axis of which operand is what."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Equation:
    """weights, values -> output, each a letter an axis.

    >>> Equation.of("b h q k, b k h d -> b q h d")
    Equation(weights='bhqk', value='bkhd', output='bqhd', features='d')
    """

    weights: str
    value: str
    output: str
    features: str

    @classmethod
    def of(cls, text: str) -> Equation | None:
        """The equation, if it multiplies weights [..., query, key] with values over the keys, and does no more."""
        operands, arrow, output = text.replace(" ", "").partition("->")
        weights, comma, value = operands.partition(",")
        if not arrow or not comma or "," in value or "." in text or len(weights) < 2:
            return None
        *lead, query, key = list(weights)
        features = [letter for letter in value if letter not in weights]
        fits = key in value and query not in value and len(features) == 1
        whole = len(set(output)) == len(output) and set(output) == {*lead, query, *features}
        return cls(weights, value, output, features[0]) if fits and whole else None

    def values(self, value: Tensor) -> Tensor:
        """The values as [..., key, features]; axes of the weights that they do not have are of size one."""
        return _ordered(value, self.value, self.weights[:-2] + self.weights[-1] + self.features)

    def outputs(self, output: Tensor) -> Tensor:
        """The output as [..., query, features]."""
        return _ordered(output, self.output, self.weights[:-1] + self.features)


def _ordered(x: Tensor, letters: str, wanted: str) -> Tensor:
    there = [letter for letter in wanted if letter in letters]
    x = x.permute([letters.index(letter) for letter in there])
    for place, letter in enumerate(wanted):
        if letter not in letters:
            x = x.unsqueeze(place)
    return x
