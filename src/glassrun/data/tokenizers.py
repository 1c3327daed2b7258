"""Characters, bytes or words as tokens. (A text has no padding; pairs of texts need a few special tokens.)

NumPy and not the `tokenizers` library, which gives the same tokens: see docs/dependencies.md.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from glassrun.errors import DataError, nearest

PADDING, BEGIN, END, UNKNOWN = range(4)
SPECIALS = ("␀", "⟨", "⟩", "�")  # how padding, begin, end and unknown are shown

Tokens = NDArray[np.int64]


class Tokenizer(Protocol):
    """Text to tokens and back.

    `size` is that of the vocabulary; `starts` says of each token how many characters begin in it.
    """

    size: int
    starts: NDArray[np.int64]

    def encode(self, text: str) -> NDArray[Any]: ...
    def decode(self, tokens: Sequence[int]) -> str: ...
    def piece(self, token: int) -> bytes: ...
    def spelled(self, tokens: NDArray[Any]) -> NDArray[Any]: ...
    def shown(self, tokens: Sequence[int]) -> list[str]: ...
    def described(self) -> dict[str, Any]: ...
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
        self.starts = np.repeat([0, 1], [self._first, len(self.characters)])

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
        return np.where(known, places + self._first, UNKNOWN).astype(smallest(self.size))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones left out."""
        return "".join(self.characters[t - self._first] for t in tokens if t >= self._first)

    def piece(self, token: int) -> bytes:
        """The token's character in UTF-8; nothing for a special one."""
        return self.characters[token - self._first].encode() if token >= self._first else b""

    def spelled(self, tokens: NDArray[Any]) -> NDArray[Any]:
        """The code points that tokens stand for, none of which is special."""
        points: NDArray[Any] = self.points[tokens - self._first]
        return points

    def shown(self, tokens: Sequence[int]) -> list[str]:
        """A visible form of each token, for the axes of figures."""
        return [visible(self.characters[t - self._first]) if t >= self._first else SPECIALS[t] for t in tokens]

    def described(self) -> dict[str, Any]:
        """What the data manifest says of it."""
        return self.to_plain()

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
        # In UTF-8 every byte but the continuation bytes 10xxxxxx starts a character.
        self.starts = np.append([0] * self._first, np.arange(256) & 0xC0 != 0x80).astype(np.int64)

    def encode(self, text: str) -> NDArray[Any]:
        """The tokens of a text.

        Raises:
            DataError: it holds half a surrogate pair, which no UTF-8 text does.
        """
        raw = np.frombuffer(utf_8(text), dtype=np.uint8)
        return raw.astype(np.uint16) + np.uint16(self._first) if self.special else raw

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones left out; bytes that are no UTF-8 are shown as �."""
        return b"".join(self.piece(token) for token in tokens).decode(errors="replace")

    def piece(self, token: int) -> bytes:
        """The token's byte; nothing for a special one."""
        return bytes([token - self._first]) if token >= self._first else b""

    def spelled(self, tokens: NDArray[Any]) -> NDArray[Any]:
        """The bytes that tokens stand for, none of which is special."""
        return tokens - self._first if self._first else tokens

    def shown(self, tokens: Sequence[int]) -> list[str]:
        """A visible form of each token, for the axes of figures."""
        return [self._show(t) for t in tokens]

    def _show(self, token: int) -> str:
        if token < self._first:
            return SPECIALS[token]
        byte = token - self._first
        return visible(chr(byte)) if byte < 128 else f"{byte:02X}"

    def described(self) -> dict[str, Any]:
        """What the data manifest says of it."""
        return self.to_plain()

    def to_plain(self) -> dict[str, Any]:
        return {"kind": "byte", "special": self.special}


class WordTokenizer:
    """One token a word of a fixed vocabulary, with tokens for padding, begin, end and unknown before them.

    Arguments:
        words: the vocabulary; sorted here by code point.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = sorted(set(words))
        self.size = len(SPECIALS) + len(self.words)
        self._tokens = {word: token for token, word in enumerate(self.words, start=len(SPECIALS))}
        # The space after a word is counted with it.
        self.starts = np.array([0] * len(SPECIALS) + [len(word) + 1 for word in self.words], dtype=np.int64)

    def encode(self, text: str) -> NDArray[Any]:
        """The tokens of a text's words, which stand apart by white space.

        Raises:
            DataError: a word is not in the vocabulary; the message lists those that are.
        """
        words = text.split()
        for word in words:
            if word not in self._tokens:
                raise DataError(f"the model was not trained on the word {word!r}; {nearest(word, self.words)}")
        return np.array([self._tokens[word] for word in words], dtype=smallest(self.size))

    def decode(self, tokens: Sequence[int]) -> str:
        """The words of tokens with a space between them, special ones left out."""
        return " ".join(self.words[t - len(SPECIALS)] for t in tokens if t >= len(SPECIALS))

    def piece(self, token: int) -> bytes:
        """The token's word and a space in UTF-8; nothing for a special one."""
        return f"{self.words[token - len(SPECIALS)]} ".encode() if token >= len(SPECIALS) else b""

    def spelled(self, tokens: NDArray[Any]) -> NDArray[Any]:
        """The bytes that tokens stand for, none of which is special."""
        return np.frombuffer(b"".join(self.piece(token) for token in tokens.tolist()), dtype=np.uint8)

    def shown(self, tokens: Sequence[int]) -> list[str]:
        """Each token's word, for the axes of figures."""
        return [self.words[t - len(SPECIALS)] if t >= len(SPECIALS) else SPECIALS[t] for t in tokens]

    def described(self) -> dict[str, Any]:
        """What the data manifest says of it."""
        return self.to_plain()

    def to_plain(self) -> dict[str, Any]:
        return {"kind": "word", "words": " ".join(self.words)}


class Spelling:
    """The text of tokens that come one after the other: a character is given when all of its bytes are there.

    >>> spelling = Spelling(ByteTokenizer(special=False))
    >>> [spelling.add(byte) for byte in "aé".encode()], spelling.end()
    (['a', '', 'é'], '')
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        """What can be shown now that this token has come."""
        return self._decoder.decode(self.tokenizer.piece(token))

    def end(self) -> str:
        """What is left: � where a character was begun and not ended."""
        return self._decoder.decode(b"", final=True)


def utf_8(text: str) -> bytes:
    """A text's bytes in UTF-8.

    Raises:
        DataError: it holds half a surrogate pair, which no UTF-8 text does.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the text is no Unicode: half a surrogate pair at character {error.start}") from None


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")


def smallest(size: int) -> type[np.unsignedinteger[Any]]:
    """The smallest unsigned type that numbers so many tokens."""
    return np.uint8 if size <= 2**8 else np.uint16 if size <= 2**16 else np.uint32


def visible(character: str) -> str:
    """A character as something that can be seen in a figure."""
    return {"\n": "↵", " ": "␣", "\t": "⇥"}.get(character, character if character.isprintable() else "�")
