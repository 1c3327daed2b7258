"""Which tokens may come, and which comes: by hand, against another library, and as shares."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassrun.functional.sampling import drawn, length_penalty, top_k, top_p

ROWS, VOCABULARY = 13, 17


def logits(seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(seed))


def test_top_p_by_hand() -> None:
    shares = torch.tensor([[0.1, 0.4, 0.2, 0.3]], dtype=torch.float64)
    kept = {p: top_p(shares.log(), p).isfinite()[0].tolist() for p in (0.01, 0.39, 0.41, 0.69, 0.75, 0.89, 1.0)}
    assert kept == {
        0.01: [False, True, False, False],
        0.39: [False, True, False, False],
        0.41: [False, True, False, True],
        0.69: [False, True, False, True],
        0.75: [False, True, True, True],
        0.89: [False, True, True, True],
        1.0: [True, True, True, True],
    }


def test_tokens_as_likely_as_the_last_stay() -> None:
    assert top_k(torch.tensor([1.0, 2.0, 2.0, 3.0]), 2).tolist() == [-math.inf, 2.0, 2.0, 3.0]
    assert torch.equal(top_k(logits(), 99), logits())


@pytest.mark.parametrize("k", [1, 3, VOCABULARY])
def test_top_k_is_that_of_another_library(k: int) -> None:
    library = pytest.importorskip("transformers")
    assert torch.equal(top_k(logits(), k), library.TopKLogitsWarper(k)(None, logits()))


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("seed", range(5))
def test_top_p_is_that_of_another_library(p: float, seed: int) -> None:
    library = pytest.importorskip("transformers")
    assert torch.equal(top_p(logits(seed), p), library.TopPLogitsWarper(p)(None, logits(seed)))


@given(st.integers(0, 10**6), st.floats(0.01, 1.0))
def test_the_fewest_tokens_have_the_share(seed: int, p: float) -> None:
    scores = logits(seed).double()
    shares, kept = torch.softmax(scores, -1), top_p(scores, p).isfinite()
    sums = (shares * kept).sum(-1)
    assert (sums >= p - 1e-12).all()
    least = shares.masked_fill(~kept, torch.inf).amin(-1)
    assert (sums - least < p).all()
    assert (shares.masked_fill(kept, 0.0).amax(-1) <= least).all()


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_the_token_is_where_the_sum_of_shares_passes(seed: int, uniform: float) -> None:
    scores = logits(seed)
    scores[:, ::3] = -torch.inf
    found = drawn(scores, torch.full((ROWS,), uniform, dtype=torch.float64))
    shares = torch.softmax(scores.double(), -1)
    for row, token in enumerate(found.tolist()):
        assert shares[row, token] > 0
        assert shares[row, :token].sum() <= uniform + 1e-12
        assert shares[row, : token + 1].sum() >= uniform - 1e-12


def test_the_end_of_the_range_draws_a_token_that_is_possible() -> None:
    last = torch.tensor([1.0 - 2.0**-53], dtype=torch.float64)
    assert int(drawn(torch.tensor([[0.0, 0.0, -torch.inf]]), last)) == 1
    assert int(drawn(torch.tensor([[-torch.inf, 0.0, 0.0]]), torch.zeros(1))) == 1


def test_the_penalty_is_the_formula() -> None:
    assert length_penalty(7, 0.0) == 1.0
    assert length_penalty(13, 0.6) == pytest.approx((5 + 13) ** 0.6 / (5 + 1) ** 0.6)


def test_the_whole_share_leaves_every_token() -> None:
    """Sums in single precision pass 1 before the rare tokens."""
    logits = 10 * torch.randn(50_000, generator=torch.Generator().manual_seed(1))
    assert top_p(logits, 1.0).isfinite().all()
