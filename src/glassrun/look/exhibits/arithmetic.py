"""The queries, keys and values of every attention call, and what one query makes of them, number by number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

Array = NDArray[Any]


@dataclass(frozen=True)
class Call:
    """One call of the fused attention, of the first sentence of its batch.

    Arguments:
        query, key, value: Float[heads, length, d_k]; keys and values may have fewer heads.
        output: Float[heads, query, d_k], what the model went on with.
        bias: Float[heads or 1, query, key], what is added to the scaled scores: −∞ where a query may not look.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    bias: Tensor


class Calls(TorchFunctionMode):
    """Keeps every call of `F.scaled_dot_product_attention`, in order, and lets it go as it goes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Call] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            with torch._C.DisableTorchFunction():
                self.found.append(_call(output, *args, **(kwargs or {})))
        return output


def _call(
    output: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *,
    is_causal: bool = False,
    **_: Any,
) -> Call:
    queries, keys = query.shape[-2], key.shape[-2]
    bias = torch.zeros(1, queries, keys)
    if is_causal:
        bias = bias.masked_fill(~torch.ones(queries, keys, dtype=torch.bool).tril(), -math.inf)
    if attn_mask is not None:
        own = attn_mask[0] if attn_mask.ndim > 3 else attn_mask
        bias = torch.where(own, bias, -math.inf) if own.dtype == torch.bool else bias + own
    return Call(query[0].detach(), key[0].detach(), value[0].detach(), output[0].detach(), bias)


@dataclass(frozen=True)
class Steps:
    """The arithmetic of one query in one head.

    Arguments:
        scores: Float[key], q · k, with √d_k times what positions add; −∞ where the query may not look.
        scaled: Float[key], divided by √d_k.
        powers: Float[key], e to these less the largest, which moves no weight and overflows never.
        weights: Float[key], divided by their sum.
        values: Float[key, d_k].
        output: Float[d_k], the weighted sum of the values.
        model_output: Float[d_k], the model's own.
    """

    scores: Array
    scaled: Array
    powers: Array
    weights: Array
    values: Array
    output: Array
    model_output: Array


def steps(call: Call, head: int, query: int) -> Steps:
    """Score, scale, softmax, weighted sum, in double precision, of what the model computed in its own.

    Source: Vaswani et al. 2017, equation 1.
    """
    group = head * len(call.key) // len(call.query)
    q, k, v = (x.double().numpy() for x in (call.query[head, query], call.key[group], call.value[group]))
    root = math.sqrt(len(q))
    bias = call.bias[head if len(call.bias) > 1 else 0, query].double().numpy()
    scores = k @ q + root * bias
    scaled = scores / root
    powers = np.exp(scaled - scaled.max())
    weights = powers / powers.sum()
    return Steps(scores, scaled, powers, weights, v, weights @ v, call.output[head, query].double().numpy())
