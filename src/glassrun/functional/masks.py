"""Masks of attention: boolean, True where a query may look.

Where there are more keys than queries, the queries are the last of them: so it is when keys of earlier calls are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glassrun.functional.relative_positions import relative_positions

if TYPE_CHECKING:
    from jaxtyping import Bool, Int


def causal_mask(queries: int, keys: int, *, device: torch.device | None = None) -> Bool[Tensor, "query key"]:
    """A query may look at itself and what stands before it: query i at keys 0 to i + keys − queries.

    >>> causal_mask(3, 3).int().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    >>> causal_mask(2, 3).int().tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def sliding_window_mask(
    queries: int, keys: int, window: int, *, device: torch.device | None = None
) -> Bool[Tensor, "query key"]:
    """A query may look at keys that are less than `window` away, itself included, on both sides.

    Together with `causal` these are the last `window` keys.

    >>> sliding_window_mask(4, 4, 2).int().tolist()
    [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]

    Source: Beltagy et al. 2020 (Longformer), section 3.1; causal as in Jiang et al. 2023 (Mistral), section 2.
    """
    return relative_positions(queries, keys, device=device).abs() < window


def padding_mask(tokens: Int[Tensor, "batch key"], padding_token: int) -> Bool[Tensor, "batch 1 1 key"]:
    """Every query of every head may look at the keys that are not padding.

    >>> padding_mask(torch.tensor([[5, 6, 0]]), padding_token=0).tolist()
    [[[[True, True, False]]]]
    """
    return (tokens != padding_token)[:, None, None, :]
