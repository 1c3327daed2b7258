"""Regression: an image in, one or several numbers out."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassrun.data.source import Dataset
from glassrun.tasks.base import Batch, check_classes, logits_of


class Regression:
    """The squared error of each number.

        loss = Σ over examples of the mean over numbers of (model(image) − y)²

    Every number y is (number − mean) / std over the training images. A batch holds `image`: Float[examples, channels,
    height, width] and `label`: Float[examples, numbers].
    """

    def __init__(self, dataset: Dataset) -> None:
        self.numbers = dataset.facts["num_classes"]
        encoding: Any = dataset.encoding
        self.stds = encoding.number_stds

    def collate(self, examples: Sequence[Any]) -> Batch:
        return {
            name: torch.from_numpy(np.stack([example[name] for example in examples])) for name in ("image", "label")
        }

    def count(self, batch: Batch) -> int:
        return len(batch["label"])

    def tokens(self, batch: Batch) -> int:  # noqa: ARG002 - images have none
        return 0

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return F.mse_loss(self._outputs(model, batch), batch["label"], reduction="sum") / self.numbers

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        """Sums over the examples for each number: its error, squared and absolute, itself and its square."""
        label = batch["label"].double()
        error = self._outputs(model, batch).double() - label
        sums = {"examples": float(len(label))}
        for name, values in (
            ("squared", error.square()),
            ("absolute", error.abs()),
            ("number", label),
            ("number_squared", label.square()),
        ):
            sums |= {f"{name}/{place}": total for place, total in enumerate(values.sum(0).tolist())}
        return sums

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The loss; then errors in the numbers' own units, and R², each as the mean over the numbers.

            R² = 1 − Σ (ŷ − y)² / Σ (y − mean y)², over the examples of the evaluation

        Where a number is the same in all of them, R² is 1 if it was hit exactly, else 0.
        """
        examples = sums["examples"]
        squared, absolute, number, number_squared = (
            [sums[f"{name}/{place}"] for place in range(self.numbers)]
            for name in ("squared", "absolute", "number", "number_squared")
        )
        spread = [_spread(n, s, examples) for n, s in zip(number, number_squared, strict=True)]
        return {
            "loss": sum(squared) / self.numbers / examples,
            "mean_squared_error": sum(s * std**2 for s, std in zip(squared, self.stds, strict=True))
            / self.numbers
            / examples,
            "mean_absolute_error": sum(a * std for a, std in zip(absolute, self.stds, strict=True))
            / self.numbers
            / examples,
            "r2": sum(map(_r2, squared, spread)) / self.numbers,
        }

    def _outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        outputs = logits_of(model(batch["image"]))
        check_classes(outputs, self.numbers, "numbers")
        return outputs.float()


def _spread(number: float, number_squared: float, examples: float) -> float:
    """Σ (y − mean y)²; 0 where no more is left of it than what the sums were rounded by."""
    found = number_squared - number * number / examples
    return found if found > 8 * sys.float_info.epsilon * number_squared else 0.0


def _r2(squared: float, spread: float) -> float:
    if spread == 0.0:
        return float(squared == 0.0)
    return 1.0 - squared / spread
