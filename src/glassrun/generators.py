"""The default generators of torch, NumPy and Python, set from a key."""

from __future__ import annotations

import random

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
