"""Which layer reads which, and how much of the image each one sees: followed through the operations of a forward pass.

Autograd records every operation on the way from the image to the logits, also those that no module stands for, such as
the sum of a residual block. Here that record is read; nothing is differentiated.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from glassrun.capturing.maps import numbered

INPUT = "input"
# Operations that mix all places; a mean or a sum over channels alone does not.
_OVER_ALL_PLACES = ("AdaptiveAvgPool", "AdaptiveMaxPool", "Bmm", "Baddbmm", "ScaledDotProduct")
_OVER_SOME_AXES = ("Mean", "Sum")
_CHANNELS, _PLACES = 1, (2, 3)  # axes of maps


@dataclass(frozen=True)
class ReceptiveField:
    """What of the image one place of a map can see, as (height, width) in pixels.

    Attributes:
        size: of the window.
        step: how far it moves from one place of the map to the next.
        whole: whether a place sees all of the image instead, whatever the image's size.
    """

    size: tuple[int, int] = (1, 1)
    step: tuple[int, int] = (1, 1)
    whole: bool = False


@dataclass(frozen=True)
class Traced:
    """One call of a layer.

    Attributes:
        reads: the layers that its input is made of with no other layer between; two where branches meet.
        in_shape, out_shape: of its first input and of its output, with the batch.
        field: of a place of its output.
    """

    reads: tuple[str, ...]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    field: ReceptiveField


def through_window(
    before: ReceptiveField, kernel_size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> ReceptiveField:
    """The receptive field after a convolution or a pooling.

        size ← size + dilation · (kernel_size − 1) · step,    step ← step · stride

    >>> first = through_window(ReceptiveField(), (3, 3), (2, 2), (1, 1))
    >>> through_window(first, (3, 3), (1, 1), (1, 1))
    ReceptiveField(size=(7, 7), step=(2, 2), whole=False)

    Source: Araujo, Norris & Sim 2019 (Distill), equation 2, solved from the image's side.
    """
    size = tuple(
        r + d * (k - 1) * j for r, d, k, j in zip(before.size, dilation, kernel_size, before.step, strict=True)
    )
    step = tuple(j * s for j, s in zip(before.step, stride, strict=True))
    return ReceptiveField((size[0], size[1]), (step[0], step[1]), before.whole)


def trace(model: nn.Module, image: Tensor, names: Collection[str]) -> dict[str, Traced]:
    """Follow an image through a model in evaluation mode.

    Arguments:
        model: its inputs are images.
        image: Float[1, channels, height, width].
        names: of the layers that are followed; those that are not called are left out.

    Returns:
        By name, in the order of the calls; a second call of a layer is `NAME#2`.
    """
    found: dict[str, Traced] = {}
    with torch.enable_grad():
        start = image.detach().clone().requires_grad_() * 1.0  # no leaf: the first layer may work in place
        walk = _Walk(start.grad_fn)

        def hook_of(name: str) -> Any:
            def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 - a hook's form
                if isinstance(output, Tensor) and output.grad_fn is not None and args and isinstance(args[0], Tensor):
                    called = numbered(name, found)
                    found[called] = walk.layer(called, args[0], output)

            return hook

        modules = dict(model.named_modules())
        hooks = [modules[name].register_forward_hook(hook_of(name)) for name in names if name in modules]
        try:
            model(start)
        finally:
            for hook in hooks:
                hook.remove()
    return found


class _Walk:
    """The operations that were recorded so far, from the image on."""

    def __init__(self, start: Any) -> None:
        # Nodes are keys, not their ids, so that none of them goes away and leaves its id to another.
        self._owners: dict[Any, str] = {start: INPUT}
        self._fields: dict[Any, ReceptiveField | None] = {start: ReceptiveField()}

    def layer(self, name: str, x: Tensor, output: Tensor) -> Traced:
        """A layer that was called now."""
        node = output.grad_fn
        reads = self._sources(x.grad_fn)
        field = self._field(node) or ReceptiveField()
        if output.ndim == 2:  # features of the whole image
            field = replace(field, whole=True)
        self._owners[node], self._fields[node] = name, field
        return Traced(reads, tuple(x.shape), tuple(output.shape), field)

    def _sources(self, node: Any) -> tuple[str, ...]:
        """The layers on the way back, each way as far as the first."""
        if node in self._owners:
            return (self._owners[node],)
        return tuple(dict.fromkeys(name for before in _before(node) for name in self._sources(before)))

    def _field(self, node: Any) -> ReceptiveField | None:
        """Of a place of an operation's output; None of what does not come from the image."""
        if node not in self._fields:
            fields = [field for before in _before(node) if (field := self._field(before)) is not None]
            self._fields[node] = _after(node, _joined(fields)) if fields else None
        return self._fields[node]


def _before(node: Any) -> list[Any]:
    return [] if node is None else [before for before, _ in node.next_functions if before is not None]


def _joined(fields: Sequence[ReceptiveField]) -> ReceptiveField:
    """Where branches meet: the larger window. (Windows around the same place lie inside each other.)"""
    largest = max(fields, key=lambda field: field.size)
    return replace(largest, whole=any(field.whole for field in fields))


def _after(node: Any, before: ReceptiveField) -> ReceptiveField:
    """The field after one operation; most work at each place alone."""
    name = node.name()
    if name.startswith(_OVER_ALL_PLACES) or (name.startswith(_OVER_SOME_AXES) and _dims(node) != [_CHANNELS]):
        return replace(before, whole=True)
    if name.startswith("ConvolutionBackward"):
        kernel = tuple(node._saved_weight.shape[2:])
        return through_window(before, kernel, node._saved_stride, node._saved_dilation)
    if name.startswith("MaxPool2D"):
        return through_window(before, *_pooling(node), node._saved_dilation)
    if name.startswith("AvgPool2D"):
        return through_window(before, *_pooling(node), (1, 1))
    if name.startswith("SliceBackward") and len(node._saved_self_sym_sizes) == 4:
        stride = tuple(node._saved_step if axis == node._saved_dim else 1 for axis in _PLACES)
        return through_window(before, (1, 1), stride, (1, 1))
    return before


def _pooling(node: Any) -> tuple[Sequence[int], Sequence[int]]:
    """Window and stride; no stride stands for the window's size."""
    return node._saved_kernel_size, node._saved_stride or node._saved_kernel_size


def _dims(node: Any) -> list[int]:
    """The axes of a mean or a sum, counted from the front."""
    if not hasattr(node, "_saved_dim") or node._saved_dim is None:
        return []
    axes = len(node._saved_self_sym_sizes)
    # Negative ones are saved as numbers without a sign.
    return sorted((d - 2**64 if d >= 2**63 else d) % axes for d in node._saved_dim)
