"""See every attention call of a model through a function mode, and hand it on; the calls go as they go.

Three ways to attention are known: `F.scaled_dot_product_attention`; `F.multi_head_attention_forward`, whose body is one
of the other two between projections; and attention written out, a softmax over the last axis of a product of two
computed tensors, multiplied with a computed tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import CausalBias
from torch.overrides import TorchFunctionMode

from glassrun.capturing import functions
from glassrun.capturing.attentions import AttentionCall, Fused, Written, folded_heads, four_axes, split_lead
from glassrun.capturing.flow import Flow, Origin, bare, latest
from glassrun.capturing.functions import Factors
from glassrun.capturing.maps import Kind
from glassrun.capturing.masking import MASKED
from glassrun.capturing.products import Product, second_product
from glassrun.capturing.selection import Chosen
from glassrun.errors import CaptureError

_SDPA = "torch.nn.functional.scaled_dot_product_attention"
_MULTI_HEAD = "torch.nn.functional.multi_head_attention_forward"
_WRITTEN = "softmax · V, written out"


class Place(Protocol):
    """Where in the model the pass is, and what is wanted there."""

    def attends(self) -> bool:
        """An attention call comes; whether its map is wanted."""

    def wanted(self) -> bool:
        """Whether maps of the module that is running are wanted."""

    def inputs(self) -> list[Tensor]:
        """The tensors that this module was called with."""

    def described(self) -> str:
        """The module, for messages."""

    def choose(self, batch: int, heads: int, queries: int, keys: int) -> Chosen:
        """The heads and queries that are wanted of a call of these sizes; raises CaptureError."""

    def keep(self, call: AttentionCall, chosen: Chosen) -> None:
        """Make the map of a call."""


@dataclass(frozen=True)
class _MultiHead:
    """The call of `F.multi_head_attention_forward` that is running: its heads, and how many keys it adds by itself."""

    num_heads: int
    added: int


class Attention(TorchFunctionMode):
    """Hands each attention call to its place.

    Attributes:
        refused: the error that ended the pass, for the model may hide it.
    """

    def __init__(self, place: Place, flow: Flow) -> None:
        super().__init__()
        self._place, self._flow = place, flow
        self._inside: _MultiHead | None = None
        self.refused: CaptureError | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        try:
            return self._call(func, args, kwargs or {})
        except CaptureError as error:
            self.refused = error
            raise

    def _call(self, func: Any, args: Any, kwargs: Any) -> Any:
        if func in functions.FUSED:
            return self._fused(func, args, kwargs)
        if func is F.multi_head_attention_forward:
            return self._multi_head(func, args, kwargs)
        name = getattr(func, "__name__", None) or str(func)
        match bare(name):
            case "softmax":
                return self._softmax(func, name, args, kwargs)
            case "dropout":
                return self._dropout(func, name, args, kwargs)
            case product if product in functions.PRODUCTS:
                return self._product(func, name, args, kwargs)
        if ("attention" in name or "attn" in name) and self._place.wanted():
            raise CaptureError(
                f"{self._place.described()} calls {functions.full_name(func, name)}, which gives no weights and "
                "cannot be looked into. Let it call torch.nn.functional.scaled_dot_product_attention (models of "
                "transformers: attn_implementation='sdpa' or 'eager'), or leave the module out by naming others with "
                "attention=…"
            )
        return self._other(func, name, args, kwargs)

    def _other(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        output = func(*args, **kwargs)
        self._flow.follow(name, args, kwargs, output)
        return output

    def _multi_head(self, func: Any, args: Any, kwargs: Any) -> Any:
        given = functions.of_multi_head(args, kwargs)
        if given is None:
            return func(*args, **kwargs)
        before = self._inside
        self._inside = _MultiHead(given["num_heads"], (given["bias_k"] is not None) + bool(given["add_zero_attn"]))
        try:
            with self:
                return functions.MULTI_HEAD_BODY(*args, **kwargs)
        finally:
            self._inside = before

    def _fused(self, func: Any, args: Any, kwargs: Any) -> Any:
        given = functions.of_sdpa(args, kwargs)
        if given is None:
            return func(*args, **kwargs)
        query, key, value = given["query"], given["key"], given["value"]
        chosen = None
        if self._place.attends():
            self._refuse_unreadable(query)
            lead = query.shape[:-2]
            if not given["enable_gqa"]:
                lead = torch.broadcast_shapes(lead, key.shape[:-2])  # type: ignore[no-untyped-call]
            heads = self._heads_in(lead, query.shape[-2])
            # Before the call: who asks for too much need not wait for it.
            chosen = self._place.choose(*split_lead(lead, heads), query.shape[-2], key.shape[-2])
        output = func(*args, **kwargs)
        if chosen:
            with _aside(query.device.type):
                call = Fused(
                    function=self._name(_SDPA),
                    kind=self._kind(self._flow.of(query).sequence, self._flow.of(key).sequence),
                    dropped=given["dropout_p"] > 0,
                    added=self._inside.added if self._inside else 0,
                    query=four_axes(query.expand(*lead, *query.shape[-2:]), lead, heads),
                    key=four_axes(key, lead, heads),
                    value=four_axes(value, lead, heads),
                    output=four_axes(output, lead, heads),
                    mask=_mask(given["attn_mask"], query.device, lead, heads),
                    is_causal=given["is_causal"],
                    scale=given["scale"],
                )
                self._place.keep(call, chosen)
        self._flow.mixed(output)
        return output

    def _product(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        factors = functions.factors_of(bare(name), args, kwargs)
        if factors is None:
            return self._other(func, name, args, kwargs)
        left, right = self._flow.of(factors.left), self._flow.of(factors.right)
        product = second_product(factors, left, right)
        if product is not None:
            output = func(*args, **kwargs)
            self._written(left if left.softmaxed else right, factors, product, output)
            return output
        if left.softmaxed or right.softmaxed or functions.is_parameter(factors.right):
            return self._other(func, name, args, kwargs)
        output = func(*args, **kwargs)
        self._flow.mark(output, Origin(latest((left, right)), (left.sequence, right.sequence)))
        return output

    def _softmax(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        scores = args[0] if args else kwargs.get("input")
        axis = args[1] if len(args) > 1 else kwargs.get("dim")
        origin = self._flow.of(scores)
        if origin.factors is None or axis not in (-1, scores.ndim - 1) or scores.ndim < 2:
            return self._other(func, name, args, kwargs)
        output = func(*args, **kwargs)
        blocked = None
        if self._place.wanted():
            self._refuse_unreadable(scores)
            with _aside(scores.device.type):
                blocked = scores <= MASKED
                blocked = blocked if blocked.any() else None
        self._flow.mark(output, Origin(origin.sequence, origin.factors, softmaxed=True, blocked=blocked))
        return output

    def _dropout(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        given = dict(zip(("input", "p", "training"), args, strict=False)) | kwargs
        active = given.get("p", 0.5) > 0 and given.get("training", given.get("train", True))
        origin = self._flow.of(given.get("input"))
        if not origin.softmaxed:
            return self._other(func, name, args, kwargs)
        output = func(*args, **kwargs)
        if not active:
            self._flow.mark(output, origin)
        elif output is given["input"]:  # in place: the weights are gone
            self._flow.mark(output, Origin(origin.sequence))
        else:
            with _aside(output.device.type):
                before = given["input"].mT if origin.turned else given["input"]
            self._flow.mark(output, replace(origin, undropped=before))
        return output

    def _written(self, origin: Origin, factors: Factors, product: Product, output: Tensor) -> None:
        if self._place.attends():
            self._refuse_unreadable(output)
            with _aside(output.device.type):
                weights = product.weights(factors) if origin.undropped is None else origin.undropped
                rows = product.outputs(output)
                lead, (queries, keys) = rows.shape[:-2], weights.shape[-2:]
                heads = self._heads_in(lead, queries)
                chosen = self._place.choose(*split_lead(lead, heads), queries, keys)
                assert origin.factors is not None, "weights began as scores"
                # Beside the last keys that are no tokens, or were cut off after the softmax.
                tokens = keys - (self._inside.added if self._inside else 0)
                call = Written(
                    function=self._name(_WRITTEN),
                    kind=self._kind(*origin.factors),
                    dropped=origin.undropped is not None,
                    own=four_axes(weights.expand(*lead, queries, keys), lead, heads),
                    value=four_axes(product.values(factors), lead, heads),
                    output=four_axes(rows, lead, heads),
                    blocked=None if origin.blocked is None else origin.blocked[..., :tokens],
                )
                self._place.keep(call, chosen)
        self._flow.mixed(output)

    def _heads_in(self, lead: torch.Size, queries: int) -> int:
        if len(lead) != 1:
            return 1
        return self._inside.num_heads if self._inside else folded_heads(lead[0], queries, self._place.inputs())

    def _name(self, function: str) -> str:
        return _MULTI_HEAD if self._inside else function

    def _kind(self, query: int | None, key: int | None) -> Kind:
        return "self" if query == key else "cross"

    def _refuse_unreadable(self, x: Tensor) -> None:
        """There must be plain numbers to make a map of."""
        if x.is_nested:
            found = "within nested tensors, which cannot be looked into: give the model padded tensors and a mask"
        elif x.is_meta:
            found = "on the meta device, where tensors hold no numbers: load its weights first"
        elif torch._C._functorch.is_functorch_wrapped_tensor(x):
            found = "inside torch.vmap or another transform of torch.func: let the model call itself without it"
        else:
            return
        raise CaptureError(f"{self._place.described()} attends {found}")


def _mask(given: Tensor | None, device: torch.device, lead: torch.Size, heads: int) -> Tensor | None:
    if isinstance(given, CausalBias):  # a mask that is only described
        given = given._materialize(device)
    return None if given is None else four_axes(given, lead, heads)


@contextmanager
def _aside(device: str) -> Iterator[None]:
    """For arithmetic of our own in the middle of the model's: seen by nobody, and in the types that we choose."""
    with torch.no_grad(), torch._C.DisableTorchFunction(), torch.autocast(device, enabled=False):
        yield
