"""The study of copying: its data, and that its verdict follows from the measurements."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import copying
import positions_copying as study
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from study import Measurement
from transformer_variants import copier
from translating import Answer

from glassrun import config
from glassrun.errors import ConfigError
from glassrun.train.state import load_data

SEEDS = (5, 7)
WORDS = st.lists(st.text("abc", min_size=1, max_size=9), max_size=30)


@settings(max_examples=100, deadline=None)
@given(WORDS, st.lists(st.integers(3, 9), min_size=1, max_size=4))
def test_pieces_are_the_text_without_what_is_longer_than_all(words: list[str], lengths: list[int]) -> None:
    found = copying.pieces(words, lengths)
    kept = " ".join(found).split()
    rest = iter(words)
    assert all(word in rest for word in kept)  # in order
    assert all(len(piece) <= lengths[place % len(lengths)] for place, piece in enumerate(found))
    if len(lengths) == 1:
        assert kept == [word for word in words if len(word) <= lengths[0]]


def test_held_out_pieces_are_of_every_length_and_of_other_text(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"w{number} and\n" for number in range(2000)))
    given = study.trial("alibi").recipe
    recipe = config.load(given, {"data": {"source": "text", "path": str(text)}})  # type: ignore[arg-type]
    made = copying.copies(16, 3)(recipe, tmp_path / "data")
    assert made.task == "translate"
    dataset = load_data(made)
    assert set(dataset.splits) == {"train", "validation", "test"}  # a hash takes validation from the short ones
    short, long = ([source for source, _ in dataset.splits[name].pairs] for name in ("train", "test"))
    assert {len(piece) for piece in short} <= set(range(1, 17))
    assert {(len(piece) - 1) // 16 for piece in long} == {0, 1, 2}
    assert max(map(len, long)) <= 48
    last = max(int(word[1:]) for piece in short for word in piece.split() if re.fullmatch(r"w\d+", word))
    first = min(int(word[1:]) for piece in long for word in piece.split() if re.fullmatch(r"w\d+", word))
    assert last <= first
    assert dataset.facts["max_length"] == 50


def test_a_source_without_texts_is_refused(tmp_path: Path) -> None:
    recipe = config.load("sentences-transformer")
    with pytest.raises(ConfigError, match="expected a source of texts"):
        copying.copies(16, 3)(recipe, tmp_path)


def test_texts_that_were_trained_on_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {"train": ["a cat", "the dog"], "test": ["the dog", "a dog", "a cat", "the cat"]}
    dataset = SimpleNamespace(
        splits={name: SimpleNamespace(pairs=[(text, text) for text in texts]) for name, texts in splits.items()}
    )
    asked = [Answer(len(text) + 1, True, 1, 1, 0.0) for text in splits["test"]]
    monkeypatch.setattr(study, "answers", lambda _: asked)
    assert study.of_new_texts(SimpleNamespace(dataset=dataset)) == [asked[1], asked[3]]  # type: ignore[arg-type]


def copied(**other: tuple[Sequence[float | None], ...]) -> list[Measurement]:
    """Whole texts that are right, for two seeds each, at the length trained on and at those beyond."""
    beyond = ((0.0, 0.0),) * (study.TIMES - 1)
    shares = dict.fromkeys(study.KINDS, ((0.8, 0.9), *beyond)) | {study.NOTHING: ((0.1, 0.2), *beyond)} | other
    return [
        Measurement(study.at(kind, times), seed, {study.MATCH: share, study.ACCURACY: share})
        for kind, found in shares.items()
        for times, column in enumerate(found, 1)
        for seed, share in zip(SEEDS, column, strict=True)
    ]


def test_only_what_was_trained_on_is_copied() -> None:
    verdict = study.judge(copied(rotary=((0.8, 0.5), (0.01, 0.02), (0.0, 0.0), (0.0, 0.0))))
    assert verdict.supported
    assert "rotary 0.04" in verdict.text
    assert "alibi 69.9 (69.9 to 70)" in verdict.text or "alibi 70 (70 to 70)" in verdict.text


@pytest.mark.parametrize(
    "found",
    [
        {"relative": ((0.8, 0.9), (0.0, 0.095), (0.0, 0.0), (0.0, 0.0))},  # a tenth
        {"relative": ((0.8, 0.9), (0.0, 0.0), (0.0, 0.0), (0.0, 0.5))},  # where nobody would look
        {"relative": ((0.1, 0.9), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0))},  # no better than none with a seed
        {"relative": ((None, 0.9), (None, 0.0), (None, 0.0), (None, 0.0))},
        {"none": ((0.0, 0.85), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)), "learned": ((0.0, 0.9),) + ((0.0, 0.0),) * 3},
    ],
)
def test_what_else_supports_nothing(found: dict[str, tuple[Sequence[float | None], ...]]) -> None:
    assert not study.judge(copied(**found)).supported


@pytest.mark.parametrize("kind", study.KINDS)
def test_every_kind_computes_beyond_the_length_trained_on(kind: str) -> None:
    model = copier(11, 11, 4 * 6, 0, positions=kind, encoder_layers=1, decoder_layers=1, d_model=12, num_heads=3)  # type: ignore[arg-type]
    tokens = torch.randint(1, 11, (2, 24), generator=torch.Generator().manual_seed(1))
    assert model(tokens, tokens).shape == (2, 24, 11)
