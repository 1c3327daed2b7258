"""Texts in windows."""

from __future__ import annotations

import gzip
import platform
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glassrun.data import compressed, text
from glassrun.data.source import IGNORED, Dataset
from glassrun.data.text import EvaluationWindows, TrainingWindows
from glassrun.errors import ConfigError, DataError
from glassrun.sections.data import PythonTopicsData, TextData

PROPERTY = settings(max_examples=30, deadline=None, database=None, derandomize=True)
LENGTHS = st.integers(1, 13).flatmap(lambda context: st.tuples(st.just(context), st.integers(context + 1, 200)))


def load(path: object, **fields: object) -> Dataset:
    return text.load(TextData(source="text", path=str(path), **fields), 1)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def targets_of(windows: TrainingWindows, epoch: int) -> list[int]:
    return [token for index in range(len(windows)) for token in windows.example(index, epoch)["targets"].tolist()]


# --- training windows ------------------------------------------------------------------------------------------------


@PROPERTY
@given(sizes=LENGTHS, seed=st.integers(0, 99), epoch=st.integers(1, 9))
@example(sizes=(4, 5), seed=0, epoch=1)
@example(sizes=(4, 8), seed=0, epoch=1)
@example(sizes=(1, 2), seed=0, epoch=1)
def test_training_windows_lie_side_by_side_without_a_gap(sizes: tuple[int, int], seed: int, epoch: int) -> None:
    context, length = sizes
    windows = TrainingWindows(np.arange(length), context, seed)
    offset = windows.offset(epoch)
    assert offset >= 0
    targets = targets_of(windows, epoch)
    assert targets == list(range(offset + 1, offset + 1 + len(windows) * context))
    assert targets[-1] < length
    for index in range(len(windows)):
        found = windows.example(index, epoch)
        assert found["inputs"].tolist() == [token - 1 for token in found["targets"].tolist()]
        assert len(found["inputs"]) == context
        assert found["inputs"].dtype == found["targets"].dtype == np.int64


@PROPERTY
@given(sizes=LENGTHS, seed=st.integers(0, 99))
def test_an_epoch_leaves_out_less_than_two_windows(sizes: tuple[int, int], seed: int) -> None:
    context, length = sizes
    windows = TrainingWindows(np.arange(length), context, seed)
    assert length - 1 - len(windows) * context < 2 * context


@PROPERTY
@given(sizes=LENGTHS, seed=st.integers(0, 99))
@example(sizes=(13, 51), seed=0)
def test_over_many_epochs_every_token_but_the_first_is_predicted(sizes: tuple[int, int], seed: int) -> None:
    """A token that no epoch reaches is training data that is paid for and never used."""
    context, length = sizes
    windows = TrainingWindows(np.arange(length), context, seed)
    seen: set[int] = set()
    for epoch in range(1, 40 * context):  # an offset stays away this long with a chance of e^−40
        seen.update(targets_of(windows, epoch))
    assert seen == set(range(1, length))


def test_the_offset_differs_by_epoch_and_by_seed() -> None:
    tokens = np.arange(1000)
    by_epoch = [TrainingWindows(tokens, 64, 1).offset(epoch) for epoch in range(1, 30)]
    by_seed = [TrainingWindows(tokens, 64, seed).offset(1) for seed in range(1, 30)]
    assert len(set(by_epoch)) > 15
    assert len(set(by_seed)) > 15
    assert by_epoch == [TrainingWindows(tokens, 64, 1).offset(epoch) for epoch in range(1, 30)]


def test_keys_are_of_content_and_digests_of_all_tokens() -> None:
    windows = TrainingWindows(np.arange(40, dtype=np.uint8), 4, 1)
    assert len({windows.key(index) for index in range(len(windows))}) == len(windows)
    assert windows.key(1) == TrainingWindows(np.arange(4, 30, dtype=np.int64), 4, 9).key(0)  # neither type nor seed
    assert windows.digest() == TrainingWindows(np.arange(40, dtype=np.int64), 4, 1).digest()
    assert windows.digest() != TrainingWindows(np.arange(41), 4, 1).digest()
    assert windows.digest() == EvaluationWindows(np.arange(40), 7).digest()


# --- evaluation windows ----------------------------------------------------------------------------------------------


