"""A run in MLflow: on a server, or wherever else MLflow can keep runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from glassrun.errors import MissingDependency
from glassrun.track.reader import Row

Item = TypeVar("Item")

# MLflow's own limits on one request, and on a value.
_MOST_METRICS, _MOST_OTHERS, _LONGEST_VALUE = 1000, 100, 6000
_STATUS = {"complete": "FINISHED", "stopped": "FAILED", "interrupted": "KILLED"}
# A request that gets no answer is given up soon: it is made again at the next look. Nothing is told to MLflow's makers.
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class MlflowRun:
    """One run of an experiment; found again by its tag `glassrun.run`, so that sending twice is sending once.

    Arguments:
        uri: the tracking server's address; None leaves it to MLflow (MLFLOW_TRACKING_URI).
        experiment: its name.
    """

    def __init__(self, uri: str | None, experiment: str) -> None:
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise MissingDependency("mlflow", "tracking with MLflow", extra="mlflow") from None
        self._client = MlflowClient(tracking_uri=uri)
        self._experiment = experiment
        self._run = ""

    def begin(self, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str], started: int) -> None:
        """Find the run or make it; parameters and tags are set."""
        from mlflow.entities import Param, RunTag

        found = self._client.get_experiment_by_name(self._experiment)
        experiment = found.experiment_id if found else self._client.create_experiment(self._experiment)
        own = f"tags.`glassrun.run` = '{tags['glassrun.run']}'"
        runs = self._client.search_runs([experiment], own, max_results=1)
        run = runs[0] if runs else self._client.create_run(experiment, started, {**tags}, name)
        self._run = run.info.run_id
        pairs = [(key, str(value)[:_LONGEST_VALUE]) for key, value in parameters.items()]
        for some in _parts(pairs, _MOST_OTHERS):
            self._client.log_batch(self._run, params=[Param(*pair) for pair in some])
        self._client.log_batch(self._run, tags=[RunTag(*pair) for pair in tags.items()])

    def log(self, rows: Sequence[Row]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(name, value, row.time, row.step) for row in rows for name, value in row.values.items()]
        for some in _parts(metrics, _MOST_METRICS):
            self._client.log_batch(self._run, metrics=some)

    def end(self, status: str, tags: Mapping[str, str], files: Sequence[Path], root: Path) -> None:
        """Set the last tags, upload the files, and say how the run ended, if it has."""
        from mlflow.entities import RunTag

        self._client.log_batch(self._run, tags=[RunTag(*pair) for pair in tags.items()])
        for path in files:
            place = path.parent.relative_to(root).as_posix()
            self._client.log_artifact(self._run, str(path), None if place == "." else place)
        if status in _STATUS:
            self._client.set_terminated(self._run, _STATUS[status])
        else:
            self._client.update_run(self._run, "RUNNING")


def _parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items, so many at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))
