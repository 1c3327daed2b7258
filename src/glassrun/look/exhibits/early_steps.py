"""A plain training loop that watches how far the optimizer moves the parameters at each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from glassrun.config import Recipe
from glassrun.data.order import Order
from glassrun.data.source import Dataset
from glassrun.look.figures.schedules import Trained
from glassrun.models import registry as models
from glassrun.tasks import registry as tasks
from glassrun.threads import one_thread
from glassrun.train import optimizer as optimizers
from glassrun.train.schedule import learning_rate

if TYPE_CHECKING:
    from torch import nn


def train_watched(recipe: Recipe, dataset: Dataset) -> Trained:
    """Train a recipe in this process, and keep the size of every update.

    It takes the recipe's model, optimizer, schedule and order of examples. A run of glassrun's does more: it cuts each
    batch into shards, and its own process has its numerics set.

    Arguments:
        recipe: with a seed, without dropout and without clipping: nothing is drawn or cut here.
        dataset: of its data section.
    """
    assert isinstance(recipe.seed, int), "a seed that is written down"
    with one_thread():
        task = tasks.build(recipe.task, dataset)
        facts = tasks.facts_of(task, dataset)
        model = models.build(recipe.model, facts, recipe.seed)
        optimizer = optimizers.build(recipe, model, facts)
        split = dataset.splits["train"]
        order = Order(recipe.seed, len(split))
        rows = []
        for step in range(1, recipe.train.steps + 1):
            chosen = order.batch(step, recipe.batch.size)
            batch = task.collate([split.example(index, epoch) for epoch, index in chosen])
            loss = task.loss(model, batch) / task.count(batch)
            model.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            rate = learning_rate(recipe, step, len(split))
            optimizers.set_learning_rate(optimizer, rate)
            before = _flat(model)
            optimizer.step()
            change = _flat(model) - before
            rows.append((rate, float(loss.detach()), float(change.norm()), float(change.abs().mean())))
    rates, losses, lengths, means = np.array(rows).T
    return Trained(rates, losses, lengths, means / recipe.optimizer.lr)


def _flat(model: nn.Module) -> Tensor:
    """A copy of all parameters as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
