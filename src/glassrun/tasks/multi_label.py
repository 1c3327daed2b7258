"""Multi-label classification: an image in, any number of labels out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassrun.data.source import Dataset
from glassrun.tasks.base import Batch, check_classes, logits_of, scalar


class MultiLabel:
    """A yes or no for each label, with the binary cross-entropy of the sigmoid.

        loss = Σ over examples of the mean over labels of −y·log σ(z) − (1 − y)·log(1 − σ(z)),  z = model(image)

    A label is said to be there where its probability is above one half. A batch holds `image`: Float[examples,
    channels, height, width] and `label`: Float[examples, labels] of zeros and ones.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.labels = dataset.facts["num_classes"]

    def collate(self, examples: Sequence[Any]) -> Batch:
        return {
            name: torch.from_numpy(np.stack([example[name] for example in examples])) for name in ("image", "label")
        }

    def count(self, batch: Batch) -> int:
        return len(batch["label"])

    def tokens(self, batch: Batch) -> int:  # noqa: ARG002 - images have none
        return 0

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return self._loss(self._logits(model, batch), batch["label"])

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        """Sums of losses and of examples with all labels right; right, wrongly said and missed ones of each label."""
        logits, label = self._logits(model, batch), batch["label"] > 0.5
        said = logits > 0
        sums = {
            "loss": scalar(self._loss(logits, batch["label"])),
            "examples": float(len(logits)),
            "exact": scalar((said == label).all(-1).sum()),
        }
        for name, found in (("right", said & label), ("wrong", said & ~label), ("missed", ~said & label)):
            sums |= {f"{name}/{place}": float(count) for place, count in enumerate(found.sum(0).tolist())}
        return sums

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Loss, share of examples with all labels right, F1 over all decisions and as the mean of the labels' own.

        F1 = 2·right / (2·right + wrong + missed), 0 where nothing was said and nothing was there
        """
        right, wrong, missed = (
            [sums[f"{name}/{place}"] for place in range(self.labels)] for name in ("right", "wrong", "missed")
        )
        return {
            "loss": sums["loss"] / sums["examples"],
            "exact_match": sums["exact"] / sums["examples"],
            "micro_f1": _f1(sum(right), sum(wrong), sum(missed)),
            "macro_f1": sum(map(_f1, right, wrong, missed)) / self.labels,
        }

    def _loss(self, logits: Tensor, label: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits.float(), label, reduction="sum") / self.labels

    def _logits(self, model: nn.Module, batch: Batch) -> Tensor:
        logits = logits_of(model(batch["image"]))
        check_classes(logits, self.labels, "labels")
        return logits


def _f1(right: float, wrong: float, missed: float) -> float:
    return 2 * right / max(2 * right + wrong + missed, 1.0)
