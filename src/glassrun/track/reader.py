"""What a run folder has to tell a tracker: facts at the beginning, rows of numbers as they come, facts at the end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

from glassrun.record.ledger import without_checksum
from glassrun.record.run_folder import RunFolder, checkpoint_paths

_MOST_LINES = 10_000  # that are read at once: a tracker that is behind must not fill the memory


@dataclass(frozen=True)
class Row:
    """Numbers of one step: their names, and when they were made, in milliseconds since 1970."""

    step: int
    time: int
    values: Mapping[str, float]


class Reader:
    """Reads a run folder from the start, and later what has been added; it changes nothing there.

    Times follow from what is recorded, not from the clock: a row that is sent twice is the same row.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._time = datetime.fromisoformat(folder.header["sessions"][0]["started"]).timestamp()
        self.started = round(1000 * self._time)
        self._ledger = _Tail(folder.ledger_path)
        self._metrics = _Tail(folder.metrics_path)
        self._times: dict[int, int] = {}

    def rows(self) -> list[Row]:
        """What has been added, by step; empty if nothing was.

        Raises:
            RunFolderError: a line was changed.
        """
        found: dict[int, dict[str, float]] = {}
        evaluations = list(self._metrics.lines())  # first: what they follow from is then in the ledger already
        for line in self._ledger.lines():
            step = int(line["step"])
            self._time += line["seconds"]
            self._times[step] = round(1000 * self._time)
            found[step] = _of_step(line)
        for line in evaluations:
            own = {f"{line['split']}/{name}": value for name, value in line.items() if f"{name}_hex" in line}
            found.setdefault(int(line["step"]), {}).update(own)
        return [
            Row(
                step,
                self._times.get(step, self.started),
                {n: v for n, v in found[step].items() if v is not None and isfinite(v)},
            )
            for step in sorted(found)
        ]


class _Tail:
    """The whole lines that were appended to a file since the last look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = self._number = 0

    def lines(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for _ in range(_MOST_LINES):
                line = file.readline()
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                self._number += 1
                yield without_checksum(line, f"{self.path}, line {self._number}")


def _of_step(line: Mapping[str, Any]) -> dict[str, float]:
    names = ("loss", "learning_rate", "gradient_norm", "update_norm")
    own = {f"train/{name}": line[name] for name in names if name in line}
    return own | {"train/examples_per_second": line["examples"] / max(line["seconds"], 1e-9)}


def parameters(folder: RunFolder) -> dict[str, Any]:
    """Every field of the recipe by its dotted name, except what says where to track."""
    return dict(_flat({name: value for name, value in folder.recipe.plain().items() if name != "track"}, ""))


def _flat(values: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    else:
        yield re.sub(r"[^\w\-. ]", "_", name, flags=re.ASCII), values  # what trackers take as a name


def tags(folder: RunFolder) -> dict[str, str]:
    """What the run is, and how far it got: `glassrun.run` names this one execution, `glassrun.chain` its bits."""
    header, lines = folder.header, folder.lines()
    git = [found["commit"] + (" (changed)" if found["changed"] else "") for found in header["code"]["git"]]
    found = {
        "run": header["id"],
        "folder": str(folder.path),
        "status": folder.status,
        "steps": len(lines),
        "chain": lines[-1].chain if lines else None,
        "parameters": lines[-1].step.parameters if lines else None,
        "config_digest": header["config_digest"],
        "data_digest": header["data_digest"],
        "code_digest": header["code"]["digest"],
        "git": ", ".join(git),
        "workers": ", ".join(str(session["workers"]) for session in header["sessions"]),
    }
    return {f"glassrun.{name}": str(value) for name, value in found.items() if value}


def files(folder: RunFolder, *, with_checkpoint: bool) -> list[Path]:
    """The files of a run folder, and on demand those of the newest checkpoint."""
    own = sorted(path for path in folder.path.iterdir() if path.is_file() and not path.name.startswith("."))
    newest = checkpoint_paths(folder.path)[-1:] if with_checkpoint else []
    return own + [path for checkpoint in newest for path in sorted(checkpoint.iterdir())]
