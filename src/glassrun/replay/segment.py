"""Which steps of a run are replayed."""

from __future__ import annotations

from glassrun.errors import ConfigError, RunFolderError
from glassrun.record.run_folder import RunFolder


def segment(folder: RunFolder, first: int | None, last: int | None) -> tuple[int, int]:
    """The steps that a replay compares, both ends included.

    Raises:
        RunFolderError: the run has no steps yet.
        ConfigError: the segment is not inside the run.
    """
    steps = len(folder.lines())
    if not steps:
        raise RunFolderError(
            f"{folder.path}: nothing to replay: the run has no step yet. glassrun resume {folder.path}"
        )
    first, last = 1 if first is None else first, steps if last is None else last
    if not 1 <= first <= last <= steps:
        raise ConfigError(f"--from {first} --to {last}: expected 1 ≤ from ≤ to ≤ {steps}, which is how far the run got")
    return first, last
