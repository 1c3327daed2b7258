"""One forward pass of a model, looked into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from glassrun.capturing.calls import Attention
from glassrun.capturing.flow import Flow, tensors_in
from glassrun.capturing.keeper import Keeper
from glassrun.capturing.maps import Captured
from glassrun.capturing.selection import Budget, Modules, Names, fits, numbers, with_those_around
from glassrun.capturing.unchanged import unchanged
from glassrun.errors import CaptureError

Inputs = Tensor | Sequence[Any] | Mapping[str, Any]
BUDGET = 2**28


def capture(
    model: nn.Module,
    inputs: Inputs,
    *,
    attention: Names = True,
    activations: Names = False,
    heads: Sequence[int] | None = None,
    queries: Sequence[int] | None = None,
    budget: int = BUDGET,
) -> Captured:
    """Run the model once on the inputs and keep what happens inside; the model stays as it is, in its own mode.

    The pass is without gradients. Afterwards parameters, buffers, modes, hooks and random generators are what they
    were. What is kept are copies on the model's device.

    Arguments:
        model: any module. Attention is seen where it calls `F.scaled_dot_product_attention` or
            `F.multi_head_attention_forward`, and where it is written out as a softmax over the last axis of a product,
            multiplied with values.
        inputs: what the model is called with: a tensor, positional arguments, or arguments by name.
        attention: the modules whose maps are wanted, by name or pattern (`*` for any text), or modules around them;
            True for all, False for none. It is an error if one has no map. With True a model without attention is an
            error, too, unless activations are asked for, for then it may well be a convolutional network.
        activations: likewise the modules whose outputs are wanted, by their own names. Of a tuple or a `ModelOutput`
            it is the first tensor.
        heads, queries: the heads and the places of the queries that are wanted of each map; None for all. Negative
            ones count from the end. Only these are computed, so that a row of a long text is cheap.
        budget: bytes that the maps and activations may take together. It is asked before anything is computed.

    Raises:
        CaptureError: nothing fits what was asked for, a path cannot be seen, the budget is too small, the numbers are
            not finite, or the model fails; the message says what to do.

    >>> from glassrun.models.language_model import LanguageModel
    >>> model = LanguageModel(19, 11, num_layers=2, d_model=12, num_heads=3, d_ff=13).eval()
    >>> seen = capture(model, torch.tensor([[3, 1, 4, 1, 5]]), attention="layers.1", heads=[0, 2])
    >>> found = seen.attention["layers.1.attention"]
    >>> found.kind, found.masking, tuple(found.weights.shape), found.proof < 1e-6
    ('self', 'causal', (1, 2, 5, 5), True)
    """
    wanted = Modules.of(attention, "attention"), Modules.of(activations, "activations")
    keeper, output = _passed(model, inputs, wanted, heads, queries, budget)
    _check_found(keeper, *wanted)
    return Captured(keeper.maps, keeper.outputs, tuple(keeper.layers), output)


def capture_called(model: nn.Module, inputs: Inputs, activations: Sequence[str]) -> Captured:
    """Every attention map, and the outputs of those of some modules that are called; there need not be any.

    Arguments:
        model, inputs: as for `capture`.
        activations: names of modules.

    Raises:
        CaptureError: as for `capture`, but not where nothing fits.
    """
    wanted = Modules.of(True, "attention"), Modules.of(activations or False, "activations")
    keeper, output = _passed(model, inputs, wanted)
    return Captured(keeper.maps, keeper.outputs, tuple(keeper.layers), output)


def _passed(
    model: nn.Module,
    inputs: Inputs,
    wanted: tuple[Modules, Modules],
    heads: Sequence[int] | None = None,
    queries: Sequence[int] | None = None,
    budget: int = BUDGET,
) -> tuple[Keeper, Any]:
    """The pass; returns what was kept, and the model's output."""
    positional, named = _arguments(model, inputs)
    modules = dict(model.named_modules())
    first = {id(module): name for name, module in modules.items()}
    others = {name: first[id(module)] for name, module in model.named_modules(remove_duplicate=False)}
    for choice in wanted:
        choice.check(list(modules), others)
    _check_open(modules, *wanted)
    keeper = Keeper(model, *wanted, numbers(heads, "heads"), numbers(queries, "queries"), Budget(budget))
    seeing = Attention(keeper, Flow((positional, named))) if wanted[0] else None
    with unchanged(modules.values()), keeper.path.watching(modules), seeing or nullcontext():
        try:
            output = model(*positional, **named)
        except CaptureError:
            raise
        except Exception as error:
            raise _failure(keeper.path.described(), error) from error
    if seeing and seeing.refused:
        raise seeing.refused
    return keeper, output


