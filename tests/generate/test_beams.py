"""Beam search: against all texts there are, and against another library."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch

from glassrun.data.tokenizers import BEGIN, END
from glassrun.functional.sampling import length_penalty
from glassrun.generate.beams import Found, _best, beam_search
from glassrun.generate.decoding import Beams
from glassrun.generate.writers import TextWriter, TranslationWriter
from writing import VOCABULARY, greedy, language_model, translator

COUNT, STOP = 4, 2


def all_texts(model: Any, start: list[int], alpha: float) -> list[Found]:
    """Every text of at most COUNT tokens with its score, the best first."""
    found = []
    for length in range(1, COUNT + 1):
        going_on = [token for token in range(VOCABULARY) if token != STOP]
        for before in product(going_on, repeat=length - 1):
            for last in range(VOCABULARY) if length == COUNT else (STOP,):
                found.append((*before, last))
    scored = []
    for length in range(1, COUNT + 1):
        texts = [text for text in found if len(text) == length]
        rows = torch.tensor([[*start, *text] for text in texts])
        with torch.no_grad():
            logs = torch.log_softmax(model(rows[:, :-1]).double(), -1)
        own = logs[:, len(start) - 1 :].gather(-1, rows[:, len(start) :, None])[..., 0].sum(-1)
        scored += [
            Found(text, log / length_penalty(length, alpha)) for text, log in zip(texts, own.tolist(), strict=True)
        ]
    return sorted(scored, key=lambda text: -text.score)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_with_all_beams_the_result_is_exact(alpha: float, seed: int) -> None:
    model = language_model(seed)
    how = Beams(VOCABULARY**COUNT, alpha)
    found = beam_search(TextWriter(model, 5), torch.tensor([[3]]), how, count=COUNT, stop=(STOP,))
    expected = all_texts(model, [3], alpha)
    assert [text.tokens for text in found] == [text.tokens for text in expected]
    assert [text.score for text in found] == pytest.approx([text.score for text in expected], rel=1e-5)


def test_the_penalty_prefers_longer_texts() -> None:
    lengths: dict[float, int] = {}
    for alpha in (0.0, 5.0):
        for seed in range(10):
            found = beam_search(
                TextWriter(language_model(seed, 13), 13), torch.tensor([[3]]), Beams(5, alpha), count=11, stop=(STOP,)
            )
            lengths[alpha] = lengths.get(alpha, 0) + len(found[0].tokens)
    assert lengths[5.0] > lengths[0.0]


def test_one_beam_is_greedy() -> None:
    for seed in range(20):
        model = translator(seed)
        writer = TranslationWriter(model, torch.tensor([[3, 5, 4]]))
        (found,) = beam_search(writer, torch.tensor([[BEGIN]]), Beams(1, 0.0), count=10, stop=(END,))
        assert [BEGIN, *found.tokens] == greedy(model, [3, 5, 4], 11)


def test_more_beams_find_likelier_texts() -> None:
    def best(beams: int) -> float:
        scores = []
        for seed in range(10):
            writer = TranslationWriter(translator(seed), torch.tensor([[3, 5, 4]]))
            scores.append(
                beam_search(writer, torch.tensor([[BEGIN]]), Beams(beams, 0.0), count=10, stop=(END,))[0].score
            )
        return sum(scores)

    assert best(1) < best(5) <= best(50)


@pytest.mark.parametrize(("alpha", "length"), [(0.0, 1), (3.0, 10)])
def test_the_search_goes_on_while_a_longer_text_can_be_better(alpha: float, length: int) -> None:
    """The end has the share 0.5, to go on 0.4; after that nothing else is possible. log 0.4 / (15 / 6)³ > log 0.5."""

    class Scripted(torch.nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            shares = [0.1, 0.0, 0.5, 0.4] if tokens.shape[1] == 1 else [0.0, 0.0, 0.0, 1.0]
            return torch.tensor(shares).log().expand(*tokens.shape, 4)

    (found,) = beam_search(TextWriter(Scripted(), 99), torch.tensor([[0]]), Beams(1, alpha), count=10, stop=(STOP,))
    assert found.tokens == ((STOP,) if length == 1 else (3,) * 10)


def test_what_is_impossible_is_not_found() -> None:
    class Fixed(torch.nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return torch.tensor([0.0, -torch.inf, 0.0, -torch.inf]).expand(*tokens.shape, 4)

    found = beam_search(TextWriter(Fixed(), 9), torch.tensor([[0]]), Beams(16, 0.0), count=3, stop=(2,))
    assert {text.tokens for text in found} == {(2,), (0, 2), (0, 0, 2), (0, 0, 0)}


@pytest.fixture(scope="module")
def gpt2() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=13,
        n_positions=31,
        n_embd=12,
        n_layer=2,
        n_head=3,
        initializer_range=0.4,
        eos_token_id=STOP,
        bos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize("beams", [2, 5])
def test_another_library_finds_the_same(gpt2: Any, beams: int) -> None:
    """With α = 0 its score is ours, the log-probability. `never` is its name for our bound."""
    endings = set()
    for first in range(13):
        start = torch.tensor([[first, 7, 3]])
        theirs = gpt2.generate(
            start,
            attention_mask=torch.ones_like(start),
            num_beams=beams,
            length_penalty=0.0,
            early_stopping="never",
            do_sample=False,
            max_new_tokens=12,
            eos_token_id=STOP,
            pad_token_id=0,
        )[0, 3:].tolist()
        ours = beam_search(TextWriter(gpt2, 31), start, Beams(beams, 0.0), count=12, stop=(STOP,))[0].tokens
        assert list(ours) == theirs[: len(ours)]
        assert not any(theirs[len(ours) :])  # what it fills up with
        endings.add(ours[-1] == STOP)
    assert endings == {True, False}


def test_of_equally_likely_texts_those_that_come_first_are_kept() -> None:
    none = -torch.inf
    sums = torch.tensor([-3.0, none, -1.0, -2.0, -2.0, -2.0, none], dtype=torch.float64)
    assert _best(sums, 3) == [2, 3, 4]
    assert _best(sums, 7) == [2, 3, 4, 5, 0]
    assert _best(torch.full((4,), none, dtype=torch.float64), 2) == []
