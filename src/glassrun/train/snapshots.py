"""Snapshots: what the probe shows of the model over the run, kept as `snapshots/step-NNNNNN.safetensors`.

They are taken in evaluation mode, of the averaged weights where the run averages them, and move nothing: a run with
snapshots has the bits of one without.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glassrun.capturing.capture import capture_called
from glassrun.capturing.maps import AttentionMap
from glassrun.digest import canonical_json, digest_bytes
from glassrun.errors import ModelError, RunFolderError
from glassrun.generators import undisturbed
from glassrun.nn.convolution import ConvolutionBlock
from glassrun.record.files import write_atomic, writing
from glassrun.record.snapshots import path_of, planned
from glassrun.train.attributes import Attributes
from glassrun.train.buffers import kept
from glassrun.train.probe import Axes, probe_of
from glassrun.train.state import State, precision

FORMAT = 1
_KEY = "glassrun"  # the one entry of the file's metadata: safetensors writes several in an order of its own
_MOST_BYTES = 2**21  # of the attention maps, and of the feature maps
_MOST_LAYERS = 8  # with feature maps
_MOST_MAPS = 12  # of a layer
_MOST_FILTERS = 16

Array = NDArray[Any]


@dataclass(frozen=True)
class Snapshot:
    """What the probe shows after a step.

    Arguments:
        step: of the run.
        values: `chain` of the ledger after the step; the probe's `split` and `text`; and what `Seen` has.
        arrays: `attention.N`: Float32[heads, query, key]; `maps.N`: Float32[maps, height, width]; `filters`:
            Float32[filters, channels, height, width]; `input`: Float32[channels, height, width].
    """

    step: int
    values: Mapping[str, Any]
    arrays: Mapping[str, Array]


# --- taking ----------------------------------------------------------------------------------------------------------


def take(state: State, chain: str) -> Snapshot:
    """Put the probe into the model as it is; nothing of the state, and no generator, is moved.

    Raises:
        BadInput: the model cannot be looked into.
    """
    if not isinstance(state.recipe.task, str):
        raise ModelError("what a task of your own gives the model is not known here: snapshots are for built-in tasks")
    model, attributes = state.model, Attributes(state.model, state.task)
    probe = probe_of(state.task, state.dataset)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with state.averaged(), undisturbed(), kept(model), precision(state.recipe.numerics.precision):
            attributes.set_generators(state.seed, "snapshot")
            seen = look_into(model, probe.inputs, probe.axes)
    finally:
        attributes.restore()
        for module, training in modes:
            module.training = training
    values = {"chain": chain, "split": probe.split, "text": probe.text, **seen.values}
    image = {} if probe.text else {"input": _array(probe.inputs[0][0])}
    return Snapshot(state.step, values, {**seen.arrays, **image})


@dataclass(frozen=True)
class Seen:
    """What one example shows inside a model, within the byte bound.

    Arguments:
        values: for each of `attention` its name, kind and axes; the names of the layers with `maps`, and of the one
            with `filters`; what is `left_out`.
        arrays: as a snapshot has them.
    """

    values: Mapping[str, Any]
    arrays: Mapping[str, Array]


def look_into(model: nn.Module, inputs: Any, axes: Callable[[AttentionMap], Axes]) -> Seen:
    """Attention maps, first filters and feature maps of the first example.

    Arguments:
        model: in the mode that it is to be seen in.
        inputs: what it is called with, as `capture` takes it.
        axes: names the rows and columns of a map.

    Raises:
        BadInput: the model cannot be looked into, has nothing to show, or its numbers are not finite.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"the model is a {type(model).__name__}; give a torch.nn.Module")
    layers = feature_layers(model)
    captured = capture_called(model, inputs, layers)
    attention = _within_bound(captured.attention)
    maps = {name: _of_first(model, name, captured.activations) for name in layers if name in captured.activations}
    maps = {name: found for name, found in maps.items() if found.ndim == 3}
    chosen = _few_maps(maps)
    arrays = {f"attention.{number}": _array(seen.weights[0]) for number, seen in enumerate(attention.values())}
    arrays |= {f"maps.{number}": _array(found) for number, found in enumerate(chosen.values())}
    filters = first_filters(model)
    if filters:
        arrays["filters"] = _array(filters[1][:_MOST_FILTERS])
    _check(
        model, [*captured.attention, *maps], dict(zip(arrays, [*attention, *chosen, "filters"], strict=False)), arrays
    )
    values = {
        "attention": [_described(name, seen, axes(seen)) for name, seen in attention.items()],
        "maps": list(chosen),
        "filters": filters[0] if filters else "",
        "left_out": [name for name in (*captured.attention, *maps) if name not in {*attention, *chosen}]
        + [f"{name} from head {len(seen.heads) + 1} on" for name, seen in attention.items() if _is_cut(seen)],
    }
    return Seen(values, arrays)


def _of_first(model: nn.Module, name: str, found: Mapping[str, Tensor]) -> Tensor:
    """The maps of the first image; of a convolution that was given no batch, of the only one."""
    alone = found[name].ndim == 3 and isinstance(model.get_submodule(name), nn.Conv2d)
    return found[name] if alone else found[name][0]


