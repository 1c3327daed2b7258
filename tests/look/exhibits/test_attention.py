"""The exhibit of attention: its arithmetic is the model's, and its memories are what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassrun.capturing.capture import capture
from glassrun.data.tokenizers import BEGIN, END
from glassrun.errors import BadInput, DataError
from glassrun.look.exhibits import attention, words
from glassrun.look.exhibits.arithmetic import Calls, steps
from glassrun.look.exhibits.base import Material
from glassrun.look.exhibits.memory import changed
from glassrun.look.page import Part
from in_process import state_of
from shown import check_part
from support import Made
from untrained import Untrained


@pytest.fixture(scope="module")
def run() -> Any:
    tiny = {"data.examples": 400, "model.d_model": 16, "model.d_ff": 16}
    return Untrained.of("sentences-transformer", **tiny)


@pytest.fixture(scope="module")
def part(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Part:
    return attention.make(Material(tmp_path_factory.mktemp("scratch"), run=run, may_train=False))


# --- the arithmetic --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("odd-pairs", {}),
        ("odd-lm", {"model.positions": "alibi"}),
        ("odd-llama", {}),  # grouped queries, rotary positions, norms of queries and keys, a window
        ("odd-encoder", {}),
    ],
)
def test_the_steps_of_every_query_are_those_of_the_model(made: Made, name: str, overrides: dict[str, Any]) -> None:
    model = state_of(made, name, **overrides).model.eval()
    tokens = torch.tensor([[5, 7, 6, 9, 8]])
    inputs = (tokens, torch.tensor([[BEGIN, 5, 6]])) if name == "odd-pairs" else (tokens,)
    with Calls() as calls:
        captured = capture(model, inputs)
    assert len(calls.found) == len(captured.attention) == (6 if name == "odd-pairs" else 2)
    for call, found in zip(calls.found, captured.attention.values(), strict=True):
        _, heads, queries, _ = found.weights.shape
        for head, query in np.ndindex(heads, queries):
            done = steps(call, head, query)
            assert done.weights == pytest.approx(found.weights[0, head, query].double().numpy(), abs=1e-6)
            assert done.weights.sum() == pytest.approx(1.0)
            assert done.output == pytest.approx(done.model_output, abs=1e-5)
            assert done.scaled * len(done.output) ** 0.5 == pytest.approx(done.scores)


def test_a_head_that_shares_its_row_between_two_tokens_is_shown() -> None:
    one, two, even = [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]
    assert attention._telling(np.array([[one, even], [two, one]]), range(2)) == (1, 0)
    assert attention._telling(np.array([[two, one], [two, even], [one, two]]), [1]) == (2, 1)
    assert words.perplexity(np.array([one, two, even])).tolist() == pytest.approx([1.0, 2.0, 4.0])


def test_the_table_holds_the_arithmetic(part: Part) -> None:
    table = next(table for table in part.tables if table.title == "The arithmetic")
    *keys, sums, own = table.rows
    assert [row[0] for row in keys] == ["a", "small", "dog", "waits", "⟩"]
    scores, scaled, powers, weights = (np.array([float(row[i]) for row in keys]) for i in (1, 2, 3, 4))
    assert scaled == pytest.approx(scores / 2.0, abs=2e-3)  # d_k is 4
    assert powers == pytest.approx(np.exp(scaled - scaled.max()), abs=2e-3)
    assert weights == pytest.approx(powers / powers.sum(), abs=2e-3)
    assert float(sums[4]) == pytest.approx(1.0)
    assert [float(value) for value in sums[5:]] == pytest.approx([float(value) for value in own[5:]], abs=2e-4)
    assert float(sums[5]) == pytest.approx(sum(float(row[5]) for row in keys), abs=5e-4)


# --- the memory ------------------------------------------------------------------------------------------------------


def written(model: Any, memory: Any, mask: Any, most: int) -> list[int]:
    """Greedy decoding without a cache, token by token."""
    tokens = [BEGIN]
    while len(tokens) <= most and tokens[-1] != END:
        tokens.append(int(model.decode(torch.tensor([tokens]), memory, mask)[0, -1].argmax()))
    return tokens[1:]


@torch.no_grad()
def test_memories_are_intact_of_another_sentence_and_zero(run: Any) -> None:
    reading = words.of_run(run, "a small dog waits", "")
    other = words.of_run(run, "the red queen must sing behind a tree", "")
    intact, swapped, zeros = changed(reading, other)
    model: Any = run.model
    encoding: Any = reading.encoding
    memory, mask = model.encode(reading.inputs[0])
    most = memory.shape[1] + 8
    assert intact.written == reading.translation
    assert intact.written == encoding.target.decode(written(model, memory, mask, most))
    assert swapped.written == encoding.target.decode(written(model, *model.encode(other.inputs[0]), most))
    assert zeros.written == encoding.target.decode(written(model, torch.zeros_like(memory), mask, most))
    logits = model(*reading.inputs)[0].double()
    likeliest = logits.softmax(-1).amax(-1).numpy()
    assert intact.probabilities == pytest.approx(likeliest, abs=1e-6)  # each was written because it was the likeliest
    assert np.abs(zeros.probabilities - intact.probabilities).max() > 1e-4


def test_the_part_is_whole(part: Part) -> None:
    assert [figure.svg.startswith("<svg") for figure in part.figures] == [True] * 3
    assert all(figure.title and (figure.caption or figure.description) for figure in part.figures)
    memory = next(table for table in part.tables if "memory" in table.title.lower())
    assert [row[0] for row in memory.rows] == ["intact", "of “a white queen sleeps”", "all zeros"]
    assert "glassrun exhibit attention --text" in part.text
    check_part(part)


def test_the_same_run_gives_the_same_part(part: Part, run: Any, tmp_path: Path) -> None:
    again = attention.make(Material(tmp_path, run=run, may_train=False))
    assert (again.text, again.tables) == (part.text, part.tables)
    assert [figure.svg for figure in again.figures] == [figure.svg for figure in part.figures]


# --- what is given ---------------------------------------------------------------------------------------------------


def test_a_sentence_of_the_users_is_read(run: Any, tmp_path: Path) -> None:
    reading = words.read(Material(tmp_path, run=run, text=" the red king can draw a pig "), "")
    assert reading.text == "the red king can draw a pig"
    assert reading.source == (*reading.text.split(), "⟩")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the small cats", r"'cats'; did you mean 'cat'\? Known: a, an, apple"),
        ("", "1 to 19 tokens, found 0"),
        ("   ", "1 to 19 tokens, found 0"),
        ("the " * 20, "1 to 19 tokens, found 20"),
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_a_text_that_cannot_be_read_is_told_before_anything_is_trained(
    text: str, message: str, own: bool, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Material, "trained", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(DataError, match=message):
        attention.make(Material(tmp_path, run=None if own else run, text=text))


def test_a_language_model_shows_its_last_token(made: Made, tmp_path: Path) -> None:
    run = Untrained.of(made, "odd-lm")
    part = attention.make(Material(tmp_path, run=run, may_train=False))
    assert len(part.figures) == 2
    assert all("memory" not in table.title.lower() for table in part.tables)
    tokens = run.dataset.splits["validation"].example(0, 0)["inputs"][:5]
    table = next(table for table in part.tables if table.title == "The arithmetic")
    assert [row[0] for row in table.rows[:-2]] == run.dataset.encoding.tokenizer.shown(tokens.tolist())
    with pytest.raises(DataError, match="1 to 13 tokens, found 14"):
        attention.make(Material(tmp_path, run=run, text="a" * 14))


@pytest.mark.parametrize("name", ["odd-pairs", "odd-lm"])
def test_weights_that_are_no_numbers_are_told(name: str, made: Made, tmp_path: Path) -> None:
    run = Untrained.of(made, name)
    with torch.no_grad():
        next(run.model.parameters()).fill_(torch.nan)
    with pytest.raises(BadInput, match=r"not finite|no numbers"):
        attention.make(Material(tmp_path, run=run, may_train=False))


def test_which_runs_fit(made: Made) -> None:
    for name in ("odd-pairs", "odd-lm", "odd-llama", "odd-encoder", "odd-vit", "odd-cnn"):
        run = Untrained.of(made, name)
        assert attention.EXHIBIT.fits(run) == (name not in ("odd-vit", "odd-cnn"))
        assert words.translates(run) == (name == "odd-pairs")


@pytest.mark.long
def test_without_a_run_of_the_users_it_translates_what_it_never_read(tmp_path: Path) -> None:
    from glassrun.data.splits import by_hash, content_key

    for sentence in (attention.SENTENCE, attention.OTHER):
        assert len(by_hash([content_key(sentence.encode())])["test"]) == 1
    part = attention.make(Material(tmp_path))
    assert "“ein kleiner Hund wartet”" in part.text
    memory = next(table for table in part.tables if "memory" in table.title.lower())
    assert [row[1] for row in memory.rows[:2]] == ["ein kleiner Hund wartet", "eine weiße Königin schläft"]
    assert float(memory.rows[0][2]) > 0.8
    assert float(memory.rows[1][2]) < 0.01
