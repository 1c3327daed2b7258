"""The layers of a network, described in a few words each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from glassrun.capturing.maps import Layer
from glassrun.nn.attention import MultiHeadAttention
from glassrun.nn.feedforward import FeedForward, GatedFeedForward
from glassrun.nn.normalisation import LayerNorm, RMSNorm

# Shown as one layer each, not as the linear layers inside them.
_UNITS = (MultiHeadAttention, FeedForward, GatedFeedForward, nn.MultiheadAttention)


def are_layers(module: nn.Module, name: str = "") -> Iterator[str]:
    """The names of the modules that count as one layer: units, and modules without modules inside.

    Arguments:
        module: where to look.
        name: its own.
    """
    if isinstance(module, _UNITS) or not module._modules:
        yield name
        return
    for part, child in module.named_children():
        yield from are_layers(child, f"{name}.{part}" if name else part)


def described(name: str, module: nn.Module, output: Tensor) -> Layer:
    """A layer that returned this."""
    # As module.parameters() has them, which takes longer than many a small layer.
    parts = module.modules() if module._modules else (module,)
    parameters = {id(p): p for part in parts for p in part._parameters.values() if p is not None}
    count = sum(parameter.numel() for parameter in parameters.values())
    return Layer(name, type(module).__name__, _settings(module), tuple(output.shape), count)


def _settings(module: nn.Module) -> str:
    """What a layer was made with, in a few words."""
    match module:
        case MultiHeadAttention():
            shared = module.num_key_value_heads
            of = "" if shared == module.num_heads else f", {shared} of keys and values"
            return f"{module.num_heads} heads of {module.d_k} features{of}"
        case nn.MultiheadAttention():
            return f"{module.num_heads} heads of {module.head_dim} features"
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
