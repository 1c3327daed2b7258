"""Pairs of a text and its translation, and the parallel files of the user's that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassrun.data import tokenizing
from glassrun.data.encoding import PairEncoding
from glassrun.data.manifest import file_digests, manifest
from glassrun.data.recorded import Recorded
from glassrun.data.source import Dataset
from glassrun.data.splits import SHARES, WITHOUT_TEST, by_hash, content_key, digest_of_keys
from glassrun.data.text import read_text
from glassrun.data.tokenizers import PADDING, ByteTokenizer, CharTokenizer, Tokenizer
from glassrun.errors import ConfigError, DataError
from glassrun.sections.data import HubPairs, PairsBpe, PairsData

Pair = tuple[str, str]


@dataclass(frozen=True)
class Pairs:
    """A split of pairs, encoded when they are asked for.

    Arguments:
        pairs: a source and a target each.
        encoding: of both sides.
        lengths: of each pair, the tokens of its target and of its source.
    """

    pairs: Sequence[Pair]
    encoding: PairEncoding
    lengths: Sequence[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.pairs)

    def key(self, index: int) -> bytes:
        return pair_key(self.pairs[index])

    def example(self, index: int, epoch: int) -> Mapping[str, Any]:  # noqa: ARG002 - the same in every epoch
        source, target = self.pairs[index]
        return {"source": self.encoding.encode_source(source), "target": self.encoding.encode_target(target)}

    def length(self, index: int) -> tuple[int, int]:
        """How long an example is, the side that costs more first."""
        return self.lengths[index]

    def keys(self) -> list[bytes]:
        return [pair_key(pair) for pair in self.pairs]

    def digest(self) -> str:
        return digest_of_keys(self.keys())


def pair_key(pair: Pair) -> bytes:
    """What a pair is: both its texts."""
    return content_key(pair[0].encode(), pair[1].encode())


def load(section: PairsData, recorded: Recorded | None = None) -> Dataset:
    """Two parallel files, a line each; split by a hash of the source line, or into files of their own.

    The hash is over the source alone, so that a sentence with two translations lies in one split.

    Raises:
        DataError: a file is missing, damaged or empty, or two files have different numbers of lines.
    """
    assert section.path is not None, "checked by the recipe"
    places = {"train": section.path, "validation": section.validation, "test": section.test}
    given = {name: _two_files(place, name) for name, place in places.items() if place is not None}
    read = {name: _read(*paths) for name, paths in given.items()}
    files = file_digests(path for paths in given.values() for path in paths)
    parts, rule = _split(section, read)
    return dataset(section, parts, rule, recorded, source=section.source, where=section.path, files=files)


def dataset(
    section: PairsData | HubPairs,
    parts: dict[str, list[Pair]],
    rule: str,
    recorded: Recorded | None,
    *,
    source: str,
    where: str,
    files: Mapping[str, str] | None = None,
    versions: Mapping[str, str] | None = None,
) -> Dataset:
    """Pairs as a data set.

    Arguments:
        section: of the recipe.
        parts: the pairs of train, and of validation and test if they are there.
        rule: how the parts follow.
        recorded: what the run says of its data, if it has begun.
        source: its name.
        where: names the pairs in errors.
        files, versions: where they came from, for the manifest.

    Raises:
        DataError: no training pair is there, or is short enough.
    """
    if not parts.get("train"):
        raise DataError(f"{where}: too few pairs: none fell into the training split")
    if section.lowercase:
        parts = {name: [(source.lower(), target.lower()) for source, target in part] for name, part in parts.items()}
    encoding = PairEncoding(*_tokenizers(section, parts["train"], recorded), section.max_length, section.lowercase)
    splits, left_out = fitting(parts, encoding)
    if not splits["train"]:
        raise DataError(f"{where}: every training pair is longer than data.max_length {section.max_length}")
    described = manifest(
        source,
        splits=splits,
        rule=rule,
        preprocessing=preprocessing(encoding),
        files=files,
        versions=versions,
        left_out=left_out,
    )
    return Dataset(splits, described, facts(encoding), encoding)


def facts(encoding: PairEncoding) -> dict[str, int]:
    """What a model of pairs must know."""
    return {
        "source_vocabulary_size": encoding.source.size,
        "target_vocabulary_size": encoding.target.size,
        "max_length": encoding.max_length,
        "padding_token": PADDING,
    }


def preprocessing(encoding: PairEncoding) -> list[dict[str, Any]]:
    """The steps from a pair to the model's input, for the manifest."""
    return [
        *([{"step": "lower case"}] if encoding.lowercase else []),
        {"step": "tokenize source"} | encoding.source.described(),
        {"step": "tokenize target"} | encoding.target.described(),
        {"step": "leave out longer pairs", "max_length": encoding.max_length},
    ]


