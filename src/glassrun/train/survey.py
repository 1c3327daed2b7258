"""A worker that runs nothing: it tells the environment that a run of these numerics would have here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glassrun import config
from glassrun.record import environment
from glassrun.train.state import set_numerics


def run(job: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:  # noqa: ARG001 - a job's form
    """The environment as `run.json` records it."""
    set_numerics(config.Numerics.model_validate(job["numerics"]))
    return {"environment": environment.collect()}
