"""Task name to task; the one place where names of tasks are turned into code."""

from __future__ import annotations

import importlib
from typing import Any

from glassrun.config import ImportedTask
from glassrun.errors import ConfigError
from glassrun.tasks.base import Task
from glassrun.tasks.classify import Classify
from glassrun.tasks.language_model import LanguageModelling
from glassrun.tasks.translate import Translate

TASKS: dict[str, type[Any]] = {
    "classify": Classify,
    "language-model": LanguageModelling,
    "translate": Translate,
}


def build(task: str | ImportedTask, dataset: Any) -> Task:
    """The recipe's task, made from its data set.

    Raises:
        ConfigError: a task of the user's cannot be imported or lacks a method.
    """
    if isinstance(task, str):
        built: Task = TASKS[task](dataset)
        return built
    module_name, _, name = task.import_.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"task.import: {task.import_}: cannot be imported: {error}") from None
    imported: Task = factory(dataset)
    required = ("collate", "count", "tokens", "loss", "evaluate", "metrics")
    missing = [method for method in required if not callable(getattr(imported, method, None))]
    if missing:
        raise ConfigError(f"task.import: {task.import_} lacks {', '.join(missing)}; see glassrun.tasks.base.Task")
    return imported
