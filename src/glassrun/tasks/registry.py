"""Task name to task; the one place where names of tasks are turned into code."""

from __future__ import annotations

from typing import Any

from glassrun.config import ImportedTask
from glassrun.errors import ModelError
from glassrun.imported import imported
from glassrun.tasks.base import Task
from glassrun.tasks.classify import Classify
from glassrun.tasks.language_model import LanguageModelling
from glassrun.tasks.translate import Translate

TASKS: dict[str, type[Any]] = {
    "classify": Classify,
    "language-model": LanguageModelling,
    "translate": Translate,
}


def build(task: str | ImportedTask, dataset: Any, label_smoothing: float = 0.0) -> Task:
    """The recipe's task, made from its data set.

    Arguments:
        task: the recipe's.
        dataset: it is made from.
        label_smoothing: of a built-in task's training loss.

    Raises:
        ModelError: a task of the user's cannot be imported or lacks a method.
    """
    if isinstance(task, str):
        built: Task = TASKS[task](dataset, label_smoothing=label_smoothing)
        return built
    where = f"task.import: {task.import_}"
    factory = imported(task.import_, where)
    try:
        made: Task = factory(dataset)
    except Exception as error:
        raise ModelError(f"{where}: it failed: {type(error).__name__}: {error}") from error
    required = ("collate", "count", "tokens", "loss", "evaluate", "metrics")
    missing = [method for method in required if not callable(getattr(made, method, None))]
    if missing:
        raise ModelError(f"{where} lacks {', '.join(missing)}; see glassrun.tasks.base.Task")
    return made
