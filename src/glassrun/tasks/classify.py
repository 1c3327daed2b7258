"""Classification: an image in, one of several classes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from glassrun.data.augment import MIXED, mixup
from glassrun.data.source import Dataset
from glassrun.tasks.base import Batch, check_classes, logits_of, scalar


class Classify:
    """Single-label classification of images with the cross-entropy of the softmax.

        loss = Σ over examples of −log softmax(model(image))[label]

    A batch holds `image`: Float[examples, channels, height, width] and `label`: Int64[examples]; where examples are
    mixed (see `data.augment.mixup`), Float[examples, classes]. Label smoothing (Szegedy et al. 2016, section 7) is in
    the loss that is trained with, not in that of an evaluation.
    """

    def __init__(self, dataset: Dataset, *, label_smoothing: float = 0.0) -> None:
        self.classes = dataset.facts["num_classes"]
        self.label_smoothing = label_smoothing

    def collate(self, examples: Sequence[Any]) -> Batch:
        images = np.stack([example["image"] for example in examples])
        labels: NDArray[Any] = np.array([example["label"] for example in examples], dtype=np.int64)
        if MIXED in examples[0]:
            shares = np.array([example[MIXED] for example in examples], dtype=np.float32)
            images, labels = mixup(images, labels, shares, self.classes)
        return {"image": torch.from_numpy(images), "label": torch.from_numpy(labels)}

    def count(self, batch: Batch) -> int:
        return len(batch["label"])

    def tokens(self, batch: Batch) -> int:  # noqa: ARG002 - images have none
        return 0

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        logits = self._logits(model, batch)
        return F.cross_entropy(logits, batch["label"], reduction="sum", label_smoothing=self.label_smoothing)

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
