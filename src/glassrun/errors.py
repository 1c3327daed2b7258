"""Every exception that glassrun raises on purpose.

    GlassrunError
    ├── BadInput             exit code 2: something the user gave; nothing was damaged
    │   ├── ConfigError          a recipe, an override or an option
    │   ├── DataError            a data file that is missing, empty, truncated or of another form
    │   ├── ModelError           a model that cannot be built or does not fit its task
    │   ├── RunFolderError       a run folder that is missing, occupied, damaged or cannot be written
    │   ├── BundleError          a bundle that is damaged, is none, or cannot be run here
    │   ├── CaptureError         a model that cannot be looked into, or not for what was asked
    │   └── MissingDependency    an optional package that a command needs
    └── RunStopped           exit code 1: a run that could not go on; what it had done is kept
        ├── NotFinite            a loss or a gradient that is not finite
        ├── Diverged             a repeated step that did not give the recorded bits
        ├── WorkersDisagree      a worker that computed something else than the others
        └── WorkerLost           a worker process that ended before its work

Each message says what was expected, what was found, where, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GlassrunError(Exception):
    """The root: catching it catches everything that glassrun raises on purpose."""

    exit_code = 2


class BadInput(GlassrunError):
    """Something the user gave cannot be used. Nothing was damaged."""


class ConfigError(BadInput):
    """A recipe, an override or an option is wrong."""


class DataError(BadInput):
    """A data file is missing, empty, truncated or of another form than expected."""


class ModelError(BadInput):
    """A model cannot be built, or does not fit its task."""


class RunFolderError(BadInput):
    """A run folder is missing, occupied, damaged, or cannot be written."""


class BundleError(BadInput):
    """A bundle is damaged, is none, or cannot be run here."""


class CaptureError(BadInput):
    """A model cannot be looked into, or does not have what was asked for, or its forward pass fails."""


class MissingDependency(BadInput):
    """An optional package that a command needs is not installed.

    >>> str(MissingDependency("scikit-learn", "the digits", extra="recipes"))
    "the digits needs the package scikit-learn, which is not installed: pip install 'glassrun[recipes]'"
    """

    def __init__(self, package: str, needed_by: str, *, extra: str) -> None:
        super().__init__(
            f"{needed_by} needs the package {package}, which is not installed: pip install 'glassrun[{extra}]'"
        )


class RunStopped(GlassrunError):
    """A run could not go on. What it had done is kept in its folder."""

    exit_code = 1


class NotFinite(RunStopped):
    """A loss or a gradient is not finite."""


class Diverged(RunStopped):
    """A repeated step did not give the bits that are recorded for it."""


class WorkersDisagree(RunStopped):
    """After a step the workers do not hold the same bits: one computed something else than the others."""

    evidence: object = None  # in the worker that found it: what all of them hold


class WorkerLost(RunStopped):
    """A worker process ended before its work was done; `killed` counts those that a signal ended."""

    killed = 0

    def __init__(self, message: str, *, killed: int = 0) -> None:
        super().__init__(message)
        self.killed = killed


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the nearest known one, and all of them.

    >>> nearest("ademw", ["adam", "adamw", "sgd"])
    "did you mean 'adamw'? Known: adam, adamw, sgd"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(names)}"