def fitting(parts: Mapping[str, Sequence[Pair]], encoding: PairEncoding) -> tuple[dict[str, Pairs], dict[str, int]]:
    """The pairs of each split that are no longer than the model can take, and how many were left out."""
    splits, left_out = {}, {}
    for name, pairs in parts.items():
        measured = [(pair, _length(pair, encoding)) for pair in pairs]
        # with the end on the source, and begin or end on the target's inputs and outputs
        fits = [(pair, length) for pair, length in measured if 1 + max(length) <= encoding.max_length]
        if fits or name == "train":
            splits[name] = Pairs([pair for pair, _ in fits], encoding, [length for _, length in fits])
        left_out[name] = len(pairs) - len(fits)
    return splits, left_out


def _length(pair: Pair, encoding: PairEncoding) -> tuple[int, int]:
    """The tokens of the target and of the source."""
    return _tokens_in(pair[1], encoding.target), _tokens_in(pair[0], encoding.source)


def _tokens_in(text: str, tokenizer: Tokenizer) -> int:
    """How many tokens a text has; of characters and bytes without encoding it, for there may be millions of texts."""
    if isinstance(tokenizer, CharTokenizer):
        return len(text)
    return len(text.encode()) if isinstance(tokenizer, ByteTokenizer) else len(tokenizer.encode(text))


def _two_files(place: str, split: str) -> tuple[Path, Path]:
    source, comma, target = place.partition(",")
    if not comma or not source.strip() or not target.strip():
        key = "path" if split == "train" else split
        raise ConfigError(f"data.{key}: expected two files, SOURCE,TARGET, found {place!r}")
    return Path(source.strip()), Path(target.strip())


def _read(source: Path, target: Path) -> list[Pair]:
    """The lines of two files, paired.

    Raises:
        DataError: their numbers differ, or a line is empty on one side.
    """
    sides = [[line.strip() for line in _lines(path)] for path in (source, target)]
    if len(sides[0]) != len(sides[1]):
        raise DataError(
            f"{source} has {len(sides[0])} lines, but {target} {len(sides[1])}: "
            "parallel files have one line for each pair"
        )
    pairs = []
    for number, pair in enumerate(zip(*sides, strict=True), start=1):
        if bool(pair[0]) != bool(pair[1]):
            empty, other = (target, source) if pair[0] else (source, target)
            raise DataError(f"{empty}: line {number} is empty, but that of {other} is not")
        if pair[0]:
            pairs.append(pair)
    return pairs


def _lines(path: Path) -> list[str]:
    # Not splitlines: it also cuts at U+2028 and its like, which stand inside sentences of real files.
    text = read_text(path)
    if "\r" in text and "\n" not in text:
        raise DataError(
            f"{path}: expected lines that end in \\n or \\r\\n, found {text.count(chr(13))} that end in \\r alone: "
            "convert the file"
        )
    return text.removesuffix("\n").split("\n")


def _split(section: PairsData, given: dict[str, list[Pair]]) -> tuple[dict[str, list[Pair]], str]:
    """The pairs of every split, and the rule in words."""
    official = len(given) > 1
    if section.split == "hash" and official:
        raise ConfigError("data.split: hash would ignore data.validation and data.test; leave one of them out")
    if section.split == "official" and not official:
        raise ConfigError("data.split is official, but neither data.validation nor data.test is given")
    if "validation" in given:
        return given, "official"
    return without_validation(given)


def without_validation(given: dict[str, list[Pair]]) -> tuple[dict[str, list[Pair]], str]:
    """Parts among which no validation is, with one cut off by a hash of the source, and test, too, if it is not there;
    and the rule in words."""
    pairs = given["train"]
    keys = [content_key(source.encode()) for source, _ in pairs]
    cut = by_hash(keys, WITHOUT_TEST if "test" in given else SHARES)
    own = {name: [pairs[index] for index in chosen] for name, chosen in cut.items() if len(chosen)}
    if "test" in given:
        return own | {"test": given["test"]}, "official test; validation by hash of the source, 90/10"
    return own, "hash of the source, 80/10/10"


def _tokenizers(
    section: PairsData | HubPairs, train: Sequence[Pair], recorded: Recorded | None
) -> tuple[Tokenizer, Tokenizer]:
    """The tokenizers of source and target, from the training pairs; one for both where their vocabulary is shared."""
    known = recorded.encoding if recorded and isinstance(recorded.encoding, PairEncoding) else None
    sides = [pair[0] for pair in train], [pair[1] for pair in train]
    if isinstance(section.tokenizer, PairsBpe) and section.tokenizer.shared:
        shared = tokenizing.make(
            section.tokenizer, [*sides[0], *sides[1]], special=True, recorded=known.source if known else None
        )
        return shared, shared
    return (
        tokenizing.make(section.tokenizer, sides[0], special=True, recorded=known.source if known else None),
        tokenizing.make(section.tokenizer, sides[1], special=True, recorded=known.target if known else None),
    )
