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
        masking: what limits where a query may look.
        weights: Float[batch, heads, query, key], of the heads and queries that were asked for; before dropout.
        heads: the numbers of these heads, from 0.
        queries: the places of these queries in their sequence, from 0.
        num_heads: how many heads the call has.
        num_key_value_heads: how many heads of keys and values; fewer are shared by groups of queries' heads.
        proof: the largest difference between weights · V and the model's own output, over what was asked for.
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
        activations: outputs of the modules that were asked for, by name, each detached.
        layers: every layer that has no layers inside, as it was called.
        output: what the model returned.
    """

    attention: Mapping[str, AttentionMap]
    activations: Mapping[str, Tensor]
    layers: tuple[Layer, ...]
    output: Any
