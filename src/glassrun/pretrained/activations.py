"""Hugging Face's names of activations to ours."""

from __future__ import annotations

from glassrun.nn.feedforward import Plain

ACTIVATIONS: dict[str, Plain] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "silu": "silu",
    "swish": "silu",
    "relu2": "relu2",
}
