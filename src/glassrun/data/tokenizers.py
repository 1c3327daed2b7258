"""Characters or bytes as tokens. (A text has no padding; pairs of texts need a few special tokens.)"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from glassrun.errors import DataError

PADDING, BEGIN, END, UNKNOWN = range(4)
SPECIALS = ("␀", "⟨", "⟩", "�")  # how padding, begin, end and unknown are shown

Tokens = NDArray[np.int64]


class Tokenizer(Protocol):
    """Text to tokens and back."""

    size: int

    def encode(self, text: str) -> NDArray[Any]: ...
    def decode(self, tokens: Sequence[int]) -> str: ...
    def shown(self, tokens: Sequence[int]) -> list[str]: ...
    def to_plain(self) -> dict[str, Any]: ...


class CharTokenizer:
    """One token a character of a vocabulary.

    Arguments:
        characters: the vocabulary; sorted here by code point.
        special: whether the first four tokens are padding, begin, end and unknown.
    """

    def __init__(self, characters: str, *, special: bool) -> None:
        self.characters = "".join(sorted(set(characters)))
        self.special = special
        self.size = len(self.characters) + (len(SPECIALS) if special else 0)
        self.points = _code_points(self.characters)  # of each token but the special ones
        self._first = len(SPECIALS) if special else 0

    def encode(self, text: str) -> NDArray[Any]:
        """The tokens of a text, in the smallest unsigned type that holds the vocabulary.

        Raises:
            DataError: a character is not in the vocabulary, and there is no token for unknown ones.
        """
        points = _code_points(text)
        places = np.minimum(np.searchsorted(self.points, points), max(len(self.points) - 1, 0))
        known = self.points[places] == points if len(self.points) else np.zeros(len(points), bool)
        if not self.special and not known.all():
            wrong = sorted({text[i] for i in np.flatnonzero(~known)[:1000].tolist()})
            raise DataError(
                f"the text has characters that the model was not trained on: {', '.join(map(repr, wrong[:10]))}. "
                f"It knows {len(self.characters)}: {self.characters!r}"
            )
        return np.where(known, places + self._first, UNKNOWN).astype(_smallest(self.size))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones left out."""
        return "".join(self.characters[t - self._first] for t in tokens if t >= self._first)

    def shown(self, tokens: Sequence[int]) -> list[str]:
        """A visible form of each token, for the axes of figures."""
        return [_visible(self.characters[t - self._first]) if t >= self._first else SPECIALS[t] for t in tokens]

    def to_plain(self) -> dict[str, Any]:
        return {"kind": "char", "characters": self.characters, "special": self.special}


class ByteTokenizer:
    """One token a byte of the text's UTF-8 form: no character is ever unknown.

    Arguments:
        special: whether the first four tokens are padding, begin, end and unknown.
    """

    def __init__(self, *, special: bool) -> None:
        self.special = special
        self._first = len(SPECIALS) if special else 0
        self.size = 256 + self._first

    def encode(self, text: str) -> NDArray[Any]:
        """The tokens of a text.

        Raises:
            DataError: it holds half a surrogate pair, which no UTF-8 text does.
        """
        try:
            raw = np.frombuffer(text.encode(), dtype=np.uint8)
        except UnicodeEncodeError as error:
            raise DataError(f"the text is no Unicode: half a surrogate pair at character {error.start}") from None
        return raw.astype(np.uint16) + np.uint16(self._first) if self.special else raw

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones left out; bytes that are no UTF-8 are shown as �."""
        return bytes(t - self._first for t in tokens if t >= self._first).decode(errors="replace")

    def shown(self, tokens: Sequence[int]) -> list[str]:
        """A visible form of each token, for the axes of figures."""
        return [self._show(t) for t in tokens]

    def _show(self, token: int) -> str:
        if token < self._first:
            return SPECIALS[token]
        byte = token - self._first
        return _visible(chr(byte)) if byte < 128 else f"{byte:02X}"

    def to_plain(self) -> dict[str, Any]:
        return {"kind": "byte", "special": self.special}


def from_plain(values: dict[str, Any]) -> Tokenizer:
    """The tokenizer that `to_plain` described."""
    if values["kind"] == "char":
        return CharTokenizer(values["characters"], special=values["special"])
    return ByteTokenizer(special=values["special"])


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")


def _smallest(size: int) -> type[np.unsignedinteger[Any]]:
    return np.uint8 if size <= 2**8 else np.uint16 if size <= 2**16 else np.uint32


def _visible(character: str) -> str:
    return {"\n": "↵", " ": "␣", "\t": "⇥"}.get(character, character if character.isprintable() else "�")
