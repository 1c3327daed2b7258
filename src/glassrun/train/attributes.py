"""What the user's modules and task keep beside parameters and buffers, put back after every slice.

A counter, a list or a cached tensor on `self` would else carry something from one slice into the next, and so make the
bits depend on which worker computed which slice, and be lost when a run is resumed. What must live on belongs into a
buffer. Generators of their own cannot be put back without drawing the same in every slice: they are set from the key
of the slice, as the default ones are.

Seen are attributes of any kind, and the contents of tensors, arrays, lists, dictionaries, sets and queues, also inside
one another. What an object of another class holds is not seen.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glassrun.generators import set_generator, set_generators
from glassrun.keys import derive
from glassrun.train.buffers import same_bits
from glassrun.train.memory import owned

Restore = Callable[[], None]

_OURS = ("glassrun.", "torch.")  # these keep no such state, so looking at them would only take time
_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"training"}
_IN_A_HIDDEN_MODULE = ("_parameters", "_buffers", "_modules")
_GENERATORS = (torch.Generator, np.random.Generator, np.random.BitGenerator, np.random.RandomState, random.Random)


class Attributes:
    """What a model and its task keep, as it was when this was made; it must be so at the start of every slice."""

    def __init__(self, model: nn.Module, task: object) -> None:
        self._bindings: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._contents: list[Restore] = []
        self._generators: list[tuple[str, Any]] = []
        if only_ours(model, task):
            return
        self._modules = {id(module) for module in model.modules()}
        # A view of a parameter or a buffer is looked after where those are.
        self._elsewhere = {_storage(tensor) for tensor in [*model.parameters(), *model.buffers()]}
        self._seen: dict[int, object] = {}
        for name, module in model.named_modules():
            self._hold(f"model.{name}", module, _OF_EVERY_MODULE)
        self._hold("task", task, frozenset())

    def set_generators(self, seed: int, *purpose: str | int) -> None:
        """Set the default generators, and those that the model and the task own, from the key of (seed, purpose)."""
        set_generators(seed, *purpose)
        for name, generator in self._generators:
            set_generator(generator, derive(seed, *purpose, name))

    def restore(self) -> None:
        """Make everything what it was; what is new goes."""
        for now, before in self._bindings:
            if not _same_dictionary(now, before):
                now.clear()
                now.update(before)
        for restore in self._contents:
            restore()

    def _hold(self, name: str, holder: object, left_out: Iterable[str]) -> None:
        attributes = getattr(holder, "__dict__", {})
        self._bindings.append((attributes, dict(attributes)))
        for key, value in attributes.items():
            if key not in left_out:
                self._contents.extend(list(self._keep(f"{name}.{key}", value)))

    def _keep(self, name: str, value: Any) -> Iterator[Restore]:
        """How to put back the contents of a value."""
        if id(value) in self._seen or id(value) in self._modules:
            return
        if isinstance(value, _GENERATORS):
            self._seen[id(value)] = value
            self._generators.append((name, value))
        elif isinstance(value, Tensor):
            if value.layout == torch.strided and not value.is_meta and _storage(value) not in self._elsewhere:
                yield _kept_tensor(value)
        elif isinstance(value, np.ndarray):
            if value.flags.writeable:
                yield _kept_array(value)
        elif isinstance(value, nn.Module):  # one that was hidden from the model, in a list for instance
            self._seen[id(value)] = value
            self._hold(name, value, _OF_EVERY_MODULE.difference(_IN_A_HIDDEN_MODULE))
        elif isinstance(value, (dict, list, deque, set, bytearray, tuple)):
            self._seen[id(value)] = value
            yield from _kept_container(value)
            if isinstance(value, dict):
                for key, item in value.items():
                    yield from self._keep(f"{name}[{key!r}]", item)
            elif isinstance(value, (list, deque, tuple)):
                for place, item in enumerate(value):
                    yield from self._keep(f"{name}[{place}]", item)


def only_ours(model: nn.Module, task: object) -> bool:
    """Whether both are glassrun's own."""
    return all(type(thing).__module__.startswith(_OURS) for thing in [task, *model.modules()])


def _storage(tensor: Tensor) -> int:
    """Which memory a tensor lies in; 0 for none."""
    return 0 if tensor.layout != torch.strided else tensor.untyped_storage().data_ptr()


def _kept_tensor(tensor: Tensor) -> Restore:
    before = owned(tensor)

    def restore() -> None:
        now = tensor.detach()
        if (now.shape, now.dtype) != (before.shape, before.dtype):
            now = tensor.data = owned(before)
        if not same_bits(now, before):
            now.copy_(before)

    return restore


def _kept_array(array: np.ndarray[Any, Any]) -> Restore:
    before = array.copy()
    return lambda: np.copyto(array, before)


def _kept_container(value: Any) -> Iterator[Restore]:
    if isinstance(value, dict):
        entries = dict(value)

        def restore() -> None:
            if not _same_dictionary(value, entries):
                value.clear()
                value.update(entries)

        yield restore
    elif isinstance(value, (list, deque, bytearray)):
        items = list(value)

        def restore() -> None:
            if len(value) != len(items) or not all(map(is_, value, items)):
                value.clear()
                value.extend(items)

        yield restore
    elif isinstance(value, set):
        members = set(value)

        def restore() -> None:
            if value != members:
                value.clear()
                value.update(members)

        yield restore


def _same_dictionary(now: dict[Any, Any], before: dict[Any, Any]) -> bool:
    """Whether two dictionaries hold the same objects under the same keys, in the same order."""
    return len(now) == len(before) and all(map(is_, now, before)) and all(map(is_, now.values(), before.values()))
