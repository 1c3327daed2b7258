"""One token after the other, in several rows at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glassrun.generate.decoding import Greedy, Sampling
from glassrun.generate.writers import Writer

if TYPE_CHECKING:
    from jaxtyping import Int

Hear = Callable[[int, int], None]  # a row, and the token that was just written in it


@torch.no_grad()
def write(
    writer: Writer,
    rows: Int[Tensor, "rows length"],
    how: Greedy | Sampling,
    keys: Sequence[int],
    *,
    count: int,
    stop: Collection[int] = (),
    hear: Hear | None = None,
) -> list[list[int]]:
    """Go on from each row.

    Arguments:
        writer: of the model.
        rows: Int[rows, length], what each begins with.
        how: a token is chosen.
        keys: of what each row begins with (see `decoding.key`).
        count: the most tokens to write.
        stop: tokens that end a row.
        hear: called with each token as it comes.

    Returns:
        For each row the tokens that were written, with the one that ended it.
    """
    written: list[list[int]] = [[] for _ in rows]
    alive = list(range(len(rows)))
    for place in range(count):
        tokens = how.choose(writer.next(rows), [keys[row] for row in alive], place)
        rows = torch.cat([rows, tokens[:, None]], dim=1)
        for row, token in zip(alive, tokens.tolist(), strict=True):
            written[row].append(token)
            if hear:
                hear(row, token)
        going_on = [index for index, row in enumerate(alive) if written[row][-1] not in stop]
        if len(going_on) < len(alive):
            kept = torch.tensor(going_on, dtype=torch.int64)
            rows, alive = rows[kept], [alive[index] for index in going_on]
            writer.select(kept)
        if not alive:
            break
    return written
