"""Attention's second product, weights · V, in the ways it is written: which of its tensors is what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from glassrun.capturing.flow import Origin
from glassrun.capturing.functions import Factors, is_parameter


class Product(Protocol):
    """Gives the parts of a product, each with rows and columns as its last axes."""

    def weights(self, factors: Factors) -> Tensor:
        """The weights [..., query, key]."""

    def values(self, factors: Factors) -> Tensor:
        """The values [..., key, features]; axes before that they do not have may be of size one, or missing."""

    def outputs(self, output: Tensor) -> Tensor:
        """The outputs [..., query, features]."""


def second_product(factors: Factors, left: Origin, right: Origin) -> Product | None:
    """How weights are multiplied with values that were computed; None where they are not.

    Arguments:
        factors: of the product.
        left, right: what is known of each.
    """
    if left.softmaxed and not left.turned and factors.right.ndim > 1 and not is_parameter(factors.right):
        return Plain() if factors.equation is None else Equation.of(factors.equation)
    if right.softmaxed and factors.left.ndim > 1 and not is_parameter(factors.left):
        if factors.equation is not None:
            return None if right.turned else Equation.of(factors.equation, values_first=True)
        return Turned() if right.turned else None
    return None


class Plain:
    """weights · V."""

    def weights(self, factors: Factors) -> Tensor:
        return factors.left

    def values(self, factors: Factors) -> Tensor:
        return factors.right

    def outputs(self, output: Tensor) -> Tensor:
        return output


class Turned:
    """Vᵀ · weightsᵀ, as image models have it, whose features come before the places."""

    def weights(self, factors: Factors) -> Tensor:
        return factors.right.mT

    def values(self, factors: Factors) -> Tensor:
        return factors.left.mT

    def outputs(self, output: Tensor) -> Tensor:
        return output.mT


@dataclass(frozen=True)
class Equation:
    """An equation of `torch.einsum`, each axis a letter: of the weights on the left, of the values on the right.

    >>> Equation.of("b h q k, b k h d -> b q h d")
    Equation(left='bhqk', right='bkhd', output='bqhd', features='d', values_first=False)
    """

    left: str
    right: str
    output: str
    features: str
    values_first: bool = False

    @classmethod
    def of(cls, text: str, *, values_first: bool = False) -> Equation | None:
        """The equation, if it multiplies weights [..., query, key] with values over the keys, and does no more."""
        operands, arrow, output = text.replace(" ", "").partition("->")
        left, comma, right = operands.partition(",")
        if values_first:
            left, right = right, left
        if not arrow or not comma or "," in right or "." in text or len(left) < 2:
            return None
        *lead, query, key = list(left)
        features = [letter for letter in right if letter not in left]
        fits = key in right and query not in right and len(features) == 1
        whole = len(set(output)) == len(output) and set(output) == {*lead, query, *features}
        return cls(left, right, output, features[0], values_first) if fits and whole else None

    def weights(self, factors: Factors) -> Tensor:
        return factors.right if self.values_first else factors.left

    def values(self, factors: Factors) -> Tensor:
        values = factors.left if self.values_first else factors.right
        return _ordered(values, self.right, self.left[:-2] + self.left[-1] + self.features)

    def outputs(self, output: Tensor) -> Tensor:
        return _ordered(output, self.output, self.left[:-1] + self.features)


def _ordered(x: Tensor, letters: str, wanted: str) -> Tensor:
    """The axes in another order; those that it does not have are of size one."""
    there = [letter for letter in wanted if letter in letters]
    x = x.permute([letters.index(letter) for letter in there])
    for place, letter in enumerate(wanted):
        if letter not in letters:
            x = x.unsqueeze(place)
    return x
