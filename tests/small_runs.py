"""Tiny trained runs, one of each recipe for all tests of a process."""

from __future__ import annotations

from glassrun import run
from in_process import trained
from support import Made


def small_run(made: Made, name: str) -> run.Run:
    """A finished run of a small recipe; read it, change nothing of it."""
    path = made.folder / "small-runs" / name
    return run.load(path) if path.exists() else trained(made.recipe(name), path)
