"""What a benchmark ran on."""

from __future__ import annotations

import os
from typing import Any


def machine() -> dict[str, Any]:
    """The hardware, and how busy it is with other things now."""
    import torch

    from glassrun.record.environment import cpu_model

    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "load_average": round(os.getloadavg()[0], 2),
    }