@PROPERTY
@given(context=st.integers(1, 13), length=st.integers(2, 100))
@example(context=4, length=2)
@example(context=4, length=9)
@example(context=4, length=10)
def test_evaluation_windows_predict_every_token_but_the_first_exactly_once(context: int, length: int) -> None:
    windows = EvaluationWindows(np.arange(length), context)
    counts = np.zeros(length, dtype=int)
    for index in range(len(windows)):
        found = windows.example(index, epoch=index)
        assert found["inputs"].shape == found["targets"].shape == (context,)
        real = found["targets"] != IGNORED
        assert not (np.diff(real.astype(int)) > 0).any(), "padding stands at the end"
        np.testing.assert_array_equal(found["inputs"][real] + 1, found["targets"][real])
        assert (found["inputs"][~real] == 0).all()
        assert real.any()
        np.add.at(counts, found["targets"][real], 1)
    assert counts.tolist() == [0] + [1] * (length - 1)


def test_the_last_evaluation_window_is_padded_by_hand() -> None:
    windows = EvaluationWindows(np.array([5, 6, 7, 8, 9, 10], dtype=np.uint8), 3)
    assert len(windows) == 2
    assert windows.example(1, 0)["inputs"].tolist() == [8, 9, 0]
    assert windows.example(1, 0)["targets"].tolist() == [9, 10, -100]
    assert windows.key(0) != windows.key(1)


# --- files -----------------------------------------------------------------------------------------------------------


def test_the_last_tenth_is_for_validation(tmp_path: Path) -> None:
    content = "".join(chr(ord("a") + number % 26) for number in range(1009))
    dataset = load(write(tmp_path / "a.txt", content), context=8)
    train, validation = dataset.splits["train"], dataset.splits["validation"]
    assert list(dataset.splits) == ["train", "validation"]
    assert len(train.tokens) == 909
    assert len(validation.tokens) == 100
    decode = dataset.encoding.tokenizer.decode
    assert decode(train.tokens) + decode(validation.tokens) == content
    assert dataset.facts == {"vocabulary_size": 26, "max_length": 8}
    assert dataset.manifest["rule"] == "the last tenth of the tokens for validation"


def test_an_official_validation_file(tmp_path: Path) -> None:
    train, validation = write(tmp_path / "t", "abcab" * 20), write(tmp_path / "v", "bca" * 5)
    dataset = load(train, validation=str(validation), context=8)
    assert {name: len(split.tokens) for name, split in dataset.splits.items()} == {"train": 100, "validation": 15}
    assert dataset.manifest["rule"] == "official"
    assert set(dataset.manifest["files"]) == {"t", "v"}


def test_a_test_file_leaves_validation_to_the_tail(tmp_path: Path) -> None:
    train, test = write(tmp_path / "t", "abcab" * 20), write(tmp_path / "e", "bca" * 5)
    dataset = load(train, test=str(test), context=8)
    assert [(name, len(split.tokens)) for name, split in dataset.splits.items()] == [
        ("train", 90),
        ("validation", 10),
        ("test", 15),
    ]


def test_a_split_that_would_be_ignored_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t", "abcab" * 20)
    with pytest.raises(ConfigError, match=r"data\.validation is not given"):
        load(path, split="official")
    with pytest.raises(ConfigError, match=r"tail would ignore data\.validation"):
        load(path, split="tail", validation=str(path))


@pytest.mark.parametrize(
    ("content", "offset", "byte"),
    [(b"ab\xff", 2, "0xff"), ("é".encode("latin-1") + b"tude", 0, "0xe9"), (b"abc\xe2\x82", 3, "0xe2")],
)
def test_what_is_no_utf_8_is_refused_with_its_place(tmp_path: Path, content: bytes, offset: int, byte: str) -> None:
    path = write(tmp_path / "latin.txt", content)
    with pytest.raises(
        DataError, match=rf"latin\.txt: expected text in UTF-8, found the byte {byte} at offset {offset}:"
    ):
        load(path)


def test_the_place_is_right_after_a_byte_order_mark_too(tmp_path: Path) -> None:
    """The mark is three bytes of the file: the wrong byte is its sixth."""
    with pytest.raises(DataError, match=r"found the byte 0xff at offset 5:"):
        text.read_text(write(tmp_path / "a", b"\xef\xbb\xbfab\xff"))


def test_a_byte_order_mark_goes_and_line_ends_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "a", b"\xef\xbb\xbfone\r\ntwo\rthree\n\xef\xbb\xbf")
    assert text.read_text(path) == "one\r\ntwo\rthree\n\ufeff"  # inside a text, it is a character


