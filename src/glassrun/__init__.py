"""glassrun trains Transformers and CNNs in runs that repeat to the bit and open like glass.

    >>> import glassrun
    >>> run = glassrun.train("digits-cnn", {"train.steps": 200})    # doctest: +SKIP
    >>> run.replay()                                                # doctest: +SKIP
    >>> glassrun.load(run.path).model                               # doctest: +SKIP

Names are imported when they are first used, so that `import glassrun` does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassrun import pretrained
    from glassrun.capturing.capture import capture
    from glassrun.capturing.maps import Captured
    from glassrun.config import Recipe
    from glassrun.errors import GlassrunError
    from glassrun.integrations.notebook import view
    from glassrun.look.report import report
    from glassrun.record.recorder import Recorder, record
    from glassrun.replay.verdict import Verdict
    from glassrun.run import Replay, Run, diff, load, resume, train
    from glassrun.train.seeding import Seeded, seed

__version__ = "0.1.0"

_HOMES = {
    "Captured": "glassrun.capturing.maps",
    "GlassrunError": "glassrun.errors",
    "Recipe": "glassrun.config",
    "Recorder": "glassrun.record.recorder",
    "Replay": "glassrun.run",
    "Run": "glassrun.run",
    "Seeded": "glassrun.train.seeding",
    "Verdict": "glassrun.replay.verdict",
    "capture": "glassrun.capturing.capture",
    "diff": "glassrun.run",
    "load": "glassrun.run",
    "record": "glassrun.record.recorder",
    "report": "glassrun.look.report",
    "resume": "glassrun.run",
    "seed": "glassrun.train.seeding",
    "train": "glassrun.run",
    "view": "glassrun.integrations.notebook",
}

__all__ = [
    "Captured",
    "GlassrunError",
    "Recipe",
    "Recorder",
    "Replay",
    "Run",
    "Seeded",
    "Verdict",
    "__version__",
    "capture",
    "diff",
    "load",
    "pretrained",
    "record",
    "report",
    "resume",
    "seed",
    "train",
    "view",
]


# The functions `record` and `train` have the names of packages. Whoever loads `glassrun.train` first binds the name to
# the package for good, so both are loaded (they are empty) and unbound here: from then on `glassrun.train` is the
# function, and `from glassrun.train import loop` still finds the package.
for _package in ("record", "train"):
    import_module(f"glassrun.{_package}")
    del globals()[_package]


def __getattr__(name: str) -> Any:
    if name == "pretrained":  # a package of its own
        return import_module("glassrun.pretrained")
    if name not in _HOMES:
        raise AttributeError(f"module 'glassrun' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
