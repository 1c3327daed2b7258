"""Language modelling: losses and metrics by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glassrun.data import text
from glassrun.data.source import IGNORED, Dataset
from glassrun.errors import ModelError
from glassrun.sections.data import TextData
from glassrun.tasks import registry
from glassrun.tasks.language_model import LanguageModelling


class Shares(nn.Module):
    """The next token is token t with the share `shares[t]`, whatever came before."""

    def __init__(self, shares: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(shares).log())

    def forward(self, tokens: Tensor) -> Tensor:
        self.seen = tokens
        return self.logits.expand(*tokens.shape, -1)


def dataset(folder: Path, content: str, tokenizer: str, context: int) -> Dataset:
    (folder / "text.txt").write_text(content, encoding="utf-8", newline="")
    section = TextData(
        source="text",
        path=str(folder / "text.txt"),
        validation=str(folder / "text.txt"),
        tokenizer=tokenizer,
        context=context,
    )
    return text.load(section, 1)


def evaluated(task: LanguageModelling, model: nn.Module, data: Dataset, slice_size: int = 3) -> dict[str, float]:
    """The metrics over the whole validation split, slice by slice."""
    split, sums = data.splits["validation"], dict[str, float]()
    for start in range(0, len(split), slice_size):
        batch = task.collate([split.example(i, 0) for i in range(start, min(start + slice_size, len(split)))])
        for name, value in task.evaluate(model, batch).items():
            sums[name] = sums.get(name, 0.0) + value
    return task.metrics(sums)


@pytest.fixture
def task(tmp_path: Path) -> LanguageModelling:
    return registry.build("language-model", dataset(tmp_path, "abcabcabc", "char", 4))  # type: ignore[return-value]


SHARES = [0.5, 0.3, 0.2]


def batch(task: LanguageModelling) -> dict[str, Tensor]:
    rows = [([0, 1, 2, 0], [1, 2, 0, 0]), ([2, 0, 0, 0], [0, 1, IGNORED, IGNORED])]
    return task.collate([{"inputs": np.array(inputs), "targets": np.array(targets)} for inputs, targets in rows])


def test_collate_stacks_in_order(task: LanguageModelling) -> None:
    made = batch(task)
    assert made["inputs"].tolist() == [[0, 1, 2, 0], [2, 0, 0, 0]]
    assert made["targets"].tolist() == [[1, 2, 0, 0], [0, 1, IGNORED, IGNORED]]
    assert made["inputs"].dtype == made["targets"].dtype == torch.int64


def test_padding_does_not_count(task: LanguageModelling) -> None:
    assert task.count(batch(task)) == task.tokens(batch(task)) == 6


def test_the_loss_is_the_sum_over_real_targets(task: LanguageModelling) -> None:
    model = Shares(SHARES)
    loss = task.loss(model, batch(task))
    assert loss.shape == ()
    assert loss.item() == pytest.approx(-3 * math.log(0.5) - 2 * math.log(0.3) - math.log(0.2), rel=1e-6)
    assert torch.equal(model.seen, batch(task)["inputs"])


def test_padding_has_no_gradient(task: LanguageModelling) -> None:
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    task.loss(lambda tokens: logits, batch(task)).backward()  # type: ignore[arg-type]  # noqa: ARG005
    assert logits.grad is not None
    assert (logits.grad[1, 2:] == 0).all()
    assert (logits.grad[1, :2] != 0).all()
    expected = torch.softmax(logits.detach()[0, 1], -1) - torch.tensor([0.0, 0.0, 1.0])
    torch.testing.assert_close(logits.grad[0, 1], expected)


def test_metrics_by_hand(task: LanguageModelling) -> None:
    sums = task.evaluate(Shares(SHARES), batch(task))
    total = -3 * math.log(0.5) - 2 * math.log(0.3) - math.log(0.2)
    assert sums == {"loss": pytest.approx(total, rel=1e-6), "tokens": 6.0, "characters": 6.0}
    assert task.metrics(sums) == {
        "loss": pytest.approx(total / 6, rel=1e-6),
        "perplexity": pytest.approx(math.exp(total / 6), rel=1e-6),
        "bits_per_character": pytest.approx(total / 6 / math.log(2), rel=1e-6),
    }


def test_perplexity_is_finite_for_a_loss_that_no_float_can_exponentiate(task: LanguageModelling) -> None:
    found = task.metrics({"loss": 1e6, "tokens": 2.0, "characters": 2.0})
    assert math.isfinite(found["perplexity"])
    assert found["loss"] == 5e5


def test_a_uniform_model_has_the_perplexity_of_the_vocabulary(tmp_path: Path) -> None:
    data = dataset(tmp_path, "abcde" * 9 + "ab", "char", 8)
    task = LanguageModelling(data)
    found = evaluated(task, Shares([0.2] * 5), data)
    assert found["perplexity"] == pytest.approx(5, rel=1e-5)
    assert found["bits_per_character"] == pytest.approx(math.log2(5), rel=1e-5)


@pytest.mark.parametrize("context", [1, 3, 8, 64])
@pytest.mark.parametrize("slice_size", [1, 3])
@pytest.mark.parametrize("content", ["aé€\U0001f600" * 11, "plain text " * 8, "a" + "€" * 30])
def test_bits_per_character_count_characters_not_bytes(
    tmp_path: Path, content: str, context: int, slice_size: int
) -> None:
    """With 256 equal shares every byte costs eight bits; all bytes but the first are predicted, and spell all
    characters but the first (a character here)."""
    data = dataset(tmp_path, content, "byte", context)
    task = LanguageModelling(data)
    found = evaluated(task, Shares([1 / 256] * 256), data, slice_size)
    expected = 8 * (len(content.encode()) - 1) / (len(content) - 1)
    assert found["bits_per_character"] == pytest.approx(expected, rel=1e-5)
    assert found["loss"] == pytest.approx(math.log(256), rel=1e-5)


def test_tokens_that_are_characters_are_not_taken_for_bytes(tmp_path: Path) -> None:
    """Among 192 characters the tokens 128 to 191 have the bits that mark a continuation byte."""
    content = "".join(chr(0x4E00 + number) for number in range(192)) * 2
    data = dataset(tmp_path, content, "char", 16)
    task = LanguageModelling(data)
    assert evaluated(task, Shares([1 / 192] * 192), data)["bits_per_character"] == pytest.approx(
        math.log2(192), rel=1e-5
    )


def test_a_model_with_another_vocabulary_is_refused(task: LanguageModelling) -> None:
    with pytest.raises(ModelError, match="gives 4 logits, but there are 3 tokens in the vocabulary"):
        task.loss(Shares([0.25] * 4), batch(task))