def test_gzip_is_unpacked_whatever_the_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", gzip.compress("grüße\n".encode()))
    assert text.read_text(path) == "grüße\n"


def test_gzip_cut_off_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="compression is damaged or cut off"):
        text.read_text(write(tmp_path / "a.gz", gzip.compress(b"some text")[:-3]))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "found an empty file"),
        (gzip.compress(b"", mtime=0), "found an empty file"),
        (b"\xef\xbb\xbf", "found an empty file"),
        (b" \n\t\r\n", "found nothing but white space"),
    ],
)
def test_an_empty_text_is_refused(tmp_path: Path, content: bytes, found: str) -> None:
    with pytest.raises(DataError, match=found):
        load(write(tmp_path / "a", content))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.txt: expected a file, found nothing"):
        load(tmp_path / "missing.txt")
    with pytest.raises(DataError, match="found a folder"):
        load(tmp_path)


def test_a_text_that_is_too_short_is_refused(tmp_path: Path) -> None:
    # 20 characters leave 18 for training: enough for a context of 17, not of 18.
    path = write(tmp_path / "a", "abcdefghijklmnopqrst")
    assert len(load(path, context=17).splits["train"]) == 1
    with pytest.raises(DataError, match=r"the train part has 18 tokens, expected at least 19 \(data.context is 18\)"):
        load(path, context=18)
    with pytest.raises(DataError, match="the validation part has 1 tokens, expected at least 2"):
        load(write(tmp_path / "b", "abcdefghijklmnopqrs"), context=4)
    with pytest.raises(DataError, match="the test part has 1 tokens, expected at least 2"):
        load(path, context=4, test=str(write(tmp_path / "c", "x")))


def test_bytes_as_tokens(tmp_path: Path) -> None:
    dataset = load(write(tmp_path / "a", "é€x" * 50), tokenizer="byte", context=8)
    assert dataset.facts == {"vocabulary_size": 256, "max_length": 8}
    tokens = np.concatenate([split.tokens for split in dataset.splits.values()])
    assert bytes(tokens.tolist()).decode() == "é€x" * 50
    assert {"step": "tokenize", "kind": "byte", "special": False} in dataset.manifest["preprocessing"]


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_python_topics(tokenizer: str) -> None:
    dataset = text.load_python_topics(PythonTopicsData(source="python-topics", tokenizer=tokenizer, context=32), 1)
    assert list(dataset.splits) == ["train", "validation"]
    assert dataset.manifest["versions"] == {"python": platform.python_version()}
    assert dataset.manifest["source"] == "python-topics"
    assert dataset.facts["max_length"] == 32
    assert dataset.facts["vocabulary_size"] == dataset.encoding.tokenizer.size
    whole = dataset.encoding.tokenizer.decode(np.concatenate([split.tokens for split in dataset.splits.values()]))
    from pydoc_data.topics import topics

    assert len(whole) > 100_000
    assert whole.startswith(f"{min(topics)}\n{'=' * len(min(topics))}\n\n{topics[min(topics)].strip()[:50]}")
    assert all(topic.strip() in whole for topic in topics.values())


def test_tiny_shakespeare(real_data: Path) -> None:
    """Counts as the data's README gives them: 1,115,394 characters, 65 of them distinct."""
    dataset = load(real_data / "tinyshakespeare" / "input.txt")
    sizes = {name: len(split.tokens) for name, split in dataset.splits.items()}
    assert sizes == {"train": 1_003_855, "validation": 111_539}
    assert dataset.facts == {"vocabulary_size": 65, "max_length": 64}
    assert dataset.encoding.tokenizer.decode(dataset.splits["train"].tokens[:14].tolist()) == "First Citizen:"
    validation = dataset.splits["validation"]
    counted = sum(int((validation.example(i, 0)["targets"] != IGNORED).sum()) for i in range(len(validation)))
    assert counted == 111_538


def test_a_file_that_unpacks_to_far_more_than_itself_is_refused(tmp_path: Path) -> None:
    """100 MB of one letter are 97 kB as gzip; they are not read to the end."""
    path = tmp_path / "bomb.txt.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        for _ in range(100):
            file.write(b"a" * 10**6)
    with pytest.raises(DataError, match="expected at most 67,108,864 bytes once unpacked, found more; a gzip file may"):
        compressed.read(path)
