"""Translation: one sequence in, another out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassrun.data.source import Dataset
from glassrun.tasks.base import Batch, check_classes, logits_of, scalar


class Translate:
    """Cross-entropy of the next target token, given the source and the target tokens before it.

        loss = Σ over pairs and positions of −log softmax(model(source, target[:-1]))[target[1:]]

    A batch holds `source`: Int64[pairs, source length] and `target`: Int64[pairs, target length], padded to the longest
    of the slice; padding does not count. Label smoothing (Szegedy et al. 2016, section 7) is in the loss that is
    trained with, not in that of an evaluation.
    """

    def __init__(self, dataset: Dataset, *, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing
        self.padding = dataset.facts["padding_token"]
        self.vocabulary_size = dataset.facts["target_vocabulary_size"]

    def collate(self, examples: Sequence[Any]) -> Batch:
        return {name: self._padded([example[name] for example in examples]) for name in ("source", "target")}

    def count(self, batch: Batch) -> int:
        return int((batch["target"][:, 1:] != self.padding).sum())

    def tokens(self, batch: Batch) -> int:
        return int((batch["source"] != self.padding).sum()) + self.count(batch)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        logits, targets = self._logits(model, batch)
        return self._cross_entropy(logits, targets, self.label_smoothing)

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        """Sums of losses, right tokens, and right whole outputs.

        An output is right when greedy decoding writes the target, and it does exactly when the likeliest token is the
        right one at every position given the right tokens before it (by induction over positions): so one pass tells.
        """
        logits, targets = self._logits(model, batch)
        real = targets != self.padding
        right = (logits.argmax(-1) == targets) | ~real
        return {
            "loss": scalar(self._cross_entropy(logits, targets, 0.0)),
            "tokens": scalar(real.sum()),
            "right_tokens": scalar((right & real).sum()),
            "examples": float(len(targets)),
            "right": scalar(right.all(-1).sum()),
        }

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        return {
            "loss": sums["loss"] / sums["tokens"],
            "exact_match": sums["right"] / sums["examples"],
            "token_accuracy": sums["right_tokens"] / sums["tokens"],
        }

    def _logits(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        # The copies own their storage, as everything that enters arithmetic must (see train.memory).
        inputs, targets = batch["target"][:, :-1].contiguous(), batch["target"][:, 1:].contiguous()
        logits = logits_of(model(batch["source"], inputs))
        check_classes(logits, self.vocabulary_size, "tokens in the target vocabulary")
        return logits, targets

    def _cross_entropy(self, logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        return F.cross_entropy(
            logits.flatten(0, 1),
            targets.flatten(),
            reduction="sum",
            ignore_index=self.padding,
            label_smoothing=smoothing,
        )

    def _padded(self, rows: Sequence[Any]) -> Tensor:
        table = np.full((len(rows), max(len(row) for row in rows)), self.padding, dtype=np.int64)
        for place, row in zip(table, rows, strict=True):
            place[: len(row)] = row
        return torch.from_numpy(table)
