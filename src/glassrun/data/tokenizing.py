"""From what a recipe or a run says of a tokenizer to the tokenizer: the one place where its names become code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glassrun.data import bpe
from glassrun.data.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer, WordTokenizer
from glassrun.sections.data import Bpe, TextTokenizer


def make(chosen: TextTokenizer, texts: Sequence[str], *, special: bool, recorded: Tokenizer | None) -> Tokenizer:
    """The tokenizer that a recipe chooses.

    Arguments:
        chosen: of the recipe.
        texts: whose characters it knows, or that its merges are learned from.
        special: whether it has tokens for padding, begin, end and unknown.
        recorded: that of the run, if it has begun; then nothing is learned or read again.

    Raises:
        DataError: the texts are too small for the vocabulary, or the file is none that can be used.
    """
    if chosen == "char":
        return CharTokenizer("".join(sorted(set().union(*map(set, texts)))), special=special)
    if chosen == "byte":
        return ByteTokenizer(special=special)
    if recorded is not None:
        return recorded
    if isinstance(chosen, Bpe):
        return bpe.train(texts, chosen.vocabulary_size, special=special)
    return bpe.read(Path(chosen.path), special=special)


def from_plain(values: dict[str, Any]) -> Tokenizer:
    """The tokenizer that `to_plain` described."""
    if values["kind"] == "char":
        return CharTokenizer(values["characters"], special=values["special"])
    if values["kind"] == "byte":
        return ByteTokenizer(special=values["special"])
    if values["kind"] == "word":
        return WordTokenizer(values["words"].split())
    return bpe.BpeTokenizer(values["json"], special=values["special"])
