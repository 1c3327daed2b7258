"""Translation: losses and metrics by hand, and exact match against real greedy decoding."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glassrun.data.tokenizers import BEGIN, END, PADDING
from glassrun.errors import ModelError
from glassrun.models.encoder_decoder import EncoderDecoder
from glassrun.tasks import registry
from glassrun.tasks.translate import Translate
from writing import greedy

VOCABULARY = 7  # the four special tokens and three characters


class Shares(nn.Module):
    """The next token is token t with the share `shares[t]`, whatever came before."""

    def __init__(self, shares: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(shares).log())

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        self.seen = source, target
        return self.logits.expand(*target.shape, -1)


SHARES = [0.05, 0.05, 0.2, 0.1, 0.3, 0.25, 0.05]  # the likeliest is token 4


def task(vocabulary: int = VOCABULARY) -> Translate:
    facts = {"padding_token": PADDING, "target_vocabulary_size": vocabulary}
    return registry.build("translate", SimpleNamespace(facts=facts))  # type: ignore[return-value]


def pair(source: list[int], target: list[int]) -> dict[str, np.ndarray]:
    return {"source": np.array([*source, END]), "target": np.array([BEGIN, *target, END])}


def batch() -> dict[str, Tensor]:
    return task().collate([pair([4, 5], [4, 4, 5]), pair([6], [4]), pair([5, 5, 5, 5], [])])


TOTAL = -3 * math.log(0.3) - math.log(0.25) - 3 * math.log(0.2)  # 4 4 5 end, 4 end, end


def test_collate_pads_each_side_to_its_longest() -> None:
    assert batch()["source"].tolist() == [[4, 5, 2, 0, 0], [6, 2, 0, 0, 0], [5, 5, 5, 5, 2]]
    assert batch()["target"].tolist() == [[1, 4, 4, 5, 2], [1, 4, 2, 0, 0], [1, 2, 0, 0, 0]]
    assert batch()["source"].dtype == batch()["target"].dtype == torch.int64


def test_padding_and_the_begin_do_not_count() -> None:
    assert task().count(batch()) == 4 + 2 + 1
    assert task().tokens(batch()) == 3 + 2 + 5 + 7


def test_the_loss_is_the_sum_over_real_targets() -> None:
    model = Shares(SHARES)
    loss = task().loss(model, batch())
    assert loss.shape == ()
    assert loss.item() == pytest.approx(TOTAL, rel=1e-6)
    source, target = model.seen
    assert torch.equal(source, batch()["source"])
    assert torch.equal(target, batch()["target"][:, :-1])


def test_padding_has_no_gradient() -> None:
    logits = torch.randn(3, 4, VOCABULARY, generator=torch.Generator().manual_seed(0), requires_grad=True)
    task().loss(lambda source, target: logits, batch()).backward()  # type: ignore[arg-type]  # noqa: ARG005
    assert logits.grad is not None
    counts = (logits.grad != 0).any(-1)
    assert counts.tolist() == [[True] * 4, [True, True, False, False], [True, False, False, False]]


def test_more_padding_changes_nothing() -> None:
    """A short pair beside a long one costs what it costs alone."""
    alone = [task().collate([example]) for example in (pair([4, 5], [4, 4, 5]), pair([6], [4]), pair([5] * 4, []))]
    model = Shares(SHARES)
    together = task().evaluate(model, batch())
    for name, value in together.items():
        assert value == pytest.approx(sum(task().evaluate(model, single)[name] for single in alone), rel=1e-6)


def test_evaluate_gives_sums_and_metrics_divide_them() -> None:
    sums = task().evaluate(Shares(SHARES), batch())
    # the model always says 4: it is right at two places of the first pair and one of the second, nowhere wholly
    assert sums == {
        "loss": pytest.approx(TOTAL, rel=1e-6),
        "tokens": 7.0,
        "right_tokens": 3.0,
        "examples": 3.0,
        "right": 0.0,
    }
    assert task().metrics(sums) == {
        "loss": pytest.approx(TOTAL / 7, rel=1e-6),
        "exact_match": 0.0,
        "token_accuracy": 3 / 7,
    }


def test_a_model_that_always_ends_is_right_about_the_empty_target_alone() -> None:
    shares = [0.05, 0.05, 0.5, 0.1, 0.1, 0.1, 0.1]
    sums = task().evaluate(Shares(shares), batch())
    assert (sums["right"], sums["right_tokens"]) == (1.0, 3.0)
    assert task().metrics(sums)["exact_match"] == 1 / 3


def random_model(seed: int, norm: str = "pre") -> EncoderDecoder:
    """A tiny model with random weights of its own, drawn from a generator of its own."""
    model = EncoderDecoder(
        VOCABULARY,
        VOCABULARY,
        13,
        PADDING,
        encoder_layers=1,
        decoder_layers=1,
        d_model=8,
        num_heads=2,
        d_ff=11,
        norm=norm,  # type: ignore[arg-type]
        tie_embeddings=False,
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.7)
    return model.eval()


def test_exact_match_is_what_greedy_decoding_writes() -> None:
    """Over random models: the targets that greedy decoding writes and their neighbours, alone and in one slice."""
    right = wrong = 0
    for seed in range(14):
        model = random_model(seed, "pre" if seed % 2 else "post")
        random = np.random.default_rng(seed)
        examples, expected = [], []
        for _ in range(6):
            source = random.integers(4, VOCABULARY, random.integers(1, 7)).tolist()
            written = greedy(model, [*source, END], 13)
            inner = written[1:-1] if written[-1] == END else written[1:6]
            candidates = [inner, inner[:-1], [*inner, 4], [*inner[:-1], 5], [6, *inner[1:]], []]
            for target in candidates:
                if PADDING not in target:  # the model may say it, but no target holds it
                    examples.append(pair(source, target))
                    expected.append(written == [BEGIN, *target, END])
        one_by_one = [task().evaluate(model, task().collate([example]))["right"] for example in examples]
        assert one_by_one == [float(value) for value in expected]
        together = task().evaluate(model, task().collate(examples))
        assert together["right"] == sum(expected)
        assert together["examples"] == len(examples)
        right, wrong = right + sum(expected), wrong + len(expected) - sum(expected)
    assert right > 10, "the test is empty unless some targets are right"
    assert wrong > 100


def test_greedy_stops_at_the_end_or_the_length() -> None:
    assert greedy(Shares([0.1, 0.1, 0.5, 0.1, 0.1, 0.05, 0.05]), [4, END], 13) == [BEGIN, END]
    assert greedy(Shares(SHARES), [4, END], 5) == [BEGIN, 4, 4, 4, 4]


def test_a_model_with_another_vocabulary_is_refused() -> None:
    with pytest.raises(ModelError, match="gives 7 logits, but there are 9 tokens in the target vocabulary"):
        task(9).loss(Shares(SHARES), batch())
