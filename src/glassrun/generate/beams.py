"""Beam search: several texts side by side, of which the likeliest are kept."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glassrun.functional.sampling import length_penalty
from glassrun.generate.decoding import Beams
from glassrun.generate.writers import Writer

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@dataclass(frozen=True)
class Found:
    """A text that was found: its tokens, and log P(text) / lp(text)."""

    tokens: tuple[int, ...]
    score: float


@torch.no_grad()
def beam_search(
    writer: Writer, start: Int[Tensor, "1 length"], how: Beams, *, count: int, stop: Collection[int] = ()
) -> list[Found]:
    """The best texts of at most `count` tokens that go on from `start`, the best first.

        s(Y) = log P(Y) / lp(Y),   lp(Y) = ((5 + |Y|) / 6)^α

    At every place the likeliest `beams` texts that go on are kept. One that ends counts if it is among the likeliest
    `beams` of all. The search is over when none that goes on could still be better than the worst of the best found.
    With as many beams as there are texts the result is exact.

    Arguments:
        writer: of the model.
        start: Int[1, length], what stands before.
        how: the beams, and α of the length penalty.
        count: the most tokens; a text that is so long counts, too.
        stop: tokens that end a text.

    Returns:
        At most `how.beams` texts; |Y| counts the token that ends one.

    Source: Wu et al. 2016, section 7. We leave out the coverage penalty, which needs the attention's weights.
    """
    beams, rows, logs = how.beams, start, torch.zeros(1, dtype=torch.float64)
    found: list[Found] = []
    for length in range(1, count + 1):
        sums = (logs[:, None] + torch.log_softmax(writer.next(rows), dim=-1)).flatten()
        vocabulary = len(sums) // len(rows)
        best = _best(sums, (1 + len(stop)) * beams)
        ends = [index for index in best[:beams] if index % vocabulary in stop or length == count]
        goes_on = [index for index in best if index % vocabulary not in stop][:beams]
        penalty = length_penalty(length, how.length_penalty)
        for index in ends:
            before = rows[index // vocabulary, start.shape[1] :].tolist()
            found.append(Found((*before, index % vocabulary), float(sums[index]) / penalty))
        found = sorted(found, key=lambda text: -text.score)[:beams]
        # log P only falls, and the penalty only grows: no text that goes on can pass this.
        if not goes_on or (len(found) == beams and float(sums[goes_on[0]]) / _largest(count, how) <= found[-1].score):
            break
        chosen = torch.tensor(goes_on)
        rows = torch.cat([rows[chosen // vocabulary], (chosen % vocabulary)[:, None]], dim=1)
        logs = sums[chosen]
        writer.select(chosen // vocabulary)
    return found


def _best(sums: Float[Tensor, " texts"], count: int) -> list[int]:
    """The likeliest texts that are possible at all; of equal ones, those that come first."""
    # `topk` does not say which of equal ones it takes, and to sort all takes longer than the model does.
    least = sums.topk(min(count, len(sums))).values[-1]
    places = ((sums >= least) & (sums > -torch.inf)).nonzero()[:, 0]
    order = sums[places].sort(descending=True, stable=True).indices[:count]
    chosen: list[int] = places[order].tolist()
    return chosen


def _largest(count: int, how: Beams) -> float:
    return length_penalty(count, how.length_penalty)