def _check(model: nn.Module, called: Sequence[str], names: Mapping[str, str], arrays: Mapping[str, Array]) -> None:
    """There is something to show, and it can be drawn.

    Arguments:
        model: that was looked into.
        called: the layers that could be shown.
        names: of the layer of each array.
        arrays: what is shown.
    """
    kind = type(model).__name__
    if not called:
        raise ModelError(
            f"{kind}: neither attention nor two-dimensional convolutions were seen, so there is nothing to show. "
            "glassrun.capture gives the activations of any module, and says which calls are attention"
        )
    if not arrays:
        names_of = ", ".join(name or "the model itself" for name in called)
        raise ModelError(
            f"{kind}: the maps of {names_of} are too large to show: not one takes less than {_MOST_BYTES >> 20} MiB. "
            "Give a shorter text or a smaller image, or use glassrun.capture"
        )
    for key, array in arrays.items():
        if not np.isfinite(array).all():
            raise ModelError(
                f"{kind}: the numbers of {names[key] or 'the model itself'} are not finite, so there is nothing to "
                "show. Look at its weights and the inputs"
            )


def feature_layers(model: nn.Module) -> list[str]:
    """The blocks with a convolution, and the convolutions over images that stand alone."""
    blocks = [name for name, module in model.named_modules() if isinstance(module, ConvolutionBlock)]
    return [
        name
        for name, module in model.named_modules()
        if name in blocks
        or (isinstance(module, nn.Conv2d) and not any(name.startswith(f"{block}.") for block in blocks))
    ]


def first_filters(model: nn.Module) -> tuple[str, Tensor] | None:
    """Name and filters of the first convolution, Float[filters, channels, height, width]; of one pixel: none."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            return (name, module.weight) if min(module.kernel_size) > 1 else None
    return None


def _described(name: str, seen: AttentionMap, axes: Axes) -> dict[str, Any]:
    return {
        "name": name,
        "kind": seen.kind,
        "queries": list(axes.queries),
        "keys": list(axes.keys),
        "query_title": axes.query_title,
        "key_title": axes.key_title,
    }


def _within_bound(seen: Mapping[str, AttentionMap]) -> dict[str, AttentionMap]:
    """As many of the maps as the bound allows, evenly over the depth, the first and the last if there are two.

    Where not one is small enough, the first heads of the last.
    """
    names = list(seen)
    for count in range(len(names), 0, -1):
        chosen = [names[place - 1] for place in planned(count, len(names))]
        if sum(4 * prod(seen[name].weights.shape[1:]) for name in chosen) <= _MOST_BYTES:
            return {name: seen[name] for name in chosen}
    for name in reversed(names):
        weights = seen[name].weights
        if heads := _MOST_BYTES // (4 * prod(weights.shape[2:])):
            return {name: replace(seen[name], weights=weights[:, :heads], heads=seen[name].heads[:heads])}
    return {}


def _is_cut(seen: AttentionMap) -> bool:
    return len(seen.heads) < seen.num_heads


def _few_maps(maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The first maps of the first layers, as far as the bound goes."""
    found: dict[str, Tensor] = {}
    left = _MOST_BYTES
    for name, tensor in list(maps.items())[:_MOST_LAYERS]:
        few = tensor[: min(_MOST_MAPS, left // (4 * tensor[0].numel()))]
        left -= 4 * few.numel()
        if len(few):
            found[name] = few
    return found


def _array(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().to("cpu", torch.float32).numpy())


# --- the file --------------------------------------------------------------------------------------------------------


def write(folder: Path, snapshot: Snapshot) -> Path:
    """Write a snapshot into a run folder, whole or not at all; the same snapshot gives the same bytes.

    Raises:
        RunFolderError: it cannot be written: the disk is full, for example.
    """
    path = path_of(folder, snapshot.step)
    with writing(path):
        path.parent.mkdir(exist_ok=True)
    values = {"format": FORMAT, "step": snapshot.step, **snapshot.values}
    values["digest"] = _digest(values, snapshot.arrays)
    write_atomic(path, safetensors.numpy.save(dict(snapshot.arrays), {_KEY: canonical_json(values)}))
    return path


def read(path: Path) -> Snapshot:
    """A snapshot, its digest checked.

    Raises:
        RunFolderError: it is missing, damaged, or of another format.
    """
    try:
        with safetensors.safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            values = json.loads((file.metadata() or {}).get(_KEY, "null"))
        if not isinstance(values, dict):
            raise ValueError(f"its metadata has no object {_KEY!r}")
        if values.get("format") != FORMAT:
            raise ValueError("it is of another format")
        if values.pop("digest", None) != _digest(values, arrays):
            raise ValueError("its digest is not the recorded one: it was changed after it was written")
        del values["format"]
        step = int(values.pop("step"))
        if path.name != path_of(path.parent, step).name:
            raise ValueError(f"it is of step {step}")
        return Snapshot(step, values, arrays)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunFolderError(
            f"{path}: this snapshot is damaged: {error}. Remove it, or restore it from a copy; the run needs none"
        ) from None


def _digest(values: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    """Over the values with the arrays' names, types and shapes as canonical JSON, then the arrays by name."""
    names = sorted(arrays)
    forms = [[name, arrays[name].dtype.str, list(arrays[name].shape)] for name in names]
    head = canonical_json({"values": values, "arrays": forms}).encode()
    return digest_bytes(b"".join([head, *(arrays[name].tobytes() for name in names)]))