def _arguments(model: nn.Module, inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What to call the model with, by position and by name."""
    if not isinstance(model, nn.Module):
        raise CaptureError(f"the model is a {type(model).__name__}; give a torch.nn.Module")
    positional: tuple[Any, ...] = ()
    named: dict[str, Any] = {}
    if isinstance(inputs, Tensor):
        positional = (inputs,)
    elif isinstance(inputs, Mapping):
        named = dict(inputs)
    elif isinstance(inputs, Sequence) and not isinstance(inputs, str | bytes):
        positional = tuple(inputs)
    else:
        raise CaptureError(
            f"the inputs are a {type(inputs).__name__}; give a tensor, a list of arguments or a dictionary of "
            "arguments by name (turn texts into tokens first)"
        )
    for name, value in [*enumerate(positional), *named.items()]:
        for tensor in tensors_in(value):
            if not tensor.is_nested and not tensor.numel():
                raise CaptureError(
                    f"the input {name} is empty, its shape is {tuple(tensor.shape)}; give at least one token or image"
                )
    return positional, named


def _check_open(modules: Mapping[str, nn.Module], attention: Modules, activations: Modules) -> None:
    """Nothing that is wanted may lie where no Python runs, and a pass may not make parameters."""
    closed: list[tuple[str, str]] = []
    for name, module in modules.items():
        if any(isinstance(p, UninitializedParameter) for p in module._parameters.values()):
            raise CaptureError(f"{name or 'the model'} has no weights yet; call the model once before")
        shown = name or "the model"
        if isinstance(module, torch.jit.ScriptModule):
            closed.append((name, f"{shown} is a TorchScript module: capture the model that it was scripted from"))
        elif "_orig_mod" in module._modules:
            of = f"model.{name}._orig_mod" if name else "model._orig_mod"
            closed.append((name, f"{shown} is compiled by torch.compile: capture with {of} in its place"))
        elif module._compiled_call_impl is not None:
            closed.append((name, f"{shown} was compiled by its compile(): capture a copy that was not"))
    for name, what in closed:
        inside = [other for other in modules if other == name or other.startswith(f"{name}.") or not name]
        if any(attention.reaches(other) or (other != name and activations.has(other)) for other in inside):
            raise CaptureError(f"{what}. Python does not run inside, so nothing can be seen there")


def _failure(where: str, error: Exception) -> CaptureError:
    """What to say of an error in the model's forward."""
    if type(error).__module__.startswith("torch._dynamo"):  # flex_attention compiles itself at its first call
        return CaptureError(
            f"{where} calls a function that torch.compile compiles, such as flex_attention; nothing can be seen "
            "inside. Let it call torch.nn.functional.scaled_dot_product_attention (models of transformers: "
            "attn_implementation='sdpa' or 'eager')"
        )
    return CaptureError(f"the model failed in {where}: {type(error).__name__}: {error}")


def _check_found(keeper: Keeper, attention: Modules, activations: Modules) -> None:
    """Everything that was asked for is there."""
    some_other = ", ".join(dict.fromkeys(name or "the model itself" for name in keeper.attending)) or "no module"
    if attention.patterns is True and not keeper.maps and not activations:
        raise CaptureError(
            "no attention call was seen in the model. Seen are F.scaled_dot_product_attention, "
            "F.multi_head_attention_forward, and a softmax over a product that is multiplied with values; kernels of "
            "other packages are not. Has it none, ask with attention=False for activations=… or the layers"
        )
    with_maps = [name for found in keeper.maps.values() for name in with_those_around(found.name)]
    for pattern in attention.unmet(with_maps):
        raise CaptureError(f"attention: no attention call was seen in {pattern!r}; they were in {some_other}")
    for pattern in activations.unmet(name.partition("#")[0] for name in keeper.outputs):
        called = any(fits(pattern, name) for name in keeper.left)
        why = "returned no tensor" if called else "was not called in this pass"
        raise CaptureError(f"activations: {pattern!r} {why}; choose other modules")
