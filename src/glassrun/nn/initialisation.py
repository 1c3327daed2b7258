"""Initialisation by name: what a parameter starts from depends on the seed, its name and its shape, and nothing else.

So adding a layer moves no other layer's start, and no generator is shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from glassrun.keys import derive

Draw = Callable[[Tensor, Generator], object]


def initialise(model: nn.Module, seed: int, draw: Callable[[str, nn.Parameter], Draw | float]) -> None:
    """Fill every parameter in place; a tied one once, under its first name.

    Arguments:
        model: its parameters lie on the CPU.
        seed: of the run.
        draw: for a name and its parameter, a constant, or a function that fills a tensor from a generator.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            how = draw(name, parameter)
            if isinstance(how, float):
                parameter.fill_(how)
            else:
                how(parameter, Generator().manual_seed(derive(seed, "init", name)))


def normal(std: float) -> Draw:
    """Normal with mean 0."""
    return lambda tensor, generator: tensor.normal_(0.0, std, generator=generator)


def xavier_uniform(parts: int = 1) -> Draw:
    """Uniform in ±√(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, equation 16).

    Arguments:
        parts: how many matrices are stacked in the tensor; the fan-out is that of one. In a convolution's kernels, a
            channel counts once for each of their places.
    """

    def draw(tensor: Tensor, generator: Generator) -> None:
        area = tensor[0, 0].numel()
        fan_out, fan_in = tensor.shape[0] // parts * area, tensor.shape[1] * area
        bound = math.sqrt(6.0 / (fan_in + fan_out))
        tensor.uniform_(-bound, bound, generator=generator)

    return draw


def he_normal(tensor: Tensor, generator: Generator) -> None:
    """Normal with variance 2 / fan_in, for layers before a ReLU (He et al. 2015, equation 10)."""
    fan_in = tensor[0].numel()
    tensor.normal_(0.0, math.sqrt(2.0 / fan_in), generator=generator)


def norm_or_bias(name: str) -> float:
    """Norms start as the identity, biases at zero."""
    return 1.0 if name.endswith("weight") else 0.0
