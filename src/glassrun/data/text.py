"""Text for language models: a file of the user's, or Python's own reference topics; in windows of a fixed length."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassrun.data import compressed, tokenizing
from glassrun.data.encoding import TextEncoding
from glassrun.data.manifest import file_digests, manifest
from glassrun.data.recorded import Recorded
from glassrun.data.source import IGNORED, Dataset, Split
from glassrun.data.splits import content_key
from glassrun.data.tokenizers import CharTokenizer, Tokenizer
from glassrun.errors import ConfigError, DataError
from glassrun.keys import derive
from glassrun.sections.data import HubText, PythonTopicsData, TextData

_TAIL = 10  # the last tenth
_THE_LAST_TENTH = "the last tenth of the"
_LONGEST_LINE = 1000  # code points or bytes; some texts are one line as a whole


@dataclass(frozen=True)
class TrainingWindows:
    """Windows of a text, side by side without a gap, that start at another offset in every epoch.

    So every epoch is cut at other places and has the same number of windows; no token is seen twice in one, and what is
    left out at the ends (fewer than two windows) is another part in each.

    Arguments:
        tokens: of the text.
        context: tokens in a window; each predicts the one after it.
        seed: of the run.
        tokenizer: what made the tokens; None where they are bytes.
    """

    tokens: NDArray[Any]
    context: int
    seed: int
    tokenizer: Tokenizer | None = None

    def __len__(self) -> int:
        return max((len(self.tokens) - self.context) // self.context, 1)

    def offset(self, epoch: int) -> int:
        """Where the first window of an epoch starts; keyed by (seed, epoch)."""
        room = len(self.tokens) - 1 - len(self) * self.context
        return derive(self.seed, "window", epoch) % (room + 1)

    def key(self, index: int) -> bytes:
        return content_key(self._window(index, 0).astype("<i8").tobytes())

    def example(self, index: int, epoch: int) -> Mapping[str, Any]:
        window = self._window(index, self.offset(epoch)).astype(np.int64)
        return {"inputs": window[:-1], "targets": window[1:]}

    def keys(self) -> list[bytes]:
        return line_keys(_spelled(self.tokens, self.tokenizer))

    def line(self, index: int) -> str:
        """Where a line of those that `keys` counts begins and ends; behind the last, where the text ends."""
        return _place(_spelled(self.tokens, self.tokenizer), self.tokenizer, index)

    def digest(self) -> str:
        return _digest(self.tokens)

    def _window(self, index: int, offset: int) -> NDArray[Any]:
        start = offset + index * self.context
        return self.tokens[start : start + self.context + 1]


@dataclass(frozen=True)
class EvaluationWindows:
    """Windows of a text, side by side, that predict every token but the first exactly once; the last may be short."""

    tokens: NDArray[Any]
    context: int
    tokenizer: Tokenizer | None = None

    def __len__(self) -> int:
        return -(-(len(self.tokens) - 1) // self.context)

    def key(self, index: int) -> bytes:
        return content_key(self._window(index).astype("<i8").tobytes())

    def example(self, index: int, epoch: int) -> Mapping[str, Any]:  # noqa: ARG002 - the same in every epoch
        window = self._window(index).astype(np.int64)
        # What stands after the end of a causal model's input moves nothing before it, and is not counted.
        inputs = np.zeros(self.context, dtype=np.int64)
        targets = np.full(self.context, IGNORED, dtype=np.int64)
        inputs[: len(window) - 1], targets[: len(window) - 1] = window[:-1], window[1:]
        return {"inputs": inputs, "targets": targets}

    def keys(self) -> list[bytes]:
        return line_keys(_spelled(self.tokens, self.tokenizer))

    def line(self, index: int) -> str:
        """Where a line of those that `keys` counts begins and ends; behind the last, where the text ends."""
        return _place(_spelled(self.tokens, self.tokenizer), self.tokenizer, index)

    def digest(self) -> str:
        return _digest(self.tokens)

    def _window(self, index: int) -> NDArray[Any]:
        start = index * self.context
        return self.tokens[start : start + self.context + 1]


def load(section: TextData, seed: int, recorded: Recorded | None = None) -> Dataset:
    """A text file (gzip too): its last tenth for validation, or files of their own for validation and test.

    Raises:
        DataError: a file is missing, empty, too short or no UTF-8.
    """
    assert section.path is not None, "checked by the recipe"
    places = {"train": section.path, "validation": section.validation, "test": section.test}
    texts = {name: read_text(Path(place)) for name, place in places.items() if place is not None}
    files = file_digests(Path(place) for place in places.values() if place is not None)
    official = section.validation is not None
    if section.split == "official" and not official:
        raise ConfigError("data.split is official, but data.validation is not given")
    if section.split == "tail" and official:
        raise ConfigError("data.split: tail would ignore data.validation; leave one of them out")
    return windows(section, texts, seed, recorded, source=section.source, where=section.path, files=files)


def load_python_topics(section: PythonTopicsData, seed: int, recorded: Recorded | None = None) -> Dataset:
    """The reference topics that `help()` shows, in the order of their names; they change with the version of Python."""
    from pydoc_data.topics import topics

    text = "\n".join(f"{name}\n{'=' * len(name)}\n\n{topics[name].strip()}\n" for name in sorted(topics))
    return windows(
        section,
        {"train": text},
        seed,
        recorded,
        source=section.source,
        where="pydoc_data.topics",
        versions={"python": platform.python_version()},
    )


def read_text(path: Path) -> str:
    """A text file in UTF-8, gzip too; line ends stay as they are, a byte order mark at the start goes.

    Raises:
        DataError: it is missing, empty, damaged or no UTF-8.
    """
    data = compressed.read(path)
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected text in UTF-8, found the byte 0x{data[error.start]:02x} at offset {error.start}: "
            "convert it, for example with iconv -f LATIN1 -t UTF-8"
        ) from None
    if not text.strip():
        raise DataError(f"{path}: expected a text, found {'nothing but white space' if text else 'an empty file'}")
    return text


def windows(
    section: TextData | PythonTopicsData | HubText,
    texts: dict[str, str],
    seed: int,
    recorded: Recorded | None,
    *,
    source: str,
    where: str,
    files: Mapping[str, str] | None = None,
    versions: Mapping[str, str] | None = None,
) -> Dataset:
    """The texts of all parts as a data set: tokens, cut into windows.

    Arguments:
        section: of the recipe.
        texts: of the train part, and of validation and test if they are there.
        seed: of the run.
        recorded: what the run says of its data, if it has begun.
        source: its name.
        where: names the text in errors.
        files, versions: where the texts came from, for the manifest.

    Raises:
        DataError: a part is too short.
    """
    tokenizer, parts, rule = _tokens(section, texts, recorded)
    for name, tokens in parts.items():
        least = section.context + 1 if name == "train" else 2
        if len(tokens) < least:
            raise DataError(
                f"{where}: too short: the {name} part has {len(tokens)} tokens, expected at least {least} "
                f"(data.context is {section.context})"
            )
    splits: dict[str, Split] = {
        name: TrainingWindows(parts[name], section.context, seed, tokenizer)
        if name == "train"
        else EvaluationWindows(parts[name], section.context, tokenizer)
        for name in ("train", "validation", "test")
        if name in parts
    }
    described = manifest(
        source,
        splits=splits,
        rule=rule,
        preprocessing=[{"step": "tokenize"} | tokenizer.described(), {"step": "windows", "context": section.context}],
        files=files,
        versions=versions,
    )
    facts = {"vocabulary_size": tokenizer.size, "max_length": section.context}
    return Dataset(splits, described, facts, TextEncoding(tokenizer, section.context))


def _tokens(
    section: TextData | PythonTopicsData | HubText, texts: dict[str, str], recorded: Recorded | None
) -> tuple[Tokenizer, dict[str, NDArray[Any]], str]:
    """The tokenizer, the tokens of each part, and in words how the parts follow."""
    if isinstance(section.tokenizer, str):
        tokenizer = tokenizing.make(section.tokenizer, list(texts.values()), special=False, recorded=None)
        parts = {name: tokenizer.encode(text) for name, text in texts.items()}
        if "validation" in parts:
            return tokenizer, parts, "official"
        train, validation = _without_tail(parts["train"])
        return tokenizer, parts | {"train": train, "validation": validation}, f"{_THE_LAST_TENTH} tokens for validation"
    rule = "official"
    if "validation" not in texts:  # cut before there are tokens, for they are learned from the training part alone
        train, validation = _without_tail(texts["train"])
        texts, rule = texts | {"train": train, "validation": validation}, f"{_THE_LAST_TENTH} characters for validation"
    known = recorded.encoding.tokenizer if recorded and isinstance(recorded.encoding, TextEncoding) else None
    tokenizer = tokenizing.make(section.tokenizer, [texts["train"]], special=False, recorded=known)
    return tokenizer, {name: tokenizer.encode(text) for name, text in texts.items()}, rule


def _without_tail(whole: Any) -> tuple[Any, Any]:
    """A sequence without its last tenth, and that."""
    cut = len(whole) - len(whole) // _TAIL
    return whole[:cut], whole[cut:]


def line_starts(values: NDArray[Any]) -> list[int]:
    """Where the lines of a text begin, and its end; a very long line counts as several."""
    starts = [0]
    for end in [*(np.flatnonzero(values == ord("\n")) + 1).tolist(), len(values)]:
        starts += range(starts[-1] + _LONGEST_LINE, end, _LONGEST_LINE)
        if end > starts[-1]:
            starts.append(end)
    return starts


def line_keys(values: NDArray[Any]) -> list[bytes]:
    """The key of every line of a text, given as code points or bytes: no vocabulary and no context is in it."""
    data = values.astype("<u4").tobytes()
    return [content_key(data[4 * start : 4 * end]) for start, end in pairwise(line_starts(values))]


def _spelled(tokens: NDArray[Any], tokenizer: Tokenizer | None) -> NDArray[Any]:
    """The code points or bytes that tokens stand for, whatever number the vocabulary gives them."""
    return tokens if tokenizer is None else tokenizer.spelled(tokens)


def _place(spelled: NDArray[Any], tokenizer: Tokenizer | None, index: int) -> str:
    starts = line_starts(spelled)
    start, end = starts[index], starts[min(index + 1, len(starts) - 1)]
    return f"{'characters' if isinstance(tokenizer, CharTokenizer) else 'bytes'} {start:,} to {end:,}"


def _digest(tokens: NDArray[Any]) -> str:
    """The digest of a text's tokens, whatever type holds them."""
    digest = hashlib.blake2b(digest_size=16)
    for start in range(0, len(tokens), 2**20):
        digest.update(tokens[start : start + 2**20].astype("<u4").tobytes())
    return digest.hexdigest()
