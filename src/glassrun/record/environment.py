"""The environment of a run: what it ran on, with which versions, and every setting that changes bits."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glassrun.record import distributions

# Only these are recorded: the environment of a process can hold secrets.
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLASLT_WORKSPACE_SIZE",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "GLIBC_TUNABLES",
    "KMP_DETERMINISTIC_REDUCTION",
    "LD_PRELOAD",
    "MKL_CBWR",
    "MKL_DYNAMIC",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS",
    "MKL_THREADING_LAYER",
    "NCCL_ALGO",
    "NCCL_PROTO",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_DYNAMIC",
    "OMP_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "PYTHONHASHSEED",
    "PYTORCH_TUNABLEOP_ENABLED",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_BLAS_PREFER_CUBLASLT",
)
# Where torch keeps what float32 may be rounded to before it is multiplied.
_FP32_PRECISION = (
    "cuda.matmul",
    "cudnn.conv",
    "cudnn.rnn",
    "mkldnn.conv",
    "mkldnn.matmul",
    "mkldnn.rnn",
)


def collect() -> dict[str, Any]:
    """Everything worth knowing about this process's environment, as plain values."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "python_build": f"{' '.join(platform.python_build())}, {platform.python_compiler()}",
        "platform": platform.platform(),
        "libc": " ".join(platform.libc_ver()),
        "cpus": os.cpu_count(),
        "packages": distributions.versions(),
        "origins": distributions.origins(),
        "torch_build": torch.__config__.show().strip(),
        "torch_commit": torch.version.git_version,
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
        "float32_matmul_precision": _matmul_precision(),
        "fp32_precision": {f"fp32_precision of {name}": _fp32_precision(name) for name in _FP32_PRECISION},
        "flush_denormal": _flushes_denormals(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ and name != "PYTHONHASHSEED"},
    }


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


def _matmul_precision() -> str:
    try:
        return str(torch.get_float32_matmul_precision())
    except RuntimeError:  # torch gives no answer where somebody set it by the older and the newer way
        return "set in two ways"


def _fp32_precision(name: str) -> str:
    """What is in force: a setting that is "none" follows the next wider one, and the widest is full precision."""
    found: Any = torch.backends
    settings = [found.fp32_precision]
    for part in name.split("."):
        found = getattr(found, part)
        settings.append(getattr(found, "fp32_precision", "none"))
    return next((str(setting) for setting in reversed(settings) if setting != "none"), "ieee")


def _cuda() -> dict[str, Any] | None:
    if not torch.cuda.is_available():
        return None
    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "runtime": torch.version.cuda,
        "driver": _driver(),
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "devices": [device.name for device in devices],
        "capabilities": [f"{device.major}.{device.minor}" for device in devices],
        "memory_bytes": [device.total_memory for device in devices],
    }


def _driver() -> str:
    """The version of NVIDIA's kernel driver."""
    path = Path("/proc/driver/nvidia/version")
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    found = re.search(r"\b\d{3,}\.\d+(?:\.\d+)?\b", text)
    return found.group() if found else "unknown"
