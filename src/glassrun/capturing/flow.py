"""What tensors are during one pass: of which sequence, and whether they are attention's scores or weights.

A sequence has a number. Each tensor among the inputs begins one; each attention makes a new one, the sequence of its
queries with what they took. Whatever is computed from a tensor belongs to its sequence, of several to the latest. So
the queries and keys of self-attention, both made of one hidden state, have the same number, whatever was computed in
between; those of cross-attention have not, even where encoder and decoder read the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from glassrun.capturing.maps import Masking

# fmt: off
# Under these functions and methods scores stay scores and weights stay weights, whatever else goes in.
_KEEPING = frozenset((
    "add", "sub", "rsub", "radd", "mul", "rmul", "div", "truediv", "masked_fill", "where", "clamp", "maximum", "tanh",
    "nan_to_num", "expand", "getitem", "cat",
))
# Under these each element stays what it is, too.
_RESHAPING = frozenset((
    "view", "reshape", "view_as", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous", "clone", "detach",
    "to", "type", "type_as", "float", "half", "bfloat16", "double",
))
# fmt: on


@dataclass(frozen=True)
class Origin:
    """What is known of a tensor.

    Attributes:
        sequence: its number; later ones are larger, those of inputs are negative.
        factors: of scores and weights: the sequences of the queries and the keys in whose product they began.
        masking: of weights: what the scores were that the softmax was taken of.
        undropped: of weights after dropout: the weights before.
    """

    sequence: int | None
    factors: tuple[int | None, int | None] | None = None
    masking: Masking | None = None
    undropped: Tensor | None = None

    @property
    def are_weights(self) -> bool:
        return self.masking is not None


UNKNOWN = Origin(None)


class Flow:
    """The origins of all tensors of a pass that are still alive."""

    def __init__(self, inputs: Any) -> None:
        self._origins: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._sequences = 0
        for number, tensor in enumerate(tensors_in(inputs)):
            if tensor not in self._origins:
                # The first inputs count most: masks and positions come behind what they go with.
                self._origins[tensor] = Origin(-1 - number)

    def of(self, tensor: Any) -> Origin:
        """What is known of a tensor."""
        found: Origin = self._origins.get(tensor, UNKNOWN) if isinstance(tensor, Tensor) else UNKNOWN
        return found

    def mark(self, tensor: Tensor, origin: Origin) -> None:
        """Something is known of a tensor."""
        self._origins[tensor] = origin

    def mixed(self, output: Tensor) -> None:
        """An attention gave this: a new sequence."""
        self._sequences += 1
        self.mark(output, Origin(self._sequences))

    def follow(self, function: str, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        """A function was called: what it gave is of the sequences of what it was given."""
        results = list(tensors_in((output,)))
        if not results and function.startswith("__set"):  # buffer[…] = keys
            results = list(tensors_in(arguments[:1]))
        if not results:
            return
        known = [origin for x in tensors_in((arguments, named)) if (origin := self.of(x)) is not UNKNOWN]
        if not known:
            return
        kept = _kept(bare(function), known, results[0])
        origin = Origin(latest(known)) if kept is None else replace(kept, sequence=latest(known))
        for result in results:
            self.mark(result, origin)
            # A cache is written to through a view and read as a whole.
            if result._base is not None and (function.startswith("__set") or function.endswith("_")):
                self.mark(result._base, origin)


def _kept(function: str, known: list[Origin], result: Tensor) -> Origin | None:
    """Of the arguments the scores or weights that the result still is."""
    if function not in _KEEPING | _RESHAPING:
        return None
    origin = next((origin for origin in known if origin.are_weights or origin.factors), None)
    if origin is None or origin.undropped is None:
        return origin
    # What is done to weights after dropout is not done to those before; but a shape is soon given.
    return replace(origin, undropped=origin.undropped.reshape(result.shape)) if function in _RESHAPING else None


def latest(origins: Iterable[Origin]) -> int | None:
    """The latest sequence among them."""
    return max((origin.sequence for origin in origins if origin.sequence is not None), default=None)


def bare(function: str) -> str:
    """The name of a function without what marks operators and functions in place: `__truediv__` is `truediv`.

    >>> bare("__iadd__"), bare("masked_fill_"), bare("view")
    ('add', 'masked_fill', 'view')
    """
    name = function.strip("_")
    return name[1:] if function.startswith("__i") and function.endswith("__") else name


def tensors_in(values: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dictionaries."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from tensors_in(value)
    elif isinstance(values, dict):
        for value in values.values():
            yield from tensors_in(value)
