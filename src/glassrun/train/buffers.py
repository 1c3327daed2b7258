"""What a slice's forward does to a module's buffers, made independent of which worker computed which slice.

Each slice starts from the step's buffers. Floating buffers that any slice changed are averaged over all slices by the
fixed tree; other buffers that changed must have changed alike in all slices, as batch norm's counter does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from glassrun.errors import ModelError
from glassrun.record.fingerprint import Fingerprinter, as_words
from glassrun.train.memory import Layout, owned
from glassrun.train.shards import TreeSum, summed_in
from glassrun.train.workers import Workers


class StepBuffers:
    """The buffers of a module over one step: `begin`, then `collect` after each slice, then `finish`.

    Between slices the module holds the step's buffers: `collect` takes what a slice made of them and puts them back.
    """

    def __init__(self, module: nn.Module, shards: int, fingerprinter: Fingerprinter) -> None:
        self.shards = shards
        self.fingerprinter = fingerprinter
        self.slots = Slots(module)
        self.own = dict(module.named_buffers())  # the module's own tensors, whatever a forward puts in their place
        self.places = {name: self.slots.of(tensor) for name, tensor in self.own.items()}
        self.names = list(self.own)
        self.start = {name: owned(tensor) for name, tensor in self.own.items()}
        self.floating = [name for name in self.names if self.own[name].is_floating_point()]
        self.other = [name for name in self.names if not self.own[name].is_floating_point()]
        self.tree = TreeSum(Layout([summed_in(self.own[name]) for name in self.floating], shards), torch.device("cpu"))
        self._changed: dict[str, bool] = {}
        self._other_after: list[dict[str, Tensor]] = []

    def begin(self) -> None:
        """The step starts: remember every buffer."""
        for name, tensor in self.own.items():
            self.start[name].copy_(tensor)
        self._changed = dict.fromkeys(self.floating, False)
        self._other_after = []

    def collect(self) -> None:
        """A slice ends: take what it made of the buffers, and put the step's buffers back."""
        found = {name: self._found(name) for name in self.names}
        for name in self.floating:
            self._changed[name] |= not same_bits(found[name], self.start[name])
        if self.floating:
            self.tree.add([found[name] for name in self.floating])
        self._other_after.append({name: owned(found[name]) for name in self.other})
        self.slots.restore()
        for name, tensor in self.own.items():
            tensor.copy_(self.start[name])

    def finish(self, workers: Workers) -> None:
        """The step ends: each buffer gets what all slices made of it, the same on every worker."""
        if not self.names:
            return
        prints = [self.fingerprinter(after[name]) for after in self._other_after for name in self.other]
        reports = workers.gather([*map(int, self._changed.values()), *prints])
        self._check_agreement([value for report in reports for value in report[len(self.floating) :]])
        for name in self.other:
            self.own[name].copy_(self._other_after[-1][name])
        if self.floating:
            changed = [any(report[i] for report in reports) for i in range(len(self.floating))]
            self._average(changed, workers)

    def _average(self, changed: list[bool], workers: Workers) -> None:
        total = self.tree.take()
        if any(changed):
            workers.tree_sum(total, self.tree)
        for name, view, moved in zip(self.floating, total.views, changed, strict=True):
            if moved:
                torch.div(view, self.shards, out=self.own[name])
        self.tree.release(total)

    def _found(self, name: str) -> Tensor:
        start, now = self.start[name], [owner._buffers.get(key) for owner, key in self.places[name]]
        # A shared buffer has several names, and a forward may put another tensor in its place under any of them.
        replaced = [tensor for tensor in now if tensor is not self.own[name]]
        tensor = replaced[0] if replaced else self.own[name]
        if tensor is None or tensor.shape != start.shape or tensor.dtype != start.dtype:
            raise ModelError(
                f"buffer {name} changed its form during the forward pass: it was {_form(start)}, and is "
                f"{_form(tensor)} now. A buffer must keep its shape and dtype over a step"
            )
        if any(other is None or not same_bits(other, tensor) for other in replaced):
            raise ModelError(f"buffer {name} is shared by several modules, which put different values in its place")
        return tensor.detach()

    def _check_agreement(self, prints: Sequence[int]) -> None:
        for place, name in enumerate(self.other):
            if len(set(prints[place :: len(self.other)])) > 1:
                raise ModelError(
                    f"buffer {name} ({_form(self.start[name])}) got different values in different slices of one "
                    "batch. A buffer that is not floating cannot be averaged, so all slices must change it alike, as "
                    "batch norm's counter does. Keep per-batch values out of it, or make it a floating buffer"
                )


class Slots:
    """Which tensor each buffer's name means, in every module, when this is made."""

    def __init__(self, module: nn.Module) -> None:
        self._slots = [(owner, dict(owner._buffers)) for owner in module.modules()]

    def of(self, tensor: Tensor) -> list[tuple[nn.Module, str]]:
        """Every place that holds this tensor; a shared buffer has several."""
        return [(owner, key) for owner, before in self._slots for key, buffer in before.items() if buffer is tensor]

    def restore(self) -> None:
        """Make it so again: what a forward put in a place, filled where None was, or registered anew, goes."""
        for owner, before in self._slots:
            for key in [key for key in owner._buffers if key not in before]:
                del owner._buffers[key]
                owner._non_persistent_buffers_set.discard(key)
            owner._buffers.update(before)


@contextmanager
def kept(module: nn.Module) -> Iterator[None]:
    """Whatever happens to the buffers inside, afterwards they are the same tensors with the same bits."""
    slots = Slots(module)
    before = [(tensor, owned(tensor)) for tensor in module.buffers()]
    try:
        yield
    finally:
        slots.restore()
        for tensor, bits in before:
            if not same_bits(tensor, bits):
                tensor.copy_(bits)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one form hold the same bytes (NaN equals itself, 0 differs from −0)."""
    if a.numel() == 0:
        return True
    x, y = as_words(a), as_words(b)
    if x.device.type == "cpu":  # NumPy compares words many times as fast as torch compares bytes (measured)
        return np.array_equal(x.numpy(), y.numpy())
    return torch.equal(x, y)


def _form(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
