"""From layers to the blocks of a drawing: what belongs together is one block, what repeats is told once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from glassrun.capturing.maps import Layer
from glassrun.look.figures.network import Block, Kind
from glassrun.look.layer_graph import Traced

_MOST_BLOCKS = 42  # of a drawing; of more, the middle is left out
_SHORT = {
    "BatchNorm2d": "norm",
    "GroupNorm": "norm",
    "LayerNorm": "norm",
    "ChannelLayerNorm": "norm",
    "Dropout": "dropout",
}
_TITLES = {
    "Flatten": "flatten",
    "GlobalAveragePooling": "global average",
    "AdaptiveAvgPool2d": "average pool",
    "ChannelLayerNorm": "norm",
    "LayerNorm": "norm",
    "Linear": "linear",
    "MultiHeadAttention": "attention",
    "FeedForward": "feed-forward",
}


def network_blocks(
    model: nn.Module, layers: Sequence[Layer], traced: Mapping[str, Traced], in_shape: Sequence[int]
) -> list[Block]:
    """The input, then the layers as blocks.

    A layer that keeps the shape and mixes nothing (a norm, an activation, dropout) is told with the one before it. What
    the model itself repeats, a module with several layers inside that stands in a list of such, is one block.

    Arguments:
        model: the layers' own.
        layers: as they were called.
        traced: of the same layers, which tells where branches meet.
        in_shape: of the image, with the batch.
    """
    found = [Block("input", "input", tuple(in_shape[1:]))]
    for unit, group in _groups(model, layers):
        block = _unit(model, unit, group, traced) if unit else _alone(model, group)
        if block == replace(found[-1], count=1):
            found[-1] = replace(found[-1], count=found[-1].count + 1)
        else:
            found.append(block)
    return _without_the_middle(found)


def _without_the_middle(blocks: list[Block]) -> list[Block]:
    if len(blocks) <= _MOST_BLOCKS:
        return blocks
    ends = _MOST_BLOCKS // 2
    left_out = blocks[ends : len(blocks) - ends + 1]
    note = Block("other", f"{len(left_out)} more", left_out[-1].shape, sum(b.parameters for b in left_out))
    return [*blocks[:ends], note, *blocks[len(blocks) - ends + 1 :]]


def _groups(model: nn.Module, layers: Sequence[Layer]) -> list[tuple[str, list[Layer]]]:
    """Neighbouring layers that make one block, with the name of the repeated module that they are in, or ""."""
    groups: list[tuple[str, list[Layer]]] = []
    for layer in layers:
        unit = _repeated(model, layer.name)
        same_unit = bool(groups) and unit == groups[-1][0]
        if same_unit and (unit or _joins(model, layer, groups[-1][1][-1])):
            groups[-1][1].append(layer)
        else:
            groups.append((unit, [layer]))
    return groups


def _joins(model: nn.Module, layer: Layer, before: Layer) -> bool:
    return layer.shape == before.shape and not _mixes(module_of(model, layer.name))


def _mixes(module: nn.Module) -> bool:
    """Whether it has weights that mix places or maps, or a window."""
    return hasattr(module, "kernel_size") or any(parameter.ndim > 1 for parameter in module.parameters())


def _repeated(model: nn.Module, name: str) -> str:
    """The outermost module around a layer that stands in a list and has several layers that mix; "" for none."""
    parts = name.split("#")[0].split(".")
    for end in range(1, len(parts)):
        module = model.get_submodule(".".join(parts[:end]))
        several = sum(_mixes(part) for part in module.modules() if not any(part.children())) > 1
        if parts[end - 1].isdecimal() and several and not isinstance(module, nn.Sequential | nn.ModuleList):
            return ".".join(parts[:end])
    return ""


def module_of(model: nn.Module, name: str) -> nn.Module:
    """The module of a layer, whose name may tell which call of it is meant."""
    return model.get_submodule(name.split("#")[0])


def _unit(model: nn.Module, unit: str, group: Sequence[Layer], traced: Mapping[str, Traced]) -> Block:
    """A repeated module as one block."""
    module = model.get_submodule(unit)
    inside = {layer.name for layer in group}
    # Where the ways meet, a layer of this block is read together with another: here, or where there is no layer behind
    # the sum, by the next block.
    meet = any(len(call.reads) > 1 and inside & set(call.reads) for call in traced.values())
    maps: list[tuple[int, ...]] = [layer.shape for layer in group if len(layer.shape) == 4] or [group[-1].shape]
    weighted = sum(_mixes(module_of(model, layer.name)) for layer in group)
    before = traced[group[0].name].in_shape if group[0].name in traced else maps[-1]
    stride = before[2] // maps[-1][2] if len(before) == len(maps[-1]) == 4 else 1
    notes = (f"{weighted} weighted layers", *((f"stride {stride}",) if stride > 1 else ()))
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return Block("block", type(module).__name__, tuple(maps[-1][1:]), parameters, notes, branches=meet)


def _alone(model: nn.Module, group: Sequence[Layer]) -> Block:
    """A layer with those that only follow it."""
    main, *others = group
    module = module_of(model, main.name)
    kind, title, note = _described(module, main)
    after = ", ".join(dict.fromkeys(_SHORT.get(layer.kind, layer.kind) for layer in others))
    notes = tuple(text for text in (note, f"then {after}" if after else "") if text)
    return Block(kind, title, tuple(main.shape[1:]), sum(layer.parameters for layer in group), notes)


def _described(module: nn.Module, layer: Layer) -> tuple[Kind, str, str]:
    """Kind, title and a note."""
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        depthwise = "depthwise, " if module.groups == module.in_channels > 1 else ""
        note = f"{depthwise}stride {side(module.stride)}, pad {side(module.padding)}"
        return "convolution", f"conv {by(module.kernel_size)}", note
    if hasattr(module, "kernel_size") and hasattr(module, "stride"):
        word = "max pool" if "Max" in layer.kind else "average pool"
        return "pooling", f"{word} {by(module.kernel_size)}", f"stride {side(module.stride or module.kernel_size)}"
    title = _TITLES.get(layer.kind, layer.kind)
    if isinstance(module, nn.Linear):
        return "linear", title, f"from {module.in_features}"
    return ("pooling" if "ool" in layer.kind else "other"), title, ""


def by(size: Any) -> str:
    """A window's size for people: 3 and (3, 3) are "3 × 3"."""
    return " × ".join(map(str, size)) if isinstance(size, tuple) else f"{size} × {size}"


def side(size: Any) -> str:
    """A stride or padding for people: 2 and (2, 2) are "2"."""
    if isinstance(size, tuple):
        return str(size[0]) if len(set(size)) == 1 else " × ".join(map(str, size))
    return str(size)
