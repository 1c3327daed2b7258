"""Byte-pair encoding through the `tokenizers` library: trained on the user's text, or a file of the user's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassrun.data import compressed
from glassrun.data.tokenizers import SPECIALS, smallest, utf_8, visible
from glassrun.digest import canonical_json, digest_bytes
from glassrun.errors import DataError, MissingDependency

_CHUNK = 2**12  # characters that the library encodes at once: it needs about 200 bytes for each (measured)
_MOST_BYTES = 2**26  # of a tokenizer file; those of large models have 10 MB
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_PRE_TOKENIZER = {"add_prefix_space": False, "use_regex": True}
# The library cuts a text into words by GPT-2's pattern, none of whose words holds a line break after something that is
# no white space: so there a text can be cut without changing a token.
_CUT = re.compile(r"(?<=\S)(?=\n)")


class BpeTokenizer:
    """Bytes, merged to longer tokens by learned rules: no character is ever unknown, and every text comes back.

    Arguments:
        text: JSON in the form of the `tokenizers` library's files.
        special: whether the first four tokens are padding, begin, end and unknown; then those of the file follow.
        where: names the file in errors.

    Source: Sennrich et al. 2016, section 3.2; over bytes, Radford et al. 2019, section 2.2.

    Raises:
        DataError: it is no byte-level byte-pair encoding that gives every text back, or is damaged.
        MissingDependency: the library is not installed.
    """

    def __init__(self, text: str, *, special: bool, where: str = "tokenizer") -> None:
        described = _checked(text, where)
        self.json = canonical_json(described)
        self.special = special
        self._first = len(SPECIALS) if special else 0
        self.pieces = [b""] * self._first + _pieces(described, where)
        self._library = _library(self.json, where)
        self.size = len(self.pieces)
        # In UTF-8 every byte but the continuation bytes 10xxxxxx starts a character.
        self.starts = np.array([sum(byte & 0xC0 != 0x80 for byte in piece) for piece in self.pieces], dtype=np.int64)

    def encode(self, text: str) -> NDArray[Any]:
        """The tokens of a text, in the smallest unsigned type that holds the vocabulary.

        Raises:
            DataError: it holds half a surrogate pair, which no UTF-8 text does.
        """
        utf_8(text)
        kind = smallest(self.size)
        parts = [
            np.array(self._library.encode(chunk, add_special_tokens=False).ids, dtype=np.int64) for chunk in cut(text)
        ]
        return (np.concatenate(parts) + self._first if parts else np.zeros(0)).astype(kind)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones left out; bytes that are no UTF-8 are shown as �."""
        return b"".join(self.piece(token) for token in tokens).decode(errors="replace")

    def piece(self, token: int) -> bytes:
        """The bytes of a token in UTF-8, perhaps half a character; none of a special one."""
        return self.pieces[token]

    def spelled(self, tokens: NDArray[Any]) -> NDArray[Any]:
        """The bytes that tokens stand for."""
        return np.frombuffer(b"".join([self.pieces[token] for token in tokens.tolist()]), dtype=np.uint8)

    def shown(self, tokens: Sequence[int]) -> list[str]:
        """A visible form of each token, for the axes of figures; what is no whole character as bytes."""
        return [SPECIALS[token] if token < self._first else _shown(self.pieces[token]) for token in tokens]

    def described(self) -> dict[str, Any]:
        """What the data manifest says of it: its digest stands for all of it."""
        digest = digest_bytes(self.json.encode())
        return {"kind": "bpe", "special": self.special, "vocabulary_size": self.size, "digest": digest}

    def to_plain(self) -> dict[str, Any]:
        return {"kind": "bpe", "special": self.special, "json": self.json}


