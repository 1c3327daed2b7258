"""What a task of the user's answers is checked: each slip is one message that names the method."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from glassrun.errors import ModelError
from glassrun.tasks.answers import checked_batch, checked_count, checked_loss, checked_metrics, checked_sums

WEIGHT = torch.ones(3, requires_grad=True)


@pytest.mark.parametrize(
    ("check", "found", "message"),
    [
        (checked_batch, [torch.ones(2)], "collate: expected a mapping of names to tensors, found list"),
        (checked_batch, {}, "collate: expected a mapping"),
        (checked_batch, {"image": [1.0]}, "collate: expected tensors by name, found 'image': list"),
        (checked_batch, {3: torch.ones(2)}, "collate: expected tensors by name, found 3"),
        (checked_batch, {"image": torch.ones(2, device="meta")}, "collate: image: expected a dense tensor on the CPU"),
        (checked_loss, 3.0, "loss: expected a tensor, the sum over the slice, found float"),
        (checked_loss, WEIGHT * 2, r"loss: expected one floating number .* float32 \[3\]"),
        (checked_loss, torch.ones(()), r"loss: .* float32 \[\] without a gradient"),
        (checked_metrics, 3, "metrics: expected a mapping of names to numbers, found int"),
        (checked_metrics, {"loss": "low"}, "metrics: expected numbers by name, found 'loss': str"),
        (checked_metrics, {"loss": torch.ones(2)}, r"found 'loss': a tensor of the shape \[2\]"),
        (checked_metrics, {"step": 1.0}, "metrics: the name 'step' is taken"),
        (checked_metrics, {"split": 1.0}, "metrics: the name 'split' is taken"),
        (checked_metrics, {"examples": 1.0}, "metrics: the name 'examples' is taken"),
        (checked_metrics, {"checksum": 1.0}, "metrics: the name 'checksum' is taken"),
        (checked_metrics, {"loss_hex": 1.0}, "metrics: the name 'loss_hex' is taken"),
    ],
)
def test_a_slip_is_named(check: Any, found: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check(found)


def test_counts() -> None:
    assert checked_count(torch.tensor(3), "count") == 3
    with pytest.raises(ModelError, match="whole numbers"):
        checked_count(3.5, "count")
    with pytest.raises(ModelError, match="tokens: expected a number that is not negative, found -1"):
        checked_count(-1, "tokens")


def test_the_names_of_the_sums_are_the_same_for_every_slice() -> None:
    assert checked_sums({"loss": torch.tensor(2.5), "examples": 3}, None) == {"loss": 2.5, "examples": 3.0}
    with pytest.raises(ModelError, match=r"expected the names \['loss'\].*found \['lost'\]"):
        checked_sums({"lost": 1.0}, ["loss"])


def test_what_is_right_passes() -> None:
    batch = {"image": torch.ones(2)}
    assert checked_batch(batch) == batch
    assert checked_loss((WEIGHT * 2).sum().reshape(1)).shape == ()
    assert checked_metrics({"loss": torch.tensor(2.5), "accuracy": 1}) == {"loss": 2.5, "accuracy": 1.0}
