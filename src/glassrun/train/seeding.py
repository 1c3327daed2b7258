"""What can be done for a stranger's script, from inside, so that it repeats."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Seeded:
    """What `seed` has set, and what it could not, each with the reason."""

    set: tuple[str, ...]
    not_set: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"set: {item}" for item in self.set] + [f"NOT set: {item}" for item in self.not_set]
        return "\n".join(lines)


def seed(number: int) -> Seeded:
    """Make a script of your own as repeatable as it can be made from inside: seeds, deterministic algorithms, TF32.

    For a run that repeats whatever happens around it, train with a recipe; this is for code that stays as it is.

    Arguments:
        number: the seed, from 0 to 2³² − 1 (NumPy takes no larger one).

    Returns:
        What was set and what could not be; print it.

    Raises:
        ValueError: the number is outside the range.
    """
    if not 0 <= number < 2**32:
        raise ValueError(f"the seed must be from 0 to 2**32 - 1, which is NumPy's range; found {number}")
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002 - the point is to set the generator that others use
    torch.manual_seed(number)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    done = [
        f"Python, NumPy and torch generators (CPU and every CUDA device): {number}",
        "torch.use_deterministic_algorithms(True): an operation that has no deterministic form is an error",
        "cuDNN: deterministic, benchmark off; TF32 off",
    ]
    missed: list[str] = []
    _set_float32_precision(done, missed)
    _set_cublas_workspace(done, missed)
    _say_what_is_too_late(missed)
    return Seeded(tuple(done), tuple(missed))


def _set_float32_precision(done: list[str], missed: list[str]) -> None:
    """oneDNN's and CUDA's newer settings, each of which may let float32 be computed in fewer bits."""
    backends: Any = torch.backends
    places = {
        "mkldnn.matmul": backends.mkldnn.matmul,
        "mkldnn.conv": backends.mkldnn.conv,
        "mkldnn.rnn": backends.mkldnn.rnn,
        "cuda.matmul": backends.cuda.matmul,
        "cudnn.conv": backends.cudnn.conv,
        "cudnn.rnn": backends.cudnn.rnn,
    }
    for name, place in places.items():
        try:
            place.fp32_precision = "ieee"
        except (AttributeError, RuntimeError) as error:
            missed.append(f"torch.backends.{name}.fp32_precision: {' '.join(str(error).split())}")
    done.append(f"fp32_precision: ieee for {', '.join(name for name in places if not any(name in m for m in missed))}")


def _cuda_in_use() -> bool:
    return torch.cuda.is_available() and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _set_cublas_workspace(done: list[str], missed: list[str]) -> None:
    if _cuda_in_use() and "CUBLAS_WORKSPACE_CONFIG" not in os.environ:
        missed.append("CUBLAS_WORKSPACE_CONFIG: CUDA is in use already; set it to :4096:8 before the first CUDA call")
    else:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        done.append(f"CUBLAS_WORKSPACE_CONFIG={os.environ['CUBLAS_WORKSPACE_CONFIG']}")


def _say_what_is_too_late(missed: list[str]) -> None:
    if "PYTHONHASHSEED" not in os.environ:
        missed.append("PYTHONHASHSEED: read when Python starts; start with PYTHONHASHSEED=0 if your code iterates sets")
    if os.environ.get("MKL_CBWR") is None:
        missed.append(
            "MKL_CBWR: read when torch is imported; start with MKL_CBWR=AUTO, "
            "or products change bits with memory alignment"
        )
    if torch.get_num_threads() > 1:
        missed.append(
            f"threads: torch uses {torch.get_num_threads()}, and gradients depend on that number; "
            "call torch.set_num_threads(1), or always use the same"
        )
    missed.append(
        "generators of your own (numpy.random.default_rng(), torch.Generator(), random.SystemRandom) and the clock"
    )
