"""The layers that a forward pass goes through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from glassrun.capturing.layers import are_layers, described
from glassrun.capturing.maps import Layer


@dataclass
class Capture:
    """Every layer that has no layers inside, in the order of the calls."""

    layers: list[Layer] = field(default_factory=list)


@contextmanager
def capturing(model: nn.Module) -> Iterator[Capture]:
    """Watch the forward passes of a model; nothing of it is changed, and the hooks go afterwards.

    >>> import torch
    >>> from glassrun.models.cnn import CNN
    >>> model = CNN(1, 8, 8, 10, channels=(3,)).eval()
    >>> with capturing(model) as seen:
    ...     _ = model(torch.zeros(2, 1, 8, 8))
    >>> [(layer.kind, layer.shape) for layer in seen.layers][:2]
    [('Conv2d', (2, 3, 8, 8)), ('BatchNorm2d', (2, 3, 8, 8))]
    """
    seen = Capture()
    hooks = [model.get_submodule(name).register_forward_hook(_hook(seen, name)) for name in are_layers(model)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _hook(seen: Capture, name: str) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del args
        if isinstance(output, Tensor):
            seen.layers.append(described(name, module, output))

    return hook
