"""See every attention call of a model through a function mode, and rebuild its weights beside it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from glassrun.capturing.maps import AttentionMap, Masking
from glassrun.functional.attention import repeat_heads

_SDPA = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_MULTI_HEAD = tuple(inspect.signature(F.multi_head_attention_forward).parameters)


class Attention(TorchFunctionMode):
    """Hands each attention call's map to `keep`, and lets the call itself go as it goes."""

    def __init__(self, where: Callable[[], str], keep: Callable[[AttentionMap], None]) -> None:
        super().__init__()
        self._where, self._keep = where, keep

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            with torch.no_grad(), torch._C.DisableTorchFunction():
                self._keep(_of_fused(self._where(), output, **dict(zip(_SDPA, args, strict=False)), **kwargs))
        return output


def _of_fused(
    name: str,
    output: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> AttentionMap:
    groups = key.shape[-3]
    if enable_gqa:
        key, value = (repeat_heads(x, query.shape[-3] // groups) for x in (key, value))
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, -torch.inf)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    weights = scores.softmax(-1)
    masking: Masking = "causal" if is_causal else "none" if attn_mask is None else "mask"
    return AttentionMap(
        name=name,
        kind="cross" if "cross" in name else "self",
        masking=masking,
        weights=weights,
        heads=tuple(range(weights.shape[1])),
        queries=tuple(range(weights.shape[-2])),
        num_heads=weights.shape[1],
        num_key_value_heads=groups,
        proof=float((weights @ value - output).abs().max()),
        function="torch.nn.functional.scaled_dot_product_attention",
    )
