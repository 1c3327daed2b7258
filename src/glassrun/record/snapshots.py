"""Where a run folder keeps its snapshots (see `train.snapshots`), and after which steps they are taken."""

from __future__ import annotations

import re
from pathlib import Path


def planned(count: int, steps: int) -> list[int]:
    """After which steps snapshots are taken: the first, the last, and evenly between; of one alone, the last.

    >>> planned(4, 10), planned(1, 10), planned(0, 10), planned(9, 3)
    ([1, 4, 7, 10], [10], [], [1, 2, 3])
    """
    if count < 2 or steps < 2:
        return [steps][:count]
    count = min(count, steps)
    return [1 + place * (steps - 1) // (count - 1) for place in range(count)]


def path_of(folder: Path, step: int) -> Path:
    """Where a run folder keeps the snapshot after a step."""
    return folder / "snapshots" / f"step-{step:06d}.safetensors"


def paths(folder: Path) -> list[Path]:
    """A run folder's snapshots, oldest first."""
    found = (folder / "snapshots").glob("step-*")
    named = [path for path in found if re.fullmatch(r"step-\d{6,}\.safetensors", path.name)]
    return sorted(named, key=lambda path: int(path.stem[5:]))
