"""What a capture holds: attention maps with their proofs, activations, and the layers that were called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

Kind = Literal["self", "cross"]
Masking = Literal["none", "causal", "mask", "causal+mask"]


@dataclass(frozen=True)
class AttentionMap:
    """The attention weights of one call.

    Attributes:
        name: the module in which the call was made, as `model.named_modules` has it; "" for the model itself.
        kind: self, where queries and keys come from the same sequence, or cross.
        masking: what limits where a query may look. Told by the mask's content, not by how it was given: a triangle
            of -inf is causal. Numbers that only shift the scores, as relative positions do, are no mask.
        weights: Float[batch, heads, query, key], of the heads and queries that were asked for; before dropout, and at
            least in float32. Every row sums to one, or is zero where a query may look nowhere.
        heads: the numbers of these heads, from 0.
        queries: the places of these queries in their sequence, from 0.
        num_heads: how many heads the call has.
        num_key_value_heads: how many heads of keys and values; fewer are shared by groups of queries' heads.
        proof: the largest difference between weights · V and the model's own output of the call, over what was asked
            for. It is nan where dropout was active, because the model's output is then made of other weights.
        function: the function that the model called.
    """

    name: str
    kind: Kind
    masking: Masking
    weights: Tensor
    heads: tuple[int, ...]
    queries: tuple[int, ...]
    num_heads: int
    num_key_value_heads: int
    proof: float
    function: str


@dataclass(frozen=True)
class Layer:
    """One layer as it was called: its name in the model, its kind, its settings, its output's shape, its parameters."""

    name: str
    kind: str
    settings: str
    shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class Captured:
    """What a forward pass showed.

    Attributes:
        attention: the maps by the module's name in the order of the calls; a second call in the same module is
            `NAME#2`.
        activations: outputs of the modules that were asked for, by name in the order of their ends, each a detached
            copy; a second call is `NAME#2`, too.
        layers: every layer that has no layers inside, as it was called.
        output: what the model returned.
    """

    attention: Mapping[str, AttentionMap]
    activations: Mapping[str, Tensor]
    layers: tuple[Layer, ...]
    output: Any


def numbered(name: str, taken: Mapping[str, Any]) -> str:
    """The name, or for a further call of the same module the first of `NAME#2`, `NAME#3`, … that is free.

    >>> numbered("attention", {"attention": 1, "attention#2": 1})
    'attention#3'
    """
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}#{number}"
    return free
