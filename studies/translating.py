"""What an encoder-decoder does with every held-out pair, for the studies that look at more than a mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glassrun.run import Run
from glassrun.tasks.base import logits_of
from glassrun.tasks.translate import Translate

_BATCH = 128
THIRDS = ("shortest third", "middle third", "longest third")

Forward = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Answer:
    """What a model makes of a pair.

    Arguments:
        source_length: tokens of the source, its end included.
        right: whether every token of the target is the likeliest, given the right ones before it: then, and only then,
            greedy decoding writes the target.
        right_tokens, tokens: of the target.
        nats: minus the logarithm of the target's probability.
    """

    source_length: int
    right: bool
    right_tokens: int
    tokens: int
    nats: float


def plain(model: nn.Module, source: Tensor, target: Tensor) -> Tensor:
    """The model's logits."""
    return logits_of(model(source, target))


@torch.no_grad()
def answers(run: Run, *, split: str | None = None, forward: Forward = plain) -> list[Answer]:
    """Of every pair of a split, by default the one held out; `forward` gives the logits of the next tokens:
    Float[pairs, target, vocabulary]."""
    task = Translate(run.dataset)
    examples = run.dataset.splits[split or held_out(run)]
    found = []
    for start in range(0, len(examples), _BATCH):
        batch = task.collate([examples.example(index, 0) for index in range(start, min(start + _BATCH, len(examples)))])
        inputs, targets = batch["target"][:, :-1], batch["target"][:, 1:]
        scores = torch.log_softmax(forward(run.model, batch["source"], inputs), -1)
        real = targets != task.padding
        right = (scores.argmax(-1) == targets) & real
        nats = -scores.gather(-1, targets[..., None])[..., 0].masked_fill(~real, 0.0).double().sum(1)
        lengths = (batch["source"] != task.padding).sum(1)
        counts = real.sum(1)
        found += [
            Answer(length, hits == count, hits, count, loss)
            for length, hits, count, loss in zip(
                lengths.tolist(), right.sum(1).tolist(), counts.tolist(), nats.tolist(), strict=True
            )
        ]
    return found


def held_out(run: Run) -> str:
    """The split that nothing was trained on: the test, or where there is none the validation."""
    return "test" if "test" in run.dataset.splits else "validation"


def exact_match(found: Sequence[Answer]) -> float:
    """The share that is right as a whole."""
    return sum(answer.right for answer in found) / len(found)


def token_accuracy(found: Sequence[Answer]) -> float:
    """The share of right tokens."""
    return sum(answer.right_tokens for answer in found) / sum(answer.tokens for answer in found)


def thirds(found: Sequence[Answer]) -> dict[str, list[Answer]]:
    """The answers by the length of their source; equal lengths stay together, so a third is not always just that."""
    lengths = sorted(answer.source_length for answer in found)
    low, high = lengths[len(lengths) // 3], lengths[2 * len(lengths) // 3]
    parts = (
        [answer for answer in found if answer.source_length <= low],
        [answer for answer in found if low < answer.source_length <= high],
        [answer for answer in found if answer.source_length > max(low, high)],
    )
    return dict(zip(THIRDS, parts, strict=True))
