"""Evaluation: the same cut into slices as training, in evaluation mode, and nothing is moved by it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from glassrun.exact import bits, exact_sum, from_bits
from glassrun.record.ledger import metrics_line
from glassrun.tasks.answers import checked_metrics, checked_sums
from glassrun.train.attributes import Attributes
from glassrun.train.buffers import kept
from glassrun.train.failures import explained
from glassrun.train.loading import evaluation_slices
from glassrun.train.parameters import ParameterGuard
from glassrun.train.shards import own_slices
from glassrun.train.state import State, precision
from glassrun.train.workers import Workers


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one split after a step."""

    step: int
    split: str
    examples: int
    metrics: dict[str, float]

    def encode(self) -> bytes:
        """The line of `metrics.jsonl`."""
        return metrics_line(self.step, self.split, self.examples, self.metrics)


def evaluate(state: State, split: str, workers: Workers) -> Evaluation | None:
    """The metrics of a split: sums over slices, exactly rounded, so that their order cannot matter.

    Where weights are averaged, those of the average. Returns them on rank 0, which has the first slice; on the others,
    which may have none, None.
    """
    with state.averaged():
        names, rows = _sums(state, split, workers)
    totals = _totals(names, rows, workers)
    if workers.rank:
        return None
    examples = len(state.dataset.splits[split])
    return Evaluation(state.step, split, examples, checked_metrics(state.task.metrics(totals)))


def _sums(state: State, split: str, workers: Workers) -> tuple[list[str], list[list[float]]]:
    """The names of the sums, and the sums of each of this worker's slices."""
    batch, examples = state.recipe.batch, state.dataset.splits[split]
    places = own_slices(batch.shards, workers.rank, workers.world_size)
    size = batch.evaluation_size or batch.size
    modes = [(module, module.training) for module in state.model.modules()]
    state.model.eval()
    rows: list[list[float]] = []
    names: list[str] | None = None
    key = (state.seed, "evaluation", state.step, split)
    attributes, guard = Attributes(state.model, state.task), ParameterGuard(state.model, state.task)
    guard.begin()
    with torch.no_grad():
        for _, tensors in evaluation_slices(
            examples, state.task, attributes, key=key, size=size, shards=batch.shards, places=places
        ):
            with (
                kept(state.model),
                explained(state.model, state.step),
                precision(state.recipe.numerics.precision),
            ):
                sums = checked_sums(state.task.evaluate(state.model, tensors), names)
            attributes.restore()
            names = list(sums)
            rows.append(list(sums.values()))
    guard.check(state.step)
    for module, training in modes:
        module.training = training
    return names or [], rows


def _totals(names: list[str], rows: list[list[float]], workers: Workers) -> dict[str, float]:
    """The sum of each column over all slices of all workers; a worker may have fewer slices than others, or none."""
    forms = workers.gather([len(rows), len(names)])
    longest, width = max(form[0] for form in forms), max(form[1] for form in forms)
    own = [bits(value) for row in rows for value in row]
    everyone = workers.gather(own + [0] * (longest * width - len(own)))
    values = [
        [from_bits(value) for value in part[: count * width]] for (count, _), part in zip(forms, everyone, strict=True)
    ]
    return {
        name: exact_sum([value for part in values for value in part[column::width]])
        for column, name in enumerate(names)
    }
