"""Label smoothing in the loss of every built-in task, and in no evaluation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from glassrun.data.source import IGNORED
from glassrun.train.state import State
from in_process import state_of
from support import Made

SMOOTHING = 0.3


def first_batch(state: State) -> dict[str, Tensor]:
    split = state.dataset.splits["train"]
    return state.task.collate([split.example(index, 1) for index in range(5)])


def targets_of(name: str, state: State, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The logits and the targets as rows, without those that do not count."""
    if name == "odd-cnn":
        return state.model(batch["image"]), batch["label"]
    if name == "odd-lm":
        logits, targets = state.model(batch["inputs"]).flatten(0, 1), batch["targets"].flatten()
        return logits[targets != IGNORED], targets[targets != IGNORED]
    logits = state.model(batch["source"], batch["target"][:, :-1]).flatten(0, 1)
    targets = batch["target"][:, 1:].flatten()
    real = targets != state.dataset.facts["padding_token"]
    return logits[real], targets[real]


@pytest.mark.parametrize("name", ["odd-cnn", "odd-lm", "odd-pairs"])
def test_targets_are_mixed_with_the_uniform_distribution_in_training_alone(name: str, made: Made) -> None:
    """Szegedy et al. 2016, section 7: q = (1 − ε) δ + ε / K; to a relative 1e-5 of sums in another order."""
    values: dict[str, Any] = {"model.dropout": 0.0}
    plain = state_of(made, name, **values)
    smooth = state_of(made, name, **values, **{"train.label_smoothing": SMOOTHING})
    smooth.model.eval()
    plain.model.eval()
    batch = first_batch(smooth)
    logits, targets = targets_of(name, smooth, batch)
    classes = logits.shape[-1]
    q = (1 - SMOOTHING) * torch.nn.functional.one_hot(targets, classes) + SMOOTHING / classes
    expected = -(q * torch.log_softmax(logits, -1)).sum()
    torch.testing.assert_close(smooth.task.loss(smooth.model, copy.deepcopy(batch)), expected, rtol=1e-5, atol=1e-5)
    assert float(smooth.task.loss(smooth.model, batch).detach()) != float(plain.task.loss(plain.model, batch).detach())
    assert smooth.task.evaluate(smooth.model, batch) == plain.task.evaluate(plain.model, batch)
