"""What limits where a query may look, told by a mask's content."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glassrun.capturing.maps import Masking

if TYPE_CHECKING:
    from jaxtyping import Bool

# Scores from here on down are masked: some code adds -inf, some the least number of the type, some -10000, as BERT did.
# What is left of the score beside them is small, and the weights are exactly zero for all three.
MASKED = -5000.0


def masking_of(blocked: Bool[Tensor, "*batch #query key"] | None, queries: int) -> Masking:
    """What a mask does.

    Arguments:
        blocked: True = may not look; one row stands for all queries.
        queries: how many there are. The last looks at the last key, where there are more keys than queries.

    >>> masking_of(torch.ones(3, 3, dtype=torch.bool).triu(1), 3)
    'causal'
    >>> masking_of(torch.tensor([[False, False, True]]), 3)
    'mask'
    """
    if blocked is None or not blocked.any():
        return "none"
    keys = blocked.shape[-1]
    later = torch.ones(queries, keys, dtype=torch.bool, device=blocked.device).triu(1 + max(keys - queries, 0))
    same_for_all_queries = bool((blocked == blocked[..., :1, :]).all())
    if same_for_all_queries or not later.any() or not (blocked | ~later).all():
        return "mask"
    return "causal+mask" if (blocked & ~later).any() else "causal"
