"""Evaluation: the same cut into slices as training, in evaluation mode, and nothing is moved by it."""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum, isfinite

import torch

from glassrun.record.ledger import with_checksum
from glassrun.train.buffers import same_bits
from glassrun.train.failures import explained
from glassrun.train.loading import evaluation_slices
from glassrun.train.memory import owned
from glassrun.train.seeding import set_generators
from glassrun.train.shards import own_slices
from glassrun.train.state import State
from glassrun.train.workers import Workers


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one split after a step."""

    step: int
    split: str
    examples: int
    metrics: dict[str, float]

    def encode(self) -> bytes:
        """The line of `metrics.jsonl`: no time and no place, so that it is equal to the byte for equal runs."""
        values: dict[str, object] = {"step": self.step, "split": self.split, "examples": self.examples}
        for name, value in self.metrics.items():
            values |= {name: value if isfinite(value) else None, f"{name}_hex": float(value).hex()}
        return with_checksum(values)


def evaluate(state: State, split: str, workers: Workers) -> Evaluation:
    """The metrics of a split: sums over slices, exactly rounded, so that their order cannot matter."""
    batch, examples = state.recipe.batch, state.dataset.splits[split]
    places = own_slices(batch.shards, workers.rank, workers.world_size)
    size = batch.evaluation_size or batch.size
    modes = [(module, module.training) for module in state.model.modules()]
    before = {name: owned(buffer) for name, buffer in state.model.named_buffers()}
    state.model.eval()
    rows: list[list[float]] = []
    names: list[str] = []
    with torch.no_grad():
        for place, tensors in evaluation_slices(examples, state.task, size=size, shards=batch.shards, places=places):
            set_generators(state.seed, "evaluation", state.step, split, place)
            with explained(state.model, state.step), _precision(state):
                sums = state.task.evaluate(state.model, tensors)
            names = list(sums)
            rows.append([float(value) for value in sums.values()])
        for name, buffer in state.model.named_buffers():
            if not same_bits(buffer, before[name]):
                buffer.copy_(before[name])
    for module, training in modes:
        module.training = training
    totals = _totals(names, rows, workers)
    return Evaluation(state.step, split, len(examples), state.task.metrics(totals))


def _precision(state: State) -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=state.recipe.numerics.precision == "bfloat16")


def _totals(names: list[str], rows: list[list[float]], workers: Workers) -> dict[str, float]:
    """The sum of each column over all slices of all workers. A worker may have no slice: then it learns the names."""
    if workers.world_size > 1:
        import torch.distributed as dist

        everyone: list[tuple[list[str], list[list[float]]]] = [([], [])] * workers.world_size
        dist.all_gather_object(everyone, (names, rows))
        names = next((part[0] for part in everyone if part[0]), names)
        rows = [row for part in everyone for row in part[1]]
    columns = zip(*rows, strict=True)
    return {name: _sum(column) for name, column in zip(names, columns, strict=True)}


def _sum(values: tuple[float, ...]) -> float:
    return fsum(values) if all(map(isfinite, values)) else float("nan")
