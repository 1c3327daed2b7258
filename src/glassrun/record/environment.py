"""The environment of a run: what it ran on, with which versions, and every setting that changes bits."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

# Only these are recorded: the environment of a process can hold secrets.
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "KMP_DETERMINISTIC_REDUCTION",
    "MKL_CBWR",
    "MKL_DYNAMIC",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_DYNAMIC",
    "OMP_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "PYTHONHASHSEED",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)


def collect() -> dict[str, Any]:
    """Everything worth knowing about this process's environment, as plain values."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": packages(),
        "torch_build": torch.__config__.show().strip(),
        "cuda": _cuda(),
        "numerics": numerics(),
    }


def numerics() -> dict[str, Any]:
    """What decides bits here besides config, data and code: two equal records promise equal bits."""
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "blas": "MKL" if torch.backends.mkl.is_available() else _build_setting("BLAS_INFO"),  # type: ignore[no-untyped-call]
        "onednn": _onednn_version(),
        "threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "flush_denormal": _flushes_denormals(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ and name != "PYTHONHASHSEED"},
    }


def packages() -> dict[str, str]:
    """Every installed distribution and its version."""
    found = {(d.metadata["Name"] or "").lower(): d.version for d in metadata.distributions()}
    return {name: found[name] for name in sorted(found) if name}


def differences(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """One line for each setting of `numerics` that is not the same."""
    lines = []
    for name in sorted({*recorded, *here}):
        a, b = recorded.get(name), here.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += [
                f"{key}: recorded {a.get(key)}, here {b.get(key)}"
                for key in sorted({*a, *b})
                if a.get(key) != b.get(key)
            ]
        elif a != b:
            lines.append(f"{name}: recorded {a}, here {b}")
    return lines


def cpu_model() -> str:
    """The processor's name as the operating system gives it."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _flushes_denormals() -> bool:
    """Whether a product below the smallest normal float32 comes out as zero."""
    return float((torch.tensor([1e-38]) * torch.tensor([0.1])).item()) == 0.0


def _onednn_version() -> str:
    found = re.search(r"(?:MKL-DNN|oneDNN) v([\w.]+)", torch.__config__.show())
    return found.group(1) if found else "none"


def _build_setting(name: str) -> str:
    found = re.search(rf"{name}=(\w+)", torch.__config__.show())
    return found.group(1) if found else "unknown"


def _cuda() -> dict[str, Any] | None:
    if not torch.cuda.is_available():
        return None
    return {
        "runtime": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def python_version() -> str:
    """Major, minor and micro."""
    return ".".join(map(str, sys.version_info[:3]))
