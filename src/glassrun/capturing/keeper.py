"""Keeps what is wanted of a pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from glassrun.capturing.attentions import AttentionCall
from glassrun.capturing.layers import are_layers, described
from glassrun.capturing.maps import AttentionMap, Layer, numbered
from glassrun.capturing.path import Path
from glassrun.capturing.selection import Budget, Chosen, Modules, places, size
from glassrun.errors import CaptureError


class Keeper:
    """The maps, activations and layers of a pass.

    Arguments:
        model: whose pass it is.
        attention, activations: the modules that are wanted.
        heads, queries: those that are wanted of each map; None for all.
        budget: for all together.
    """

    def __init__(
        self,
        model: nn.Module,
        attention: Modules,
        activations: Modules,
        heads: tuple[int, ...] | None,
        queries: tuple[int, ...] | None,
        budget: Budget,
    ) -> None:
        self._model, self._layers = model, set(are_layers(model))
        self._attention, self._activations = attention, activations
        self._heads, self._queries, self._budget = heads, queries, budget
        self.path = Path(self._left)
        self.maps: dict[str, AttentionMap] = {}
        self.outputs: dict[str, Tensor] = {}
        self.layers: list[Layer] = []
        self.attending: list[str] = []  # the modules that made an attention call, wanted or not
        self.left: set[str] = set()  # the modules that were called

    # --- modules

    def _left(self, name: str, module: nn.Module, output: Any) -> None:
        self.left.add(name)
        tensor = first_tensor(output)
        if tensor is None:
            return
        if self._activations.has(name):
            bytes_of = tensor.numel() * tensor.element_size()
            self._budget.take(
                bytes_of, f"the output of {name or 'the model'}, {tuple(tensor.shape)},", "Ask for fewer activations=…"
            )
            # A copy: the next module may work in place.
            self.outputs[numbered(name, self.outputs)] = tensor.detach().clone()
        if name in self._layers:
            self.layers.append(described(name, module, tensor))

    # --- attention

    def attends(self) -> bool:
        """An attention call comes; whether its map is wanted."""
        self.attending.append(self.path.name)
        return self.wanted()

    def wanted(self) -> bool:
        """Whether maps of the module that is running are wanted."""
        return self._attention.reaches(self.path.name)

    def inputs(self) -> list[Tensor]:
        """The tensors that this module was called with."""
        return self.path.inputs

    def described(self) -> str:
        """The module, for messages."""
        return self.path.described()

    def choose(self, batch: int, heads: int, queries: int, keys: int) -> Chosen:
        """The heads and queries that are wanted of a call of these sizes.

        Raises:
            CaptureError: they are out of range, the call is empty, or the map would not fit the budget.
        """
        name = f"the attention of {self.path.name or 'the model'}"
        if not batch * heads * queries * keys:
            raise CaptureError(f"{name} has {queries} queries and {keys} keys; give the model at least one token")
        chosen = places(self._heads, heads, "heads", name), places(self._queries, queries, "queries", name)
        row = keys * torch.float32.itemsize
        self._budget.take(
            batch * len(chosen[0]) * len(chosen[1]) * row,
            f"{name}, {batch} × {len(chosen[0])} heads × {len(chosen[1])} queries × {keys} keys,",
            f"Ask for less: queries=[…] or heads=[…] (one row of one head takes {size(row)}), attention=[…] for fewer "
            "modules",
        )
        return chosen

    def keep(self, call: AttentionCall, chosen: Chosen) -> None:
        """Make the map of a call.

        Raises:
            CaptureError: its weights are not finite.
        """
        heads, queries = (torch.tensor(places, device=call.output.device) for places in chosen)
        weights = call.weights(heads, queries)
        proof = math.nan if call.dropped else call.difference(weights, heads, queries)
        if not torch.isfinite(weights).all() or (not call.dropped and not math.isfinite(proof)):
            raise CaptureError(f"{self.path.described()} attends with numbers that are not finite: {self._unfit()}")
        name = self.path.name
        self.maps[numbered(name, self.maps)] = AttentionMap(
            name=name,
            kind=call.kind,
            masking=call.masking,
            weights=weights,
            heads=chosen[0],
            queries=chosen[1],
            num_heads=call.output.shape[1],
            num_key_value_heads=call.num_key_value_heads,
            proof=proof,
            function=call.function,
        )

    def _unfit(self) -> str:
        """Which parameters are not finite either."""
        names = [name for name, p in self._model.named_parameters() if not torch.isfinite(p).all()]
        if not names:
            return "all parameters are finite, so look at the inputs, and for a query whose keys are all masked"
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return f"so is the parameter {names[0]}{more}; load weights that are finite"


def first_tensor(output: Any) -> Tensor | None:
    """What a module returned, or the first tensor in it: of a tuple, a list, a dictionary or a `ModelOutput`."""
    if isinstance(output, Tensor):
        return output
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    return next((value for value in values if isinstance(value, Tensor)), None)
