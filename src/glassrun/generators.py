"""Generators of torch, NumPy and Python, set from a key."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from glassrun.keys import derive


def set_generators(seed: int, *purpose: str | int) -> None:
    """Set torch's, NumPy's and Python's default generators from the key of (seed, purpose).

    So a module that draws from any of them, as dropout does, draws the same numbers wherever and whenever it runs.
    `torch.default_generator.manual_seed` takes 1 µs where `torch.manual_seed`, which also visits devices, takes 138.
    """
    key = derive(seed, *purpose)
    torch.default_generator.manual_seed(key)
    np.random.seed(key % 2**32)  # noqa: NPY002 - the point is to set the generator that others use
    random.seed(key)


def set_generator(generator: Any, key: int) -> None:
    """Set a generator of torch, NumPy or Python from a key; `random.SystemRandom` has no state to set."""
    if isinstance(generator, torch.Generator):
        generator.manual_seed(key)
    elif isinstance(generator, np.random.Generator):
        set_generator(generator.bit_generator, key)
    elif isinstance(generator, np.random.BitGenerator):
        generator.state = type(generator)(key).state
    else:
        generator.seed(key % 2**32)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Whatever is drawn or set inside, afterwards the default generators stand where they stood."""
    of_torch = torch.default_generator.get_state()
    of_numpy = np.random.get_state()  # noqa: NPY002 - the generator that others use
    of_python = random.getstate()
    try:
        yield
    finally:
        torch.default_generator.set_state(of_torch)
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)
