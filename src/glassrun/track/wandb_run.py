"""A run in Weights & Biases: offline, as files that `wandb sync` sends later, or online."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glassrun.errors import MissingDependency
from glassrun.track.reader import Row

_STEP = "step"


class WandbRun:
    """One run of a project. Offline, its files lie in the run folder under `wandb/`, and no network is used.

    Arguments:
        project: its name.
        mode: offline or online.
        folder: the run folder.
    """

    def __init__(self, project: str, mode: str, folder: Path) -> None:
        # Its error reports go to a service of its makers.
        os.environ |= {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
        try:
            import wandb
        except ImportError:
            raise MissingDependency("wandb", "tracking with Weights & Biases", extra="wandb") from None
        self._wandb, self._project, self._mode, self._folder = wandb, project, mode, folder
        self._run: Any = None

    def begin(self, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str], started: int) -> None:  # noqa: ARG002 - its own clock
        """Make the run, or, online, go on with it; its id is the execution's."""
        settings = self._wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            save_code=False,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
        )
        self._run = self._wandb.init(
            project=self._project,
            name=name,
            id=tags["glassrun.run"],
            dir=str(self._folder),
            mode=self._mode,
            resume="allow" if self._mode == "online" else None,
            config={**parameters, **tags},
            settings=settings,
        )
        # Rows come with their own step: an evaluation is read after steps that follow it.
        self._run.define_metric("*", step_metric=_STEP)

    def log(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._run.log({_STEP: row.step, **row.values})

    def end(self, status: str, tags: Mapping[str, str], files: Sequence[Path], root: Path) -> None:
        """Set the last tags, add the files, and end the run."""
        self._run.config.update({**tags}, allow_val_change=True)
        for path in files:
            self._run.save(str(path), base_path=str(root), policy="now")
        self._run.finish(exit_code=0 if status == "complete" else 1)
