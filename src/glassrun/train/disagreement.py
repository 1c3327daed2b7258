"""Workers that hold different bits where all must be alike: which of them, in which tensor, and whose are right.

Every worker updates all parameters, from the same gradients, so after a step all must hold the same bits. A plain sum
over all words is compared at each step, because it is cheap; only where it differs are fingerprints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from glassrun.errors import WorkersDisagree
from glassrun.record.fingerprint import as_words

if TYPE_CHECKING:
    from glassrun.train.loop import Trainer


class WordSum:
    """The sum modulo 2⁶⁴ of all 64-bit words of some tensors: one flipped bit always changes it.

    The memory is read where it lies. Looking for it anew each time takes four times as long as the sum (measured).

    >>> import torch
    >>> WordSum([torch.tensor([3, -1]), torch.tensor([5])])()
    7
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = list(tensors)
        self._words = [as_words(tensor).numpy() for tensor in tensors]
        self._places = [words.ctypes.data for words in self._words]

    def __call__(self) -> int:
        """The sum as it is now."""
        total = 0
        for tensor, words, place in zip(self._tensors, self._words, self._places, strict=True):
            # Elsewhere: `.data` was replaced, or the words are a copy because the bytes are no multiple of 8.
            here = words if tensor.data_ptr() == place else as_words(tensor).numpy()
            total += int(here.sum())
        return total % 2**64


@dataclass(frozen=True)
class Evidence:
    """The fingerprints of everything that must be alike after a step: `prints[rank][i]` is that of `names[i]`.

    `gradients` (clipped) and `learning_rate` are those that this worker's update was made from.
    """

    step: int
    names: list[str]
    prints: list[list[int]]
    gradients: list[Tensor | None]
    learning_rate: float

    def judged(self, follows: Sequence[int] | None) -> WorkersDisagree:
        """What to tell of two workers, of which those in `follows` hold what follows from the recorded state.

        Arguments:
            follows: ranks; None where repeating the steps did not give the recorded bits, or the same on both.
        """
        wrong = [rank for rank in range(len(self.prints)) if follows is not None and rank not in follows]
        verdict = "which of them is right cannot be told from the recorded state"
        if len(wrong) == 1:
            verdict = f"worker {wrong[0]}'s do not follow from the recorded state, worker {1 - wrong[0]}'s do"
        return disagreement(self.step, self.names, self.prints, f"; {verdict}")


def disagreement(step: int, names: list[str], prints: list[list[int]], verdict: str = "") -> WorkersDisagree:
    """The error that names the workers in the minority, where there is one, and the first tensor that differs."""
    i = next(i for i, column in enumerate(zip(*prints, strict=True)) if len(set(column)) > 1)
    values = [f"{own[i]:016x}" for own in prints]
    (most, count), *_ = Counter(map(tuple, prints)).most_common()
    odd = [rank for rank, own in enumerate(prints) if tuple(own) != most]
    if 2 * count > len(prints):
        who = (
            f"{' and '.join(f'worker {rank}' for rank in odd)} of {len(prints)} computed something else than the others"
        )
        what = f"{values[odd[0]]} there, {most[i]:016x} elsewhere"
    else:
        who = "the workers computed different things"
        what = ", ".join(f"{value} on worker {rank}" for rank, value in enumerate(values))
    return WorkersDisagree(f"step {step}: {who}, first in {names[i]}: {what}{verdict}{_ADVICE}")


_ADVICE = (
    ". The step is not recorded. Either a processor or its memory is at fault, or the model changes its own parameters "
    "where nobody sees it, as through .data"
)


def who_follows(evidence: Evidence, trainer: Trainer, parameters: str | None) -> list[int] | None:
    """Whose parameters follow: the steps since the checkpoint are repeated, then the update with the same gradients.

    Arguments:
        evidence: with the gradients.
        trainer: of this worker, as the newest checkpoint has it; it ends after the step.
        parameters: the recorded fingerprint of the parameters before the step; only rank 0, which has the run's
            folder, knows it.

    Returns:
        The ranks whose parameters are right, or None where that cannot be told; the same on every worker.
    """
    try:
        for step in range(trainer.state.step + 1, evidence.step):
            trainer.train_step(step, trainer.batches.slices(trainer.batches.examples(step)))
    except WorkersDisagree:  # again: nothing that is computed here can be trusted
        return None
    repeated = trainer.parameters_fingerprint() == parameters
    trainer.update(evidence.gradients, evidence.learning_rate)
    own = [trainer.fingerprinter(parameter) for parameter in trainer.parameters]
    (first, *found), *others = trainer.workers.gather([int(repeated), *own])
    if not first or any(other[1:] != found for other in others):
        return None
    return [rank for rank, prints in enumerate(evidence.prints) if prints[: len(own)] == own]
