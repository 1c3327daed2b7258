"""Choosing the next token from its logits: which tokens may come, and which comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int


def top_k(logits: Float[Tensor, "*rows vocabulary"], k: int) -> Float[Tensor, "*rows vocabulary"]:
    """The logits of the k likeliest tokens, −∞ for the others; those as likely as the k-th stay, too.

    Source: Fan et al. 2018, section 5.4.

    >>> top_k(torch.tensor([1.0, 3.0, 2.0]), 2).tolist()
    [-inf, 3.0, 2.0]
    """
    least = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def top_p(logits: Float[Tensor, "*rows vocabulary"], p: float) -> Float[Tensor, "*rows vocabulary"]:
    """The logits of the fewest likeliest tokens whose shares together are at least p; −∞ for the others.

    A token stays if those likelier than it have less than p together; so one always does.

    Source: Holtzman et al. 2020, section 3.1.

    >>> top_p(torch.tensor([0.5, 0.3, 0.2]).log(), 0.6).exp()
    tensor([0.5000, 0.3000, 0.0000])
    """
    ordered, places = logits.sort(dim=-1, descending=True, stable=True)
    # In single precision the sums would be off by more than the rare tokens have.
    shares = torch.softmax(ordered.double(), dim=-1)
    before = shares.cumsum(-1) - shares
    left_out = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, places, before >= p)
    return logits.masked_fill(left_out, -torch.inf)


def drawn(logits: Float[Tensor, "rows vocabulary"], uniform: Float[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """The token at which the sum of the shares softmax(logits) passes a number between 0 and 1: the inverse of their
    distribution function.

    Arguments:
        logits: Float[rows, vocabulary].
        uniform: Float[rows], at least 0 and below 1.

    >>> shares = torch.tensor([[0.5, 0.3, 0.2]]).log()
    >>> [int(drawn(shares, torch.tensor([u]))) for u in (0.0, 0.49, 0.51, 0.99)]
    [0, 0, 1, 2]
    """
    shares = torch.softmax(logits.double(), dim=-1)
    sums = shares.cumsum(-1)
    token = torch.searchsorted(sums, uniform.double()[:, None] * sums[:, -1:], right=True)[:, 0]
    # Rounding can carry the product up to the last sum, which no token passes.
    possible = torch.arange(logits.shape[-1]).masked_fill(shares == 0, 0)
    return torch.minimum(token, possible.amax(-1))


def length_penalty(length: int, alpha: float) -> float:
    """What a text's log-probability is divided by, so that longer texts are not put behind for being longer.

        lp(Y) = (5 + |Y|)^α / (5 + 1)^α

    Source: Wu et al. 2016, equation 14.

    >>> length_penalty(1, 0.6), length_penalty(7, 1.0)
    (1.0, 2.0)
    """
    return float(((5 + length) / 6) ** alpha)
