"""What tensors are during one pass: of which sequence, and whether they are attention's scores or weights.

A sequence has a number. Each tensor among the inputs begins one; each attention makes a new one, the sequence of its
queries with what they took. Whatever is computed from a tensor belongs to its sequence, of several to the latest. So
the queries and keys of self-attention, both made of one hidden state, have the same number, whatever was computed in
between; those of cross-attention have not, even where encoder and decoder read the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any
from weakref import ref

from torch import Tensor

# fmt: off
# Under these functions and methods each element of scores or weights stays what it is.
_RESHAPING = frozenset((
    "view", "reshape", "view_as", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous", "clone", "detach",
    "to", "type", "type_as", "float", "half", "bfloat16", "double",
))
# Under these scores stay scores and weights stay weights, too, whatever else goes in.
_KEEPING = _RESHAPING | frozenset((
    "add", "sub", "rsub", "radd", "mul", "rmul", "div", "truediv", "masked_fill", "where", "clamp", "maximum", "tanh",
    "nan_to_num", "expand", "getitem", "cat",
))
# Under these queries and keys of weights may change places.
_TURNING = frozenset(("transpose", "swapaxes", "swapdims", "permute", "movedim", "get"))
# fmt: on


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of a tensor.

    Attributes:
        sequence: its number; later ones are larger, those of inputs are negative.
        factors: of scores and weights: the sequences of the queries and the keys in whose product they began.
        softmaxed: whether they are weights already.
        blocked: of weights: where the scores were masked; None for nowhere, or where nobody wants to know.
        undropped: of weights after dropout: the weights before, [..., query, key].
        turned: of weights: whether queries and keys have changed places.
    """

    sequence: int | None
    factors: tuple[int | None, int | None] | None = None
    softmaxed: bool = False
    blocked: Tensor | None = None
    undropped: Tensor | None = None
    turned: bool = False


UNKNOWN = Origin(None)
_NESTED = (tuple, list, dict)


class Flow:
    """The origins of all tensors of a pass that are still alive."""

    def __init__(self, inputs: Any) -> None:
        # By the tensor's id, with a reference that takes the entry away before another tensor can have this id.
        # torch.utils.weak.WeakTensorKeyDictionary does the same, but this is asked for every argument of every call.
        self._origins: dict[int, tuple[ref[Tensor], Origin]] = {}
        self._sequences = 0
        for number, tensor in enumerate(tensors_in(inputs)):
            if self.of(tensor) is UNKNOWN:
                # The first inputs count most: masks and positions come behind what they go with.
                self.mark(tensor, Origin(-1 - number))

    def of(self, tensor: Any) -> Origin:
        """What is known of a tensor."""
        entry = self._origins.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else UNKNOWN

    def mark(self, tensor: Tensor, origin: Origin) -> None:
        """Something is known of a tensor."""
        key = id(tensor)
        self._origins[key] = ref(tensor, partial(self._origins.pop, key)), origin

    def mixed(self, output: Tensor) -> None:
        """An attention gave this: a new sequence."""
        self._sequences += 1
        self.mark(output, Origin(self._sequences))

    def follow(self, function: str, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        """A function was called: what it gave is of the sequences of what it was given."""
        writes = output is None and function == "__setitem__"  # buffer[…] = keys
        if isinstance(output, Tensor):
            results = [output]
        elif not (results := list(tensors_in(arguments[:1] if writes else output))):
            return  # sizes, types, devices: much of what a mode sees
        known = self._known(arguments)
        if named:
            known += self._known(named.values())
        if not known:
            return
        origin = Origin(latest(known))
        for attending in known:
            if attending.factors is not None:
                kept = _kept(bare(function), attending, arguments[:1], results[0])
                origin = origin if kept is None else replace(kept, sequence=origin.sequence)
                break
        for result in results:
            self.mark(result, origin)
            # A cache is written to through a view and read as a whole.
            if (writes or function.endswith("_")) and result._base is not None:
                self.mark(result._base, origin)

    def _known(self, values: Iterable[Any]) -> list[Origin]:
        """What is known of the tensors among these. Asked for every call of a pass, so without detours."""
        found: list[Origin] = []
        for x in values:
            if isinstance(x, Tensor):
                entry = self._origins.get(id(x))
                if entry is not None and entry[0]() is x:
                    found.append(entry[1])
            elif isinstance(x, _NESTED):
                found += self._known(x.values() if isinstance(x, dict) else x)
        return found


def _kept(function: str, origin: Origin, arguments: tuple[Any, ...], result: Tensor) -> Origin | None:
    """What is known of the result of a function on scores or weights, if it still is some.

    Arguments:
        function: its bare name.
        origin: of the scores or weights.
        arguments: the first one, if there is one.
        result: what it gave.
    """
    if origin.softmaxed and function in _TURNING:
        return replace(origin, turned=not origin.turned) if _is_turned(next(tensors_in(arguments)), result) else None
    if function not in _KEEPING:
        return None
    if origin.undropped is None:
        return origin
    # What is done to weights after dropout is not done to those before; but a shape is soon given.
    return replace(origin, undropped=origin.undropped.reshape(result.shape)) if function in _RESHAPING else None


def _is_turned(x: Tensor, result: Tensor) -> bool:
    """Whether the last two axes have changed places, and no more."""
    order = [*range(x.ndim - 2), x.ndim - 1, x.ndim - 2]
    return all(result.size(i) == x.size(j) and result.stride(i) == x.stride(j) for i, j in enumerate(order))


def latest(origins: Iterable[Origin]) -> int | None:
    """The latest sequence among them."""
    return max((origin.sequence for origin in origins if origin.sequence is not None), default=None)


@cache
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
        return
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, _NESTED):
        return
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, _NESTED):
            yield from tensors_in(value)
