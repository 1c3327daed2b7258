"""Language modelling: the next token of a text, at every position of a window."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassrun.data.encoding import TextEncoding
from glassrun.data.source import IGNORED, Dataset
from glassrun.tasks.base import Batch, check_classes, logits_of, scalar


class LanguageModelling:
    """Cross-entropy of the next token.

        loss = Σ over windows and positions of −log softmax(model(inputs))[target]

    A batch holds `inputs` and `targets`: Int64[windows, context]; positions whose target is `IGNORED` do not count.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.vocabulary_size = dataset.facts["vocabulary_size"]
        assert isinstance(dataset.encoding, TextEncoding), "the recipe's task goes with sources of text"
        self.starts = torch.from_numpy(dataset.encoding.tokenizer.starts)

    def collate(self, examples: Sequence[Any]) -> Batch:
        return {
            name: torch.from_numpy(np.stack([example[name] for example in examples])) for name in ("inputs", "targets")
        }

    def count(self, batch: Batch) -> int:
        return int((batch["targets"] != IGNORED).sum())

    def tokens(self, batch: Batch) -> int:
        return self.count(batch)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        logits = logits_of(model(batch["inputs"]))
        check_classes(logits, self.vocabulary_size, "tokens in the vocabulary")
        targets = batch["targets"].flatten()
        return F.cross_entropy(logits.flatten(0, 1), targets, reduction="sum", ignore_index=IGNORED)

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        return {
            "loss": scalar(self.loss(model, batch)),
            "tokens": float(self.count(batch)),
            "characters": float(self._characters(batch["targets"])),
        }

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Loss and perplexity per token; bits per character whatever the tokens are."""
        loss = sums["loss"] / sums["tokens"]
        bits = sums["loss"] / math.log(2)
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "bits_per_character": bits / max(sums["characters"], 1.0),
        }

    def _characters(self, targets: Tensor) -> int:
        """Characters that begin in the targets."""
        return int(self.starts[targets[targets != IGNORED]].sum())
