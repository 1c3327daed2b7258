"""How a training job comes by its run folder: a new one, one to go on with, or whichever is the case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glassrun.config import Recipe, resolve_seed
from glassrun.errors import RunFolderError
from glassrun.record.run_folder import RunFolder, what_occupies

# EITHER is for those who begin the same work again and cannot know how far it got: after a kill, and under torchrun.
NEW, RESUME, EITHER = "new", "resume", "either"


def open_folder(job: dict[str, Any], recipe: Recipe) -> RunFolder:
    """The job's run folder, made if need be, and locked.

    Raises:
        RunFolderError: it is not as `job["begin"]` says, or another process writes it.
    """
    path = job["out"] and Path(job["out"])
    if job["begin"] == NEW or (job["begin"] == EITHER and (path is None or existing(path, recipe) is None)):
        return RunFolder.create(path, resolve_seed(recipe), job["import_path"])
    folder = RunFolder.open(path)
    folder.lock()
    folder.header = RunFolder.open(path).header  # what it was before the lock may be old
    return folder


def existing(path: Path, recipe: Recipe) -> RunFolder | None:
    """The run that stands at a path, which must be of this recipe; None where there is no run.

    Raises:
        RunFolderError: it is of another recipe, or damaged.
    """
    if not (path / "run.json").exists():
        return None
    folder = RunFolder.open(path)
    seed = {"seed": folder.recipe.seed} if recipe.seed == "random" else {}
    if folder.recipe != recipe.model_copy(update=seed):
        raise RunFolderError(what_occupies(path))
    return folder
