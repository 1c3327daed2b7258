"""Task name to task; the one place where names of tasks are turned into code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glassrun.config import ImportedTask
from glassrun.errors import ModelError
from glassrun.imported import imported
from glassrun.tasks.answers import checked_facts
from glassrun.tasks.base import Task
from glassrun.tasks.classify import Classify
from glassrun.tasks.language_model import LanguageModelling
from glassrun.tasks.masked_language_model import MaskedLanguageModelling
from glassrun.tasks.multi_label import MultiLabel
from glassrun.tasks.regression import Regression
from glassrun.tasks.translate import Translate


def _classify(dataset: Any, *, label_smoothing: float) -> Task:
    """By the target of the images; the recipe has smoothed labels for classes alone."""
    others: dict[str, type[Any]] = {"labels": MultiLabel, "numbers": Regression}
    target = dataset.encoding.target
    made: Task = others[target](dataset) if target in others else Classify(dataset, label_smoothing=label_smoothing)
    return made


TASKS: dict[str, Callable[..., Task]] = {
    "classify": _classify,
    "language-model": LanguageModelling,
    "masked-language-model": MaskedLanguageModelling,
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
        return TASKS[task](dataset, label_smoothing=label_smoothing)
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


def facts_of(task: Task, dataset: Any) -> dict[str, int]:
    """What the model must know: the data's facts, and those in which the task has its own way (`task.facts`)."""
    return dict(dataset.facts) | checked_facts(getattr(task, "facts", {}))
