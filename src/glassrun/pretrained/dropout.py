"""Rates of dropout as another library sets them, where our models have one for all places."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from glassrun.nn.attention import MultiHeadAttention

Model = TypeVar("Model", bound=nn.Module)


def set_dropout(model: Model, rate: float, *, attention: float, embedding: float | None = None) -> Model:
    """Set every rate of a model that was made without dropout; it matters when it is trained on.

    Arguments:
        model: its own dropout, after the embedding, is called `dropout`.
        rate: after each part of a layer.
        attention: of the attention weights.
        embedding: after the embedding; None for the same as `rate`.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        elif isinstance(module, MultiHeadAttention):
            module.dropout = attention
    if embedding is not None:
        model.get_submodule("dropout").p = embedding  # type: ignore[assignment]
    return model
