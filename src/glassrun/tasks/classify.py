"""Classification: an image in, one of several classes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassrun.data.source import Dataset
from glassrun.tasks.base import Batch, check_classes, logits_of, scalar


class Classify:
    """Single-label classification of images with the cross-entropy of the softmax.

        loss = Σ over examples of −log softmax(model(image))[label]

    A batch holds `image`: Float[examples, channels, height, width] and `label`: Int64[examples].
    """

    def __init__(self, dataset: Dataset) -> None:
        self.classes = dataset.facts["num_classes"]

    def collate(self, examples: Sequence[Any]) -> Batch:
        return {
            "image": torch.from_numpy(np.stack([example["image"] for example in examples])),
            "label": torch.tensor([example["label"] for example in examples], dtype=torch.int64),
        }

    def count(self, batch: Batch) -> int:
        return len(batch["label"])

    def tokens(self, batch: Batch) -> int:  # noqa: ARG002 - images have none
        return 0

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(self._logits(model, batch), batch["label"], reduction="sum")

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        logits = self._logits(model, batch)
        return {
            "loss": scalar(F.cross_entropy(logits, batch["label"], reduction="sum")),
            "examples": float(len(logits)),
            "correct": scalar((logits.argmax(-1) == batch["label"]).sum()),
        }

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        return {"loss": sums["loss"] / sums["examples"], "accuracy": sums["correct"] / sums["examples"]}

    def _logits(self, model: nn.Module, batch: Batch) -> Tensor:
        logits = logits_of(model(batch["image"]))
        check_classes(logits, self.classes, "classes")
        return logits
