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
from glassrun.data.tokenizers import ByteTokenizer
from glassrun.tasks.base import Batch, check_classes, logits_of, scalar


class LanguageModelling:
    """Cross-entropy of the next token.

        loss = Σ over windows and positions of −log softmax(model(inputs))[target]

    A batch holds `inputs` and `targets`: Int64[windows, context]; positions whose target is `IGNORED` do not count.
    Label smoothing (Szegedy et al. 2016, section 7) is in the loss that is trained with, not in that of an evaluation.
    """

    def __init__(self, dataset: Dataset, *, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing
        self.vocabulary_size = dataset.facts["vocabulary_size"]
        encoding = dataset.encoding
        self.bytes = isinstance(encoding, TextEncoding) and isinstance(encoding.tokenizer, ByteTokenizer)

    def collate(self, examples: Sequence[Any]) -> Batch:
        return {
            name: torch.from_numpy(np.stack([example[name] for example in examples])) for name in ("inputs", "targets")
        }

    def count(self, batch: Batch) -> int:
        return int((batch["targets"] != IGNORED).sum())

    def tokens(self, batch: Batch) -> int:
        return self.count(batch)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return self._cross_entropy(model, batch, self.label_smoothing)

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        return {
            "loss": scalar(self._cross_entropy(model, batch, 0.0)),
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

    def _cross_entropy(self, model: nn.Module, batch: Batch, smoothing: float) -> Tensor:
        logits = logits_of(model(batch["inputs"]))
        check_classes(logits, self.vocabulary_size, "tokens in the vocabulary")
        return F.cross_entropy(
            logits.flatten(0, 1),
            batch["targets"].flatten(),
            reduction="sum",
            ignore_index=IGNORED,
            label_smoothing=smoothing,
        )

    def _characters(self, targets: Tensor) -> int:
        """Characters that the targets spell: in UTF-8 every byte but the continuation bytes 10xxxxxx starts one."""
        real = targets[targets != IGNORED]
        return int(((real & 0xC0) != 0x80).sum()) if self.bytes else len(real)
