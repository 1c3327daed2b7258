"""What happens inside a model during one forward pass: layers with their shapes, outputs, attention weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from glassrun.nn.attention import MultiHeadAttention
from glassrun.nn.feedforward import FeedForward, GatedFeedForward
from glassrun.nn.normalisation import LayerNorm, RMSNorm

# Shown as one layer each, not as the linear layers inside them.
_UNITS = (MultiHeadAttention, FeedForward, GatedFeedForward)


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
    """Watch the forward passes of a model in evaluation mode; nothing of it is changed, and the hooks go afterwards.

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
            seen.outputs[name] = output.detach().clone()  # the next layer may work in place
        if isinstance(module, MultiHeadAttention):
            with torch.no_grad():
                # Not module(…), which would call this hook again.
                seen.attention[name] = module.forward(*args, **(kwargs | {"weights": True}))[1]
        if isinstance(output, Tensor) and (isinstance(module, _UNITS) or not any(module.children())):
            count = sum(parameter.numel() for parameter in module.parameters())
            seen.layers.append(Layer(name, type(module).__name__, _settings(module), tuple(output.shape), count))

    return hook


def _settings(module: nn.Module) -> str:
    """What a layer was made with, in a few words."""
    match module:
        case MultiHeadAttention():
            shared = module.num_key_value_heads
            of = "" if shared == module.num_heads else f", {shared} of keys and values"
            return f"{module.num_heads} heads of {module.d_k} features{of}"
        case FeedForward() | GatedFeedForward():
            widths = (module.expand.in_features, module.expand.out_features, module.contract.out_features)
            gate = ", gated" if isinstance(module, GatedFeedForward) else ""
            return f"{' → '.join(map(str, widths))}, {module.activation.__name__}{gate}"
        case nn.Linear():
            return f"{module.in_features} → {module.out_features}{_no_bias(module)}"
        case nn.Conv2d():
            window = f"{_by(module.kernel_size)}, stride {_side(module.stride)}, padding {_side(module.padding)}"
            return f"{module.in_channels} → {module.out_channels}, {window}{_no_bias(module)}"
        case nn.MaxPool2d() | nn.AvgPool2d():
            return f"{_side(module.kernel_size)}, stride {_side(module.stride)}"
        case nn.Embedding():
            return f"{module.num_embeddings} tokens → {module.embedding_dim}"
        case nn.BatchNorm2d():
            return f"{module.num_features} features"
        case nn.LayerNorm():
            return f"{_by(module.normalized_shape)} features"
        case LayerNorm() | RMSNorm():
            return f"{module.features} features"
        case nn.Dropout():
            return f"{module.p * 100:g} %"
        case nn.Flatten():
            return ""
    return module.extra_repr()


def _no_bias(module: nn.Linear | nn.Conv2d) -> str:
    return "" if module.bias is not None else ", no bias"


def _by(size: Any) -> str:
    """A size for people: (3, 5) is "3 × 5", (64,) is "64", and what is no tuple stays as it is."""
    return " × ".join(map(str, size)) if isinstance(size, tuple) else str(size)


def _side(size: Any) -> str:
    """The same, but (2, 2) is "2"."""
    return str(size[0]) if isinstance(size, tuple) and len(set(size)) == 1 else _by(size)