def train(texts: Iterable[str], vocabulary_size: int, *, special: bool) -> BpeTokenizer:
    """Learn merges from texts: of all pairs of neighbouring tokens the most frequent becomes a token, again and again.

    Among equally frequent pairs the library takes the one whose tokens came first, so neither threads nor hash seeds
    move a token (tested).

    Arguments:
        texts: of the training split.
        vocabulary_size: tokens in all: special ones, 256 bytes, and as many merges as are missing.
        special: as for `BpeTokenizer`.

    Raises:
        DataError: the texts have too few pairs of neighbours for so many tokens.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    library = Tokenizer(BPE())
    library.pre_tokenizer = ByteLevel(add_prefix_space=False)
    own = vocabulary_size - (len(SPECIALS) if special else 0)
    alphabet = ByteLevel.alphabet()
    library.train_from_iterator(
        (chunk for text in texts for chunk in cut(text)),
        BpeTrainer(vocab_size=own, show_progress=False, initial_alphabet=alphabet),
    )
    described = json.loads(library.to_str()) | {"decoder": _BYTE_LEVEL}
    trained = BpeTokenizer(json.dumps(described), special=special)
    if trained.size != vocabulary_size:
        raise DataError(
            f"data.tokenizer: vocabulary_size is {vocabulary_size}, but the training text gives only {trained.size} "
            f"tokens: set it to at most {trained.size}"
        )
    return trained


def read(path: Path, *, special: bool) -> BpeTokenizer:
    """A tokenizer file of the user's.

    Raises:
        DataError: it is missing, damaged, or of another kind than `BpeTokenizer` takes.
    """
    try:
        text = compressed.read(path, _MOST_BYTES).decode()
    except UnicodeDecodeError:
        raise DataError(f"{path}: expected a tokenizer.json, found a file that is no text in UTF-8") from None
    return BpeTokenizer(text, special=special, where=str(path))


def cut(text: str) -> Iterator[str]:
    """A text in chunks whose tokens are, one after the other, those of the text."""
    start = 0
    while start < len(text):
        found = _CUT.search(text, start + _CHUNK)
        end = found.start() if found else len(text)
        yield text[start:end]
        start = end


# --- the file's form -------------------------------------------------------------------------------------------------


def _checked(text: str, where: str) -> dict[str, Any]:
    """The same tokenizer with nothing in it but what was checked.

    What would take a text apart in another way than `cut` supposes, or change it, is refused: a normalizer, another
    pre-tokenizer, marks at the ends of words, merges that are left out at random.
    """
    values = _parsed(text, where)
    model = values["model"]
    plain = {"dropout": None, "continuing_subword_prefix": "", "end_of_word_suffix": "", "byte_fallback": False}
    wrong = [name for name, usual in plain.items() if (model.get(name) or usual) != usual]
    wrong += [name for name in ("normalizer",) if values.get(name) is not None]
    for name in ("pre_tokenizer", "decoder"):
        part = values.get(name)
        settings = {"type": "ByteLevel"} | (_PRE_TOKENIZER if name == "pre_tokenizer" else {})
        if not isinstance(part, dict) or any(part.get(key) != value for key, value in settings.items()):
            wrong.append(name)
    if wrong:
        raise DataError(
            f"{where}: expected byte-level byte-pair encoding in GPT-2's form (pre-tokenizer and decoder ByteLevel, no "
            f"prefix space, no normalizer, no dropout), found another {' and '.join(wrong)}: take char, byte or bpe "
            "as data.tokenizer"
        )
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    if any(not isinstance(merge, list) or list(map(type, merge)) != [str, str] for merge in merges):
        raise DataError(f"{where}: expected merges that are pairs of tokens")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(token, where) for token in values.get("added_tokens") or []],
        "normalizer": None,
        "pre_tokenizer": _BYTE_LEVEL,
        "post_processor": None,
        "decoder": _BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": model.get("ignore_merges") is True,
            "vocab": model["vocab"],
            "merges": merges,
        },
    }


def _parsed(text: str, where: str) -> dict[str, Any]:
    """The file as JSON, with a BPE model that has a vocabulary and merges."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where}: expected a tokenizer.json of the tokenizers library, found no JSON: {error}"
        ) from None
    model = values.get("model") if isinstance(values, dict) else None
    kind = model.get("type") if isinstance(model, dict) else None
    if not isinstance(model, dict) or kind != "BPE":
        raise DataError(f"{where}: expected a tokenizer.json with a model of the type BPE, found {kind!r}")
    if not isinstance(model.get("vocab"), dict) or not isinstance(model.get("merges"), list):
        raise DataError(f"{where}: expected a model with vocab (a mapping) and merges (a list)")
    if not isinstance(values.get("added_tokens") or [], list):
        raise DataError(f"{where}: expected added_tokens to be a list")
    parsed: dict[str, Any] = values
    return parsed


def _added(token: Any, where: str) -> dict[str, Any]:
    """A token that stands for a whole text of its own, such as <|endoftext|>."""
    content, number = (token.get("content"), token.get("id")) if isinstance(token, dict) else (None, None)
    if not isinstance(content, str) or not content or "\n" in content or type(number) is not int:
        raise DataError(f"{where}: expected added tokens with an id and a content of one line, found {token!r}")
    try:
        content.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: the added token {content!r} is no Unicode: half a surrogate pair") from None
    if any(token.get(name) for name in ("lstrip", "rstrip", "single_word")):
        raise DataError(f"{where}: the added token {content!r} takes white space with it, so texts would not come back")
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, **flags, "special": True}


def _pieces(described: dict[str, Any], where: str) -> list[bytes]:
    """The bytes of every token, by its number."""
    table = {character: byte for byte, character in enumerate(byte_characters())}
    found: dict[int, bytes] = {}
    added = {token["id"]: token["content"] for token in described["added_tokens"]}
    if len(added) < len(described["added_tokens"]):
        raise DataError(f"{where}: expected a number of its own for every added token, found one twice")
    for token, number in described["model"]["vocab"].items():
        if type(number) is not int or number in found:
            raise DataError(f"{where}: expected a number of its own for every token, found {token!r}: {number!r}")
        if number in added:
            continue
        if not token or any(character not in table for character in token):
            raise DataError(f"{where}: the token {token!r} is not spelled in the byte-level alphabet")
        found[number] = bytes(table[character] for character in token)
    found |= {number: content.encode() for number, content in added.items()}
    if sorted(found) != list(range(len(found))):
        raise DataError(f"{where}: expected tokens numbered from 0 without a gap, found {len(found)} of other numbers")
    missing = {bytes([byte]) for byte in range(256)} - set(found.values())
    if missing:
        raise DataError(f"{where}: {len(missing)} of the 256 bytes have no token, so some texts could not be encoded")
    return [found[number] for number in range(len(found))]


def _library(text: str, where: str) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingDependency("tokenizers", "byte-pair encoding", extra="recipes") from None
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise DataError(f"{where}: the tokenizers library refuses it: {error}") from None


def byte_characters() -> list[str]:
    """The character that stands for each byte in the library's files: itself if it is visible, else from U+0100 on.

    >>> byte_characters()[ord("a")], byte_characters()[ord(" ")]
    ('a', 'Ġ')
    """
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in seen]
    return [chr(byte if byte in seen else 256 + hidden.index(byte)) for byte in range(256)]


def _shown(piece: bytes) -> str:
    try:
        return "".join(map(visible, piece.decode()))
    except UnicodeDecodeError:
        return piece.hex().upper()
