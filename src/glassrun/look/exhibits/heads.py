"""What a model can do without one of its heads."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from glassrun.look.exhibits.words import Reading
from glassrun.tasks import registry as tasks

_EXAMPLES = 256  # held-out
_METRICS = ("exact_match", "token_accuracy", "loss")  # the first that the task has


@dataclass(frozen=True)
class Silenced:
    """How good a model is without each head of a layer.

    Arguments:
        metric: its name.
        whole: of the model as it is.
        scores: of the model without head 1, without head 2, …
        examples: held-out ones.
    """

    metric: str
    whole: float
    scores: Sequence[float]
    examples: int

    @property
    def larger_is_better(self) -> bool:
        return self.metric != "loss"


@torch.no_grad()
def silenced(reading: Reading, name: str) -> Silenced:
    """Evaluate the model without each head of the attention `name`: the columns of W_o that read the head are zero.

    The model itself stays as it is; held-out examples of its run are read.

    Source: Michel et al. 2019, section 2.2, "Are sixteen heads really better than one?".
    """
    dataset = reading.run.dataset
    split = next(dataset.splits[name] for name in ("test", "validation", "train") if name in dataset.splits)
    count = min(_EXAMPLES, len(split))
    task: Any = tasks.build(reading.run.recipe.task, dataset)
    batch = task.collate([split.example(index, 0) for index in range(count)])

    def metrics(model: nn.Module) -> dict[str, float]:
        found: dict[str, float] = task.metrics(task.evaluate(model, batch))
        return found

    whole = metrics(reading.model)
    metric = next(name for name in _METRICS if name in whole)
    scores = []
    for head in range(reading.model.get_submodule(name).num_heads):  # type: ignore[arg-type]
        without: Any = copy.deepcopy(reading.model)
        attention = without.get_submodule(name)
        attention.output.weight[:, head * attention.d_k : (head + 1) * attention.d_k] = 0.0
        scores.append(metrics(without)[metric])
    return Silenced(metric, whole[metric], scores, count)
