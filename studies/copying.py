"""Pairs of a text and the same text again: short ones to train on, and longer ones to measure with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

from glassrun import config
from glassrun.config import Recipe
from glassrun.data.encoding import TextEncoding
from glassrun.errors import ConfigError
from glassrun.train.state import load_data

_SHORTEST = 4  # the part of the longest room that the shortest has
_MOST = 500  # pieces of a length that are measured


def copies(longest: int, times: int) -> Callable[[Recipe, Path], Recipe]:
    """For `Trial.prepare`: a recipe of texts becomes one that copies pieces of them, a character at a time.

    A piece is as many words in a row as fit into so many characters. The training text is cut into pieces that fit into
    a quarter of `longest` and more, up to `longest` characters, in turn: many are shorter. The held-out text is cut
    `times` times: into pieces that fit into `longest` characters, into such as need more and fit into twice as many,
    and so on.
    """

    def prepare(recipe: Recipe, place: Path) -> Recipe:
        dataset = load_data(recipe)
        if not isinstance(dataset.encoding, TextEncoding):
            raise ConfigError(f"recipe {recipe.name}: expected a source of texts, from which pieces are cut")
        decode = dataset.encoding.tokenizer.decode
        words = {name: decode(split.tokens.tolist()).split() for name, split in dataset.splits.items()}
        held_out = words.get("test") or words["validation"]
        place.mkdir(parents=True, exist_ok=True)
        parts = {"path": pieces(words["train"], range(longest // _SHORTEST, longest + 1))}
        parts["test"] = [
            piece
            for part in range(1, times + 1)
            for piece in [p for p in pieces(held_out, [part * longest]) if len(p) > (part - 1) * longest][:_MOST]
        ]
        paths = {name: place / f"{name}.txt" for name in parts}
        for name, path in paths.items():
            path.write_text("\n".join(parts[name]) + "\n", encoding="utf-8")
        data = {"source": "pairs", "max_length": times * longest + 2}
        data |= {name: f"{path},{path}" for name, path in paths.items()}
        return config.validate(recipe.plain() | {"task": "translate", "data": data}, recipe.name)

    return prepare


def pieces(words: Sequence[str], lengths: Sequence[int]) -> list[str]:
    """A text in pieces that are no longer than these, one after another and from the first again.

    >>> pieces("a text in pieces of words".split(), [9, 6])
    ['a text in', 'pieces', 'of words']
    """
    found: list[str] = []
    room = cycle(lengths)
    piece, length = "", next(room)
    for word in words:
        longer = f"{piece} {word}" if piece else word
        if len(longer) <= length:
            piece = longer
            continue
        if piece:
            found.append(piece)
            length = next(room)
        piece = word if len(word) <= length else ""
    return [*found, piece] if piece else found
