"""The functions that attention is made of, as code calls them: by position or by name, as function or method."""

from __future__ import annotations

import inspect
from string import ascii_uppercase
from types import FunctionType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._ops import OpOverload, OpOverloadPacket

PRODUCTS = frozenset(("matmul", "rmatmul", "bmm", "baddbmm", "einsum"))

FUSED = frozenset(
    (
        F.scaled_dot_product_attention,
        torch.ops.aten.scaled_dot_product_attention,
        torch.ops.aten.scaled_dot_product_attention.default,  # as exported programs call it
    )
)
_SDPA = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
_SDPA_DEFAULTS = {"attn_mask": None, "dropout_p": 0.0, "is_causal": False, "scale": None, "enable_gqa": False}
_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)
# The function first asks whether something overrides it; a mode does, for as long as it is active. This is its own code
# with "no" for an answer, so that a mode sees what it calls.
MULTI_HEAD_BODY = FunctionType(
    F.multi_head_attention_forward.__code__,
    vars(F) | {"has_torch_function": lambda _: False},
    F.multi_head_attention_forward.__name__,
    F.multi_head_attention_forward.__defaults__,
    F.multi_head_attention_forward.__closure__,
)


def of_sdpa(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments of `F.scaled_dot_product_attention` by name; None where they do not fit, which it then says."""
    given = _SDPA_DEFAULTS | dict(zip(_SDPA, args, strict=False)) | kwargs
    return given if all(isinstance(given.get(name), Tensor) for name in _SDPA[:3]) else None


def of_multi_head(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments of `F.multi_head_attention_forward` by name; None where they do not fit, which it then says."""
    try:
        bound = _MULTI_HEAD.bind(*args, **kwargs)
    except TypeError:
        return None
    bound.apply_defaults()
    return bound.arguments


class Factors(NamedTuple):
    """The factors of a product, and the equation if it has one."""

    left: Tensor
    right: Tensor
    equation: str | None


def factors_of(function: str, args: Any, kwargs: Any) -> Factors | None:
    """What a product multiplies; None where that is not two tensors."""
    equation = None
    if function == "einsum":
        equation, *given = args if args else (kwargs.get("equation"),)
        if len(given) == 1 and isinstance(given[0], tuple | list):
            given = list(given[0])
        if not isinstance(equation, str) or len(given) != 2:
            return None
        left, right = given
    elif function == "baddbmm":
        given = dict(zip(("input", "batch1", "batch2"), args, strict=False)) | kwargs
        left, right = given.get("batch1"), given.get("batch2")
    else:
        given = dict(zip(("input", "other"), args, strict=False)) | kwargs
        left, right = given.get("input"), given.get("other", given.get("mat2"))
        if function == "rmatmul":
            left, right = right, left
    if not isinstance(left, Tensor) or not isinstance(right, Tensor):
        return None
    return Factors(left, right, equation if equation is None else written_out(equation, left.ndim, right.ndim))


def written_out(equation: str, left: int, right: int) -> str:
    """An equation of `torch.einsum` with a letter for each axis that "..." stands for.

    Arguments:
        equation: of two operands.
        left, right: how many axes each has.

    >>> written_out("... q k, ... k d -> ... q d", 4, 3)
    'ABqk,Bkd->ABqd'
    """
    if "..." not in equation:
        return equation
    operands, arrow, output = equation.replace(" ", "").partition("->")
    parts = operands.split(",")
    counts = [ndim - len(part) + 3 if "..." in part else 0 for part, ndim in zip(parts, (left, right), strict=False)]
    letters = "".join(letter for letter in ascii_uppercase if letter not in equation)[: max(counts)]
    # Where one operand has more of these axes than the other, the last of them are the same.
    written = [part.replace("...", letters[len(letters) - n :]) for part, n in zip(parts, counts, strict=False)]
    return f"{','.join(written)}{arrow}{output.replace('...', letters)}"


def is_parameter(x: Tensor) -> bool:
    """Whether it is a parameter or a view of one: a product with it is a projection."""
    return isinstance(x, nn.Parameter) or isinstance(x._base, nn.Parameter)


def full_name(func: Any, name: str) -> str:
    """A function for people."""
    if isinstance(func, OpOverload | OpOverloadPacket):
        return f"torch.ops.{func}"
    module = getattr(func, "__module__", None)
    return f"{module}.{name}" if module and "." not in name else name
