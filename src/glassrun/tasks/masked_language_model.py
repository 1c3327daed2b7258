"""Masked language modelling: some tokens of a text are hidden, and told from those before and after them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from glassrun.data.source import IGNORED, Dataset
from glassrun.keys import derive
from glassrun.tasks.base import Batch, check_classes, logits_of, scalar

if TYPE_CHECKING:
    from jaxtyping import Int

SHARE = 0.15  # of the tokens are asked for
HIDDEN, REPLACED = 0.8, 0.1  # of those: behind the mask token, by another token; the rest stays as it is


class MaskedLanguageModelling:
    """Cross-entropy of the tokens that are asked for.

        loss = Σ over windows and chosen positions of −log softmax(model(with gaps))[token]

    15 % of a window's tokens are chosen, at least one: 80 % of them are replaced by the mask token, 10 % by a token
    drawn from the vocabulary, and 10 % stay. The mask token is one more than the text has: the last of the vocabulary.

    A batch holds `inputs`: Int64[windows, context] and `lengths`: Int64[windows], how many of them are text.

    Which are chosen is drawn anew in every step, from torch's default generator; in an evaluation it follows from the
    window's own tokens, so that equal weights have equal metrics at every step.

    Label smoothing (Szegedy et al. 2016, section 7) is in the loss that is trained with, not in that of an evaluation.

    Source: Devlin et al. 2019, section 3.1 and appendix A.1. We differ: how many are chosen is exact, as in their code,
    for the loss's count is known before the forward.
    """

    def __init__(self, dataset: Dataset, *, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing
        self.mask_token = dataset.facts["vocabulary_size"]
        self.facts = {"vocabulary_size": self.mask_token + 1}

    def collate(self, examples: Sequence[Any]) -> Batch:
        return {
            "inputs": torch.from_numpy(np.stack([example["inputs"] for example in examples])),
            "lengths": torch.tensor([int((example["targets"] != IGNORED).sum()) for example in examples]),
        }

    def count(self, batch: Batch) -> int:
        return sum(asked(length) for length in batch["lengths"].tolist())

    def tokens(self, batch: Batch) -> int:
        return int(batch["lengths"].sum())

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        rows = [with_gaps(row, self.mask_token) for row in _texts(batch)]
        smoothing = self.label_smoothing
        return torch.stack([_cross_entropy(*part, smoothing) for part in self._answers(model, rows)]).sum()

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        rows = [with_gaps(row, self.mask_token, keyed_by(row)) for row in _texts(batch)]
        parts = list(self._answers(model, rows))
        return {
            "loss": math.fsum(scalar(_cross_entropy(*part)) for part in parts),
            "tokens": float(self.count(batch)),
            "right": math.fsum(scalar((logits.argmax(-1) == targets).sum()) for logits, targets in parts),
        }

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        loss = sums["loss"] / sums["tokens"]
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "token_accuracy": sums["right"] / sums["tokens"],
        }

    def _answers(self, model: nn.Module, rows: Sequence[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits and targets, Float[positions, vocabulary] and Int64[positions], for the texts of each length.

        A text that is shorter than the window is read as short as it is: the model need not know of padding.
        """
        for length in sorted({len(inputs) for inputs, _ in rows}):
            chosen = [row for row in rows if len(row[0]) == length]
            logits = logits_of(model(torch.stack([inputs for inputs, _ in chosen])))
            check_classes(logits, self.facts["vocabulary_size"], "tokens in the vocabulary, the mask token among them")
            yield logits.flatten(0, 1), torch.stack([targets for _, targets in chosen]).flatten()


def asked(length: int) -> int:
    """How many tokens of a text are asked for.

    >>> [asked(length) for length in (1, 13, 64)]
    [1, 2, 10]
    """
    return max(1, round(SHARE * length))


def with_gaps(
    tokens: Int[Tensor, " length"], mask_token: int, generator: Generator | None = None
) -> tuple[Int[Tensor, " length"], Int[Tensor, " length"]]:
    """A text with gaps, and what stands in them.

    Arguments:
        tokens: Int64[length].
        mask_token: stands for a token that is hidden; all below it are the vocabulary.
        generator: torch's default one where there is none.

    Returns:
        The text as the model reads it; the tokens at the chosen places and `IGNORED` at all others.
    """
    places = torch.randperm(len(tokens), generator=generator)[: asked(len(tokens))]
    how = torch.rand(len(places), generator=generator)
    others = torch.randint(mask_token, (len(places),), generator=generator)
    kept = tokens[places]
    inputs, targets = tokens.clone(), torch.full_like(tokens, IGNORED)
    inputs[places] = torch.where(how < HIDDEN, mask_token, torch.where(how < HIDDEN + REPLACED, others, kept))
    targets[places] = kept
    return inputs, targets


def keyed_by(tokens: Int[Tensor, " length"]) -> Generator:
    """A generator that follows from a text alone."""
    return Generator().manual_seed(derive(0, "gaps", *tokens.tolist()))


def _texts(batch: Batch) -> list[Tensor]:
    """Each window's own tokens."""
    return [row[:length] for row, length in zip(batch["inputs"], batch["lengths"].tolist(), strict=True)]


def _cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    return F.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORED, label_smoothing=smoothing)
