"""One forward pass of a model, looked into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from glassrun.capturing.calls import Attention
from glassrun.capturing.maps import AttentionMap, Captured


def capture(
    model: nn.Module,
    inputs: Tensor | Sequence[Any] | Mapping[str, Any],
    *,
    attention: bool | str | Sequence[str] = True,
    activations: bool | str | Sequence[str] = False,
    heads: Sequence[int] | None = None,
    queries: Sequence[int] | None = None,
    budget: int = 2**28,
) -> Captured:
    """Run the model once on the inputs and keep what happens inside; the model stays as it is, in its own mode.

    Arguments:
        model: any module; attention is seen where it calls `F.scaled_dot_product_attention` or
            `F.multi_head_attention_forward`.
        inputs: what the model is called with: a tensor, positional arguments, or arguments by name.
        attention: the modules whose maps are wanted, by name or pattern (`*` for any part); True for all, False for
            none.
        activations: likewise the modules whose outputs are wanted.
        heads, queries: the heads and the places of the queries that are wanted of each map; None for all.
        budget: bytes that the maps and activations may take together.

    Raises:
        CaptureError: nothing fits what was asked for, a path cannot be seen, or the budget is too small; the message
            says what to ask for instead.
    """
    found: dict[str, AttentionMap] = {}
    kept: dict[str, Tensor] = {}
    path: list[str] = []

    def keep(seen: AttentionMap) -> None:
        found[seen.name if seen.name not in found else f"{seen.name}#2"] = seen

    def enter(name: str) -> Any:
        return lambda module, args: path.append(name)

    def leave(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            path.pop()
            if activations and isinstance(output, Tensor):
                kept[name] = output.detach().clone()

        return hook

    hooks = [
        hook
        for name, module in model.named_modules()
        for hook in (module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave(name)))
    ]
    try:
        with torch.no_grad(), Attention(lambda: path[-1] if path else "", keep):
            match inputs:
                case Tensor():
                    output = model(inputs)
                case Mapping():
                    output = model(**inputs)
                case _:
                    output = model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return Captured(found, kept, (), output)
