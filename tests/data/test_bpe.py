"""Byte-pair encoding: learned, read from files, and kept in the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassrun.data import bpe, pairs, recorded, text, tokenizing
from glassrun.data.bpe import BpeTokenizer, byte_characters, cut, train
from glassrun.data.keys import keys_of
from glassrun.data.manifest import manifest_digest
from glassrun.data.tokenizers import SPECIALS, ByteTokenizer, CharTokenizer, Spelling, Tokenizer
from glassrun.errors import DataError
from glassrun.sections.data import Bpe, PairsBpe, PairsData, TextData, TokenizerFile

WORDS = "the glass kiln runs hot; the glass bead runs cold\nand the furnace glows\n\n" * 7
LEARNED = train([WORDS], 290, special=False)


def as_file(changes: dict[str, Any], model: dict[str, Any] | None = None) -> str:
    """A tokenizer that was learned, as its file with something else in it."""
    values = json.loads(LEARNED.json) | changes
    return json.dumps(values | {"model": values["model"] | (model or {})})


# --- learning --------------------------------------------------------------------------------------------------------


def test_the_first_merges_are_the_most_frequent_pairs() -> None:
    """By hand: a-b is in three words; space-a and space-c in two each, c-d in two."""
    learned = train(["ab ab ab cd cd e"], 259, special=False)
    merges = json.loads(learned.json)["model"]["merges"]
    assert merges[0] == ["a", "b"]
    assert learned.pieces[256] == b"ab"
    assert learned.size == 259
    assert learned.pieces[:256] == sorted(learned.pieces[:256], key=lambda piece: byte_characters()[piece[0]])


def test_special_tokens_come_first_and_text_cannot_spell_them() -> None:
    learned = train([WORDS], 294, special=True)
    assert learned.size == 294
    written = "".join(SPECIALS) + "the"
    tokens = learned.encode(written).tolist()
    assert min(tokens) >= 4
    assert learned.decode([0, 1, *tokens, 2, 3]) == written
    assert [token - 4 for token in learned.encode(WORDS).tolist()] == LEARNED.encode(WORDS).tolist()
    assert learned.shown([0, 1, 2, 3]) == list(SPECIALS)
    assert learned.starts[:4].tolist() == [0, 0, 0, 0]


def test_too_small_a_text_says_how_many_tokens_there_are() -> None:
    with pytest.raises(DataError, match="gives only 258 tokens: set it to at most 258"):
        train(["abc"], 300, special=False)


_TIES = """
import hashlib
from glassrun.data.bpe import train
from glassrun.keys import derive
words = ["".join("abcdefgh"[derive(1, w, i) % 8] for i in range(1 + derive(1, w) % 4)) for w in range(900)]
texts = [" ".join(words[i : i + 9]) for i in range(0, 900, 9)]
print(hashlib.sha256(train(texts, 700, special=False).json.encode()).hexdigest())
"""


def test_neither_threads_nor_hash_seeds_move_a_merge() -> None:
    """900 words of up to four of eight letters: most pairs are as frequent as others."""
    found = {
        subprocess.run(
            [sys.executable, "-c", _TIES],
            env=os.environ | {"RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": on, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads, on, seed in (("1", "false", "0"), ("2", "true", "1"), ("7", "true", "2"))
    }
    assert len(found) == 1


# --- encoding --------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.text())
def test_every_text_comes_back(written: str) -> None:
    tokens = LEARNED.encode(written)
    assert LEARNED.decode(tokens.tolist()) == written
    assert LEARNED.spelled(tokens).tobytes() == written.encode()
    assert LEARNED.starts[tokens].sum() == len(written)
    assert len(LEARNED.shown(tokens.tolist())) == len(tokens)


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["the", "glass", " ", "\n", "\n\n", "\r\n", "\x1c", "\u2028", "'s", "é", "7", "!"])))
def test_a_text_in_chunks_has_the_tokens_of_the_text(parts: list[str]) -> None:
    written = "".join(parts)
    whole = LEARNED.encode(written).tolist()
    before = bpe._CHUNK
    bpe._CHUNK = 3
    try:
        assert "".join(cut(written)) == written
        assert LEARNED.encode(written).tolist() == whole
    finally:
        bpe._CHUNK = before


def test_line_breaks_side_by_side_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    learned = train(["glass\n\n\nruns\n\n\n" * 20], 260, special=False)
    assert b"\n\n" in learned.pieces
    written = "glass\n\n\nruns\n\n\n" * 9
    whole = learned.encode(written).tolist()
    for size in range(1, 9):
        monkeypatch.setattr(bpe, "_CHUNK", size)
        assert len(list(cut(written))) > 1
        assert learned.encode(written).tolist() == whole


def test_a_long_text_is_cut() -> None:
    chunks = list(cut("a line\n" * 30_000))
    assert max(map(len, chunks)) <= bpe._CHUNK + len("a line\n")
    assert all(chunk.startswith("\n") for chunk in chunks[1:])


@pytest.mark.parametrize("special", [False, True])
def test_the_plain_form_gives_the_same_tokenizer(special: bool) -> None:
    learned = BpeTokenizer(LEARNED.json, special=special)
    again = tokenizing.from_plain(json.loads(json.dumps(learned.to_plain())))
    assert again.to_plain() == learned.to_plain()
    assert again.described() == learned.described()
    assert again.encode(WORDS).tolist() == learned.encode(WORDS).tolist()


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(DataError, match="half a surrogate pair at character 1"):
        LEARNED.encode("a\udcff")


def test_shown_tokens_are_visible() -> None:
    tokens = [LEARNED.pieces.index(piece) for piece in (b" the", b"\n", b"\xc3")]
    assert LEARNED.shown(tokens) == ["␣the", "↵", "C3"]


@settings(max_examples=40)
@given(st.lists(st.integers(0, 255)), st.sampled_from(["byte", "bpe"]))
def test_no_half_character_is_spelled(data: list[int], kind: str) -> None:
    """Whatever bytes come, what was spelled and the end are the decoded text."""
    tokenizer: Tokenizer = ByteTokenizer(special=False) if kind == "byte" else LEARNED
    tokens = data if kind == "byte" else [LEARNED.pieces.index(bytes([byte])) for byte in data]
    spelling = Spelling(tokenizer)
    parts = [spelling.add(token) for token in tokens]
    assert "".join(parts) + spelling.end() == tokenizer.decode(tokens)


def test_spelling_waits_for_a_whole_character() -> None:
    spelling = Spelling(LEARNED)
    parts = [spelling.add(token) for token in LEARNED.encode("é€").tolist()]
    assert [part for part in parts if part] == ["é", "€"]
    assert "".join(map(Spelling(CharTokenizer("aé", special=True)).add, [1, 4, 5, 2])) == "aé"


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_read_as_what_it_says(tmp_path: Path) -> None:
    """Other white space, merges as texts, truncation: the tokens, and what the manifest says, stay."""
    values = json.loads(LEARNED.json)
    values["model"]["merges"] = [" ".join(merge) for merge in values["model"]["merges"]]
    values["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(values, indent=3), encoding="utf-8")
    found = bpe.read(tmp_path / "tokenizer.json", special=False)
    assert found.described() == LEARNED.described()
    assert found.encode(WORDS).tolist() == LEARNED.encode(WORDS).tolist()


def test_the_library_itself_gives_the_same_tokens() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    library = tokenizers.Tokenizer.from_str(LEARNED.json)
    written = WORDS * 3 + "é€ 12 'tis"
    assert library.encode(written).ids == LEARNED.encode(written).tolist()
    assert library.decode(LEARNED.encode(written).tolist()) == written


def test_an_added_token_stands_for_its_text() -> None:
    added = {"id": 290, "content": "<|end|>", "lstrip": False, "rstrip": False, "single_word": False, "special": True}
    found = BpeTokenizer(as_file({"added_tokens": [added]}), special=False)
    tokens = found.encode("the<|end|>glass").tolist()
    assert tokens.count(290) == 1
    assert found.decode(tokens) == "the<|end|>glass"


TOKEN = {"id": 290, "content": "<|end|>", "special": True}
REFUSED = {
    "no JSON": ("{", "found no JSON"),
    "deep": ("[" * 100_000, "found no JSON"),
    "a list": ("[]", "a model of the type BPE, found None"),
    "another model": (as_file({}, {"type": "WordPiece"}), "found 'WordPiece'"),
    "no merges": (as_file({}, {"merges": None}), "vocab .* and merges"),
    "a normalizer": (as_file({"normalizer": {"type": "NFC"}}), "another normalizer"),
    "no pre-tokenizer": (as_file({"pre_tokenizer": None}), "another pre_tokenizer"),
    "a prefix space": (as_file({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}), "pre_tokenizer"),
    "another decoder": (as_file({"decoder": {"type": "WordPiece"}}), "another decoder"),
    "dropout": (as_file({}, {"dropout": 0.1}), "another dropout"),
    "ends of words": (as_file({}, {"end_of_word_suffix": "</w>"}), "another end_of_word_suffix"),
    "odd merges": (as_file({}, {"merges": [["a"]]}), "pairs of tokens"),
    "merges of what is not there": (as_file({}, {"merges": [["a", "qqq"]]}), "refuses it"),
    "a gap": (as_file({"added_tokens": [TOKEN | {"id": 400}]}), "without a gap"),
    "a number that is none": (as_file({}, {"vocab": {"a": True}}), "a number of its own"),
    "a number twice": (as_file({}, {"vocab": {"a": 1, "b": 1}}), "a number of its own"),
    "bytes that are missing": (as_file({}, {"vocab": {"a": 0}, "merges": []}), "255 of the 256 bytes"),
    "another alphabet": (as_file({}, {"vocab": {"▁the": 0}, "merges": []}), "byte-level alphabet"),
    "a token that takes white space": (as_file({"added_tokens": [TOKEN | {"lstrip": True}]}), "takes white space"),
    "half a character": (as_file({"added_tokens": [TOKEN | {"content": "\ud800"}]}), "half a surrogate pair"),
    "one number twice": (as_file({"added_tokens": [TOKEN, TOKEN | {"content": "<|b|>"}]}), "found one twice"),
    "a token of two lines": (as_file({"added_tokens": [TOKEN | {"content": "a\nb"}]}), "of one line"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused(name: str, tmp_path: Path) -> None:
    content, match = REFUSED[name]
    path = tmp_path / "tokenizer.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=rf"tokenizer\.json: .*{match}"):
        bpe.read(path, special=False)


def test_a_missing_file_and_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for name, match in (("nothing", "expected a file, found nothing"), ("bytes", "no text in UTF-8")):
        with pytest.raises(DataError, match=match):
            bpe.read(tmp_path / name, special=False)


# --- as a recipe's tokenizer -----------------------------------------------------------------------------------------


def load_text(path: Path, tokenizer: Any, known: recorded.Recorded | None = None, **fields: Any) -> Any:
    return text.load(TextData(source="text", path=str(path), tokenizer=tokenizer, context=5, **fields), 1, known)


def header_of(dataset: Any) -> dict[str, Any]:
    """What a run writes down of its data."""
    plain = json.loads(json.dumps(dataset.encoding.to_plain()))
    return {"encoding": plain, "data": dataset.manifest, "data_digest": manifest_digest(dataset.manifest)}


@pytest.fixture
def words(tmp_path: Path) -> Path:
    # The last tenth has a word of its own.
    (tmp_path / "words.txt").write_text(WORDS + "zzqq " * 10, encoding="utf-8")
    return tmp_path / "words.txt"


def test_merges_are_learned_from_the_training_part_alone(words: Path) -> None:
    dataset = load_text(words, Bpe(kind="bpe", vocabulary_size=290))
    assert b"zz" not in dataset.encoding.tokenizer.pieces
    assert dataset.facts["vocabulary_size"] == 290
    whole = words.read_text(encoding="utf-8")
    kept = len(whole) - len(whole) // 10
    decoded = {name: dataset.encoding.tokenizer.decode(split.tokens.tolist()) for name, split in dataset.splits.items()}
    assert decoded == {"train": whole[:kept], "validation": whole[kept:]}
    assert dataset.manifest["rule"] == "the last tenth of the characters for validation"
    assert "json" not in json.dumps(dataset.manifest)


def test_keys_are_those_of_the_bytes_whatever_the_tokens(words: Path) -> None:
    parts = {"validation": str(words)}
    by_byte, by_bpe = (load_text(words, t, **parts) for t in ("byte", Bpe(kind="bpe", vocabulary_size=290)))
    assert keys_of(by_byte.splits) == keys_of(by_bpe.splits)


def test_a_run_takes_its_own_tokenizer_and_learns_none(words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Bpe(kind="bpe", vocabulary_size=290)
    first = load_text(words, chosen)
    known = recorded.of_run(header_of(first), "run")
    monkeypatch.setattr(bpe, "train", None)
    again = load_text(words, chosen, known)
    assert manifest_digest(again.manifest) == manifest_digest(first.manifest)
    words.write_text(words.read_text(encoding="utf-8").replace("hot", "cot", 1), encoding="utf-8")
    changed = load_text(words, chosen, known)
    assert changed.encoding.tokenizer.described() == first.encoding.tokenizer.described()
    assert manifest_digest(changed.manifest) != manifest_digest(first.manifest)


def test_a_file_need_not_be_there_again(words: Path, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(LEARNED.json, encoding="utf-8")
    chosen = TokenizerFile(kind="file", path=str(path))
    first = load_text(words, chosen)
    path.unlink()
    again = load_text(words, chosen, recorded.of_run(header_of(first), "run"))
    assert manifest_digest(again.manifest) == manifest_digest(first.manifest)


def test_a_changed_tokenizer_is_refused(words: Path) -> None:
    header = header_of(load_text(words, Bpe(kind="bpe", vocabulary_size=290)))
    assert recorded.of_run(header, "run") is not None
    assert recorded.of_run({}, "run") is None
    merges = json.loads(header["encoding"]["tokenizer"]["json"])
    merges["model"]["merges"].pop()
    encoding = header["encoding"] | {"tokenizer": header["encoding"]["tokenizer"] | {"json": json.dumps(merges)}}
    with pytest.raises(DataError, match="its tokenizer is not the one that the run began with"):
        recorded.of_run(header | {"encoding": encoding}, "run")
    with pytest.raises(DataError, match="its tokenizer is not the one"):
        recorded.of_run(header | {"data_digest": "0" * 32}, "run")


@pytest.mark.parametrize("shared", [False, True])
def test_pairs_have_a_vocabulary_each_or_one(tmp_path: Path, shared: bool) -> None:
    rows = [(f"the glass {number} runs", f"das glas {number} rennt") for number in range(60)]
    for side in (0, 1):
        (tmp_path / f"{side}").write_text("\n".join(row[side] for row in rows), encoding="utf-8")
    section = PairsData(
        source="pairs",
        path=f"{tmp_path}/0,{tmp_path}/1",
        tokenizer=PairsBpe(kind="bpe", vocabulary_size=280, shared=shared),
        max_length=40,
    )
    dataset = pairs.load(section)
    source, target = dataset.encoding.source, dataset.encoding.target
    assert (source is target) == shared
    assert (b" das" in source.pieces or b"das" in source.pieces) == shared
    assert dataset.facts["source_vocabulary_size"] == dataset.facts["target_vocabulary_size"] == 280
    pair = dataset.splits["train"].pairs[0]
    example = dataset.splits["train"].example(0, 1)
    assert source.decode(example["source"].tolist()) == pair[0]
    assert target.decode(example["target"].tolist()) == pair[1]
    assert manifest_digest(pairs.load(section, recorded.of_run(header_of(dataset), "run")).manifest) == manifest_digest(
        dataset.manifest
    )
    longest = max(len(dataset.encoding.encode_source(pair[0])) for pair in dataset.splits["train"].pairs)
    shorter = pairs.load(section.model_copy(update={"max_length": longest - 1}))
    assert shorter.manifest["left_out"]["train"] > 0
    assert all(len(dataset.encoding.encode_source(pair[0])) < longest for pair in shorter.splits["train"].pairs)


def test_bits_per_character_are_of_characters(words: Path) -> None:
    """Every character but those of the first token begins in exactly one target."""
    from glassrun.tasks.language_model import LanguageModelling

    words.write_text(WORDS + "é€ glüht " * 20, encoding="utf-8")
    dataset = load_text(words, Bpe(kind="bpe", vocabulary_size=290), validation=str(words))
    task, split = LanguageModelling(dataset), dataset.splits["validation"]
    batch = task.collate([split.example(index, 0) for index in range(len(split))])
    first = dataset.encoding.tokenizer.decode(split.tokens[:1].tolist())
    assert task._characters(batch["targets"]) == len(words.read_text(encoding="utf-8")) - len(first)
    assert task.count(batch) == len(split.tokens) - 1
    assert np.array_equal(dataset.encoding.tokenizer.encode(words.read_text(encoding="utf-8")), split.tokens)
