"""Masked language modelling: what is asked for, by hand; and that an evaluation does not depend on when it is made."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from glassrun.data import text
from glassrun.data.source import IGNORED
from glassrun.errors import ModelError
from glassrun.sections.data import TextData
from glassrun.tasks import registry
from glassrun.tasks.masked_language_model import MaskedLanguageModelling, asked, keyed_by, with_gaps


class Shares(nn.Module):
    """Every token is token t with the share `shares[t]`; it keeps what it was given."""

    def __init__(self, shares: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(shares).log())
        self.seen: list[Tensor] = []

    def forward(self, tokens: Tensor) -> Tensor:
        self.seen.append(tokens)
        return self.logits.expand(*tokens.shape, -1)


@pytest.fixture
def task(tmp_path: Path) -> MaskedLanguageModelling:
    (tmp_path / "text.txt").write_text("abcabcabcabc", encoding="utf-8")
    path = str(tmp_path / "text.txt")
    data = text.load(TextData(source="text", path=path, validation=path, context=8), 1)
    built = registry.build("masked-language-model", data)
    assert isinstance(built, MaskedLanguageModelling)
    assert registry.facts_of(built, data) == {"vocabulary_size": 4, "max_length": 8}
    return built


def batch(task: MaskedLanguageModelling) -> dict[str, Tensor]:
    """Two windows, the second with three tokens of text."""
    rows = [([0, 1, 2, 0, 1, 2, 0, 1], [1] * 8), ([2, 0, 1, 0, 0, 0, 0, 0], [0, 1, 2] + [IGNORED] * 5)]
    return task.collate([{"inputs": np.array(inputs), "targets": np.array(targets)} for inputs, targets in rows])


def test_the_count_is_known_before_the_forward(task: MaskedLanguageModelling) -> None:
    assert batch(task)["lengths"].tolist() == [8, 3]
    assert task.tokens(batch(task)) == 11
    assert task.count(batch(task)) == asked(8) + asked(3) == 2


def test_the_loss_is_the_sum_over_what_is_asked_for(task: MaskedLanguageModelling) -> None:
    model = Shares([0.4, 0.4, 0.1, 0.1])
    torch.manual_seed(3)
    loss = task.loss(model, batch(task))
    assert [tuple(tokens.shape) for tokens in model.seen] == [(1, 3), (1, 8)]  # a short text is read as it is
    torch.manual_seed(3)
    answers = torch.cat([with_gaps(row, 3)[1] for row in (batch(task)["inputs"][0], batch(task)["inputs"][1, :3])])
    found = answers[answers != IGNORED]
    assert len(found) == 2
    expected = sum(-math.log([0.4, 0.4, 0.1][token]) for token in found.tolist())
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@given(st.lists(st.integers(0, 18), min_size=1, max_size=70), st.integers(0, 2**31))
def test_gaps(values: list[int], seed: int) -> None:
    tokens = torch.tensor(values)
    inputs, targets = with_gaps(tokens, 19, torch.Generator().manual_seed(seed))
    places = targets != IGNORED
    assert int(places.sum()) == max(1, round(0.15 * len(values)))
    assert torch.equal(targets[places], tokens[places])
    assert torch.equal(inputs[~places], tokens[~places])
    assert int(inputs.max()) <= 19


def test_of_the_chosen_80_are_hidden_10_replaced_and_10_kept() -> None:
    tokens = torch.zeros(20_000, dtype=torch.int64)
    inputs, targets = with_gaps(tokens, 1000, torch.Generator().manual_seed(1))
    chosen = inputs[targets != IGNORED]
    assert len(chosen) == 3000
    hidden, kept = int((chosen == 1000).sum()), int((chosen == 0).sum())
    # Three standard deviations; a token drawn from the vocabulary is the right one once in a thousand.
    assert abs(hidden - 2400) < 66
    assert abs(kept - 300) < 50
    assert abs(len(chosen) - hidden - kept - 300) < 50


def test_training_draws_from_the_default_generator() -> None:
    row = torch.arange(64) % 3
    torch.manual_seed(5)
    first, second = with_gaps(row, 3)[1], with_gaps(row, 3)[1]
    torch.manual_seed(5)
    assert torch.equal(with_gaps(row, 3)[1], first)
    assert not torch.equal(first, second)


def test_an_evaluation_follows_from_the_text_alone(task: MaskedLanguageModelling) -> None:
    sums = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        sums.append(task.evaluate(Shares([0.4, 0.3, 0.2, 0.1]), batch(task)))
        assert torch.equal(torch.get_rng_state(), before)
    assert sums[0] == sums[1]
    turned = {name: tensor.flip(0) for name, tensor in batch(task).items()}
    assert task.evaluate(Shares([0.4, 0.3, 0.2, 0.1]), turned) == sums[0]


def test_other_texts_have_other_gaps() -> None:
    rows = [torch.full((64,), token) for token in range(20)]
    places = {tuple((with_gaps(row, 99, keyed_by(row))[1] != IGNORED).nonzero().flatten().tolist()) for row in rows}
    assert len(places) == 20


def test_metrics_by_hand(task: MaskedLanguageModelling) -> None:
    sums = task.evaluate(Shares([0.25, 0.25, 0.25, 0.25]), batch(task))
    assert sums["tokens"] == 2
    found = task.metrics(sums)
    assert found["loss"] == pytest.approx(math.log(4), rel=1e-6)
    assert found["perplexity"] == pytest.approx(4, rel=1e-6)
    assert found["token_accuracy"] == sums["right"] / 2


def test_a_model_without_the_mask_token_is_refused(task: MaskedLanguageModelling) -> None:
    with pytest.raises(ModelError, match=r"gives 3 logits, but there are 4 tokens in the vocabulary, the mask token"):
        task.loss(Shares([0.4, 0.4, 0.2]), batch(task))
