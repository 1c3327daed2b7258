"""What happens inside a model during one forward pass: layers with their shapes, outputs, attention weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from glassrun.nn.attention import MultiHeadAttention
from glassrun.nn.feedforward import FeedForward

# Shown as one layer each, not as the linear layers inside them.
_UNITS = (MultiHeadAttention, FeedForward)


@dataclass(frozen=True)
class Layer:
    """One layer as it was called: its name in the model, its kind, its settings, its output's shape, its parameters."""

    name: str
    kind: str
    settings: str
    shape: tuple[int, ...]
    parameters: int


@dataclass
class Capture:
    """What a forward pass showed, by module name, in the order of the calls.

    Attributes:
        layers: every layer that has no layers inside.
        outputs: the output of every module that returned a tensor, each detached.
        attention: the weights of every multi-head attention, Float[batch, heads, query, key].
    """

    layers: list[Layer] = field(default_factory=list)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    attention: dict[str, Tensor] = field(default_factory=dict)


@contextmanager
def capturing(model: nn.Module) -> Iterator[Capture]:
    """Watch a model's forward passes; nothing of the model is changed, and the hooks are gone afterwards.

    >>> from glassrun.models.cnn import CNN
    >>> model = CNN(1, 8, 8, 10, channels=(3,)).eval()
    >>> with capturing(model) as seen:
    ...     _ = model(torch.zeros(2, 1, 8, 8))
    >>> [(layer.kind, layer.shape) for layer in seen.layers][:2]
    [('Conv2d', (2, 3, 8, 8)), ('BatchNorm2d', (2, 3, 8, 8))]
    """
    seen = Capture()
    hooks = [
        module.register_forward_hook(_hook(seen, name), with_kwargs=True)
        for name, module in model.named_modules()
        if name and not _inside_unit(model, name)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _inside_unit(model: nn.Module, name: str) -> bool:
    parts = name.split(".")
    return any(isinstance(model.get_submodule(".".join(parts[:end])), _UNITS) for end in range(1, len(parts)))


def _hook(seen: Capture, name: str) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if isinstance(output, Tensor):
            seen.outputs[name] = output.detach()
        if isinstance(module, MultiHeadAttention):
            with torch.no_grad():
                # Not module(…), which would call this hook again.
                seen.attention[name] = module.forward(*args, **(kwargs | {"weights": True}))[1]
        if isinstance(output, Tensor) and (isinstance(module, _UNITS) or not any(module.children())):
            count = sum(parameter.numel() for parameter in module.parameters())
            seen.layers.append(Layer(name, type(module).__name__, _settings(module), tuple(output.shape), count))

    return hook


def _settings(module: nn.Module) -> str:
    """What a layer was made with."""
    if isinstance(module, MultiHeadAttention):
        return f"{module.num_heads} heads, {module.output.in_features // module.num_heads} features each"
    if isinstance(module, FeedForward):
        activation = module.activation.__name__
        return f"{module.expand.in_features} → {module.expand.out_features} → {module.contract.out_features}, {activation}"
    return module.extra_repr()


