"""Workers that hold different bits where all must be alike: which of them, in which tensor, and whose are right.

Every worker updates all parameters, from the same gradients, so after a step all must hold the same bits. A plain sum
over all words is compared at each step, because it is cheap; only where it differs are fingerprints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from glassrun.errors import WorkersDisagree
from glassrun.record.fingerprint import Fixed

if TYPE_CHECKING:
    from glassrun.train.loop import Trainer


def word_sum(tensors: Fixed) -> int:
    """The sum modulo 2⁶⁴ of all 64-bit words of some tensors: one flipped bit always changes it.

    >>> import torch
    >>> word_sum(Fixed([torch.tensor([3, -1]), torch.tensor([5])]))
    7
    """
    return sum(int(np.add.reduce(tensors[i])) for i in range(len(tensors))) % 2**64


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
            trainer.train_step(trainer.batches.slices(trainer.batches.examples(step)))
    except WorkersDisagree:  # again: nothing that is computed here can be trusted
        return None
    repeated = trainer.parameters_fingerprint() == parameters
    trainer.update(evidence.gradients, evidence.learning_rate)
    own = [trainer.fingerprinter(parameter) for parameter in trainer.parameters]
    (first, *found), *others = trainer.workers.gather([int(repeated), *own])
    if not first or any(other[1:] != found for other in others):
        return None
    return [rank for rank, prints in enumerate(evidence.prints) if prints[: len(own)] == own]
