"""Two parallel files."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from glassrun.data import pairs
from glassrun.data.source import Dataset
from glassrun.data.splits import by_hash, content_key
from glassrun.data.tokenizers import BEGIN, END, PADDING, UNKNOWN
from glassrun.errors import ConfigError, DataError
from glassrun.sections.data import PairsData

LINES = [(f"source {number}", f"target {number * 7}") for number in range(200)]


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_pairs(folder: Path, lines: list[tuple[str, str]], name: str = "a", end: str = "\n", suffix: str = "") -> str:
    files = [
        write(folder / f"{name}.{side}{suffix}", "".join(f"{pair[place]}{end}" for pair in lines))
        for place, side in enumerate(("en", "de"))
    ]
    return ",".join(map(str, files))


def load(place: str, **fields: object) -> Dataset:
    return pairs.load(PairsData(source="pairs", path=place, **fields))


def content(dataset: Dataset) -> dict[str, list[tuple[str, str]]]:
    return {name: list(split.pairs) for name, split in dataset.splits.items()}


def whole(dataset: Dataset) -> list[tuple[str, str]]:
    return sorted(pair for split in content(dataset).values() for pair in split)


def refused(place: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        load(place)


def test_lines_are_paired_and_split_by_the_source(tmp_path: Path) -> None:
    dataset = load(write_pairs(tmp_path, LINES))
    indices = by_hash([content_key(source.encode()) for source, _ in LINES])
    assert content(dataset) == {name: [LINES[index] for index in chosen] for name, chosen in indices.items()}
    assert list(dataset.splits) == ["train", "validation", "test"]
    assert dataset.manifest["rule"] == "hash of the source, 80/10/10"
    assert dataset.manifest["left_out"] == {"train": 0, "validation": 0, "test": 0}
    assert set(dataset.manifest["files"]) == {"a.en", "a.de"}


def test_a_sentence_with_many_translations_is_in_one_split(tmp_path: Path) -> None:
    lines = [(f"source {number // 10}", f"target {number}") for number in range(300)]
    places: dict[str, set[str]] = {}
    for name, split in content(load(write_pairs(tmp_path, lines))).items():
        for source, _ in split:
            places.setdefault(source, set()).add(name)
    assert len(places) == 30
    assert all(len(found) == 1 for found in places.values())


def test_another_translation_moves_no_pair(tmp_path: Path) -> None:
    changed = [(source, target[::-1]) for source, target in LINES]
    before, after = load(write_pairs(tmp_path, LINES)), load(write_pairs(tmp_path, changed, "b"))
    for name, split in content(before).items():
        assert [source for source, _ in split] == [source for source, _ in content(after)[name]]
        assert before.splits[name].digest() != after.splits[name].digest()


def test_an_example_by_hand(tmp_path: Path) -> None:
    train = write_pairs(tmp_path, [("ab", "é"), ("ba", "éz")])
    dataset = load(train, validation=write_pairs(tmp_path, [("ac", "q")], "v"))
    assert dataset.splits["train"].example(1, 1)["source"].tolist() == [5, 4, END]
    assert dataset.splits["train"].example(1, 1)["target"].tolist() == [BEGIN, 5, 4, END]
    assert dataset.splits["validation"].example(0, 1)["source"].tolist() == [4, UNKNOWN, END]
    assert dataset.splits["validation"].example(0, 1)["target"].tolist() == [BEGIN, UNKNOWN, END]
    assert dataset.facts == {
        "source_vocabulary_size": 6,
        "target_vocabulary_size": 6,
        "max_length": 256,
        "padding_token": PADDING,
    }


def test_the_vocabulary_is_of_the_training_pairs_alone(tmp_path: Path) -> None:
    train = write_pairs(tmp_path, [("ab", "xy"), ("ba", "yx")])
    dataset = load(
        train, validation=write_pairs(tmp_path, [("abc", "xyz")], "v"), test=write_pairs(tmp_path, [("d", "w")], "t")
    )
    assert dataset.encoding.source.to_plain()["characters"] == "ab"
    assert dataset.encoding.target.to_plain()["characters"] == "xy"
    hashed = load(write_pairs(tmp_path, [(f"{chr(0x4E00 + i)}", f"{chr(0x5E00 + i)}") for i in range(200)], "h"))
    for side, tokenizer in enumerate((hashed.encoding.source, hashed.encoding.target)):
        expected = sorted(pair[side] for pair in content(hashed)["train"])
        assert list(tokenizer.to_plain()["characters"]) == expected


def test_lower_case(tmp_path: Path) -> None:
    """The vocabulary has no capitals, the manifest says so, and the recipes without it are what they were."""
    lines = [(f"Source {number}", f"ZIEL {number}") for number in range(50)]
    place = write_pairs(tmp_path, lines)
    lower, mixed = load(place, lowercase=True), load(place)
    assert whole(lower) == sorted((source.lower(), target.lower()) for source, target in lines)
    assert lower.encoding.target.encode("Z").tolist() == [UNKNOWN]
    assert lower.encoding.encode_target("Z").tolist() == lower.encoding.encode_target("z").tolist()
    assert lower.manifest["preprocessing"] == [{"step": "lower case"}, *lower.manifest["preprocessing"][1:]]
    assert "lower case" not in str(mixed.manifest["preprocessing"])
    assert "lowercase" not in PairsData(source="pairs", path=place).contract()
    assert PairsData(source="pairs", path=place, lowercase=True).contract()["lowercase"] is True


def test_bytes_as_tokens(tmp_path: Path) -> None:
    dataset = load(
        write_pairs(tmp_path, [("é", "€")] * 3), tokenizer="byte", validation=write_pairs(tmp_path, [("ü", "x")], "v")
    )
    assert dataset.splits["train"].example(0, 1)["source"].tolist() == [0xC3 + 4, 0xA9 + 4, END]
    assert dataset.splits["train"].example(0, 1)["target"].tolist() == [BEGIN, 0xE2 + 4, 0x82 + 4, 0xAC + 4, END]
    assert dataset.splits["validation"].example(0, 1)["source"].tolist() == [0xC3 + 4, 0xBC + 4, END]
    assert dataset.facts["source_vocabulary_size"] == dataset.facts["target_vocabulary_size"] == 260


# --- lines -----------------------------------------------------------------------------------------------------------


def test_unequal_numbers_of_lines_are_refused(tmp_path: Path) -> None:
    source, target = write(tmp_path / "a.en", "1\n2\n3\n"), write(tmp_path / "a.de", "1\n2\n")
    refused(f"{source},{target}", r"a\.en has 3 lines, but .*a\.de 2:")


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("blank", ["", "  ", "\t"])
def test_a_line_that_is_empty_on_one_side_is_refused_with_its_number(tmp_path: Path, side: int, blank: str) -> None:
    lines = [list(pair) for pair in LINES[:5]]
    lines[3][side] = blank
    name, other = ("en", "de") if side == 0 else ("de", "en")
    refused(
        write_pairs(tmp_path, [(a, b) for a, b in lines]),
        rf"a\.{name}: line 4 is empty, but that of .*a\.{other} is not",
    )


def test_a_line_that_is_empty_on_both_sides_is_passed_over(tmp_path: Path) -> None:
    lines = [*LINES[:50], ("", " "), *LINES[50:], ("", "")]
    assert whole(load(write_pairs(tmp_path, lines))) == sorted(LINES)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_other_separators_of_lines_stay_inside_a_line(tmp_path: Path, separator: str) -> None:
    lines = [*LINES, (f"one{separator}two", "three")]
    assert whole(load(write_pairs(tmp_path, lines))) == sorted(lines)


def test_windows_line_ends_and_a_missing_last_one_do_not_matter(tmp_path: Path) -> None:
    expected = content(load(write_pairs(tmp_path, LINES)))
    assert content(load(write_pairs(tmp_path, LINES, "b", end="\r\n"))) == expected
    files = [Path(name) for name in write_pairs(tmp_path, LINES, "c").split(",")]
    files[0].write_bytes(files[0].read_bytes().removesuffix(b"\n"))
    assert content(load(",".join(map(str, files)))) == expected


def test_gzip_is_unpacked(tmp_path: Path) -> None:
    assert whole(load(write_pairs(tmp_path, LINES, suffix=".gz"))) == sorted(LINES)


def test_a_byte_order_mark_goes(tmp_path: Path) -> None:
    lines = [("\ufeffone", "\ufeffeins"), *LINES]
    assert ("one", "eins") in whole(load(write_pairs(tmp_path, lines)))


# --- length ----------------------------------------------------------------------------------------------------------


def test_pairs_that_are_too_long_are_left_out_and_counted(tmp_path: Path) -> None:
    """Seven tokens: six characters and the end; or the begin and six characters, on the target's inputs."""
    train = [("a" * 6, "b" * 6), ("a" * 7, "b"), ("a", "b" * 7), ("a", "b")]
    validation = [("a" * 9, "b"), ("a", "b")]
    dataset = load(write_pairs(tmp_path, train), validation=write_pairs(tmp_path, validation, "v"), max_length=7)
    assert content(dataset) == {"train": [train[0], train[3]], "validation": [validation[1]]}
    assert dataset.manifest["left_out"] == {"train": 2, "validation": 1}
    longest = dataset.splits["train"].example(0, 1)
    assert len(longest["source"]) == len(longest["target"][:-1]) == len(longest["target"][1:]) == 7


def test_length_is_counted_in_bytes_where_they_are_the_tokens(tmp_path: Path) -> None:
    place = write_pairs(tmp_path, [("é" * 3, "x"), ("é" * 4, "x"), ("x", "€€"), ("x", "€€€")])
    dataset = load(place, validation=place, max_length=7, tokenizer="byte")
    assert content(dataset)["train"] == [("é" * 3, "x"), ("x", "€€")]


def test_no_training_pair_that_fits_is_refused(tmp_path: Path) -> None:
    place = write_pairs(tmp_path, LINES)
    with pytest.raises(DataError, match=r"every training pair is longer than data\.max_length 3"):
        load(place, max_length=3)


def test_an_evaluation_split_without_a_pair_that_fits_is_no_split_but_counted(tmp_path: Path) -> None:
    validation = write_pairs(tmp_path, [("a" * 20, "b")], "v")
    dataset = load(write_pairs(tmp_path, [("ab", "ba")]), validation=validation, max_length=7)
    assert list(dataset.splits) == ["train"]
    assert dataset.manifest["left_out"] == {"train": 0, "validation": 1}


# --- splits of their own ---------------------------------------------------------------------------------------------


def test_official_splits(tmp_path: Path) -> None:
    train, validation, test = (
        write_pairs(tmp_path, lines, name)
        for name, lines in (("t", LINES[:90]), ("v", LINES[90:97]), ("e", LINES[97:]))
    )
    dataset = load(train, validation=validation, test=test)
    assert content(dataset) == {"train": LINES[:90], "validation": LINES[90:97], "test": LINES[97:]}
    assert dataset.manifest["rule"] == "official"
    assert len(dataset.manifest["files"]) == 6
    assert content(load(train, validation=validation)) == {"train": LINES[:90], "validation": LINES[90:97]}


def test_an_official_test_part_leaves_validation_to_the_hash(tmp_path: Path) -> None:
    dataset = load(write_pairs(tmp_path, LINES[:150]), test=write_pairs(tmp_path, LINES[150:], "e"))
    found = content(dataset)
    assert list(found) == ["train", "validation", "test"]
    assert found["test"] == LINES[150:]
    assert sorted(found["train"] + found["validation"]) == sorted(LINES[:150])
    assert len(found["train"]) > 4 * len(found["validation"]) > 0
    assert dataset.manifest["rule"] == "official test; validation by hash of the source, 90/10"


def test_a_split_that_would_be_ignored_is_refused(tmp_path: Path) -> None:
    place = write_pairs(tmp_path, LINES)
    with pytest.raises(ConfigError, match="hash would ignore"):
        load(place, split="hash", test=place)
    with pytest.raises(ConfigError, match=r"neither data\.validation nor data\.test is given"):
        load(place, split="official")


@pytest.mark.parametrize("place", ["a.en", "a.en,", ",a.de", " , "])
def test_one_file_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.path: expected two files, SOURCE,TARGET"):
        load(place)
    with pytest.raises(ConfigError, match=r"data\.test: expected two files, SOURCE,TARGET"):
        load(write_pairs(tmp_path, LINES), test=place)


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    full, empty = write(tmp_path / "full", "a\nb\n"), write(tmp_path / "empty", "")
    refused(f"{full},{tmp_path}/missing", "missing: expected a file, found nothing")
    refused(f"{full},{empty}", "empty: expected a text, found an empty file")


def test_too_few_pairs_are_refused(tmp_path: Path) -> None:
    test_only = next(f"s{i}" for i in range(999) if len(by_hash([content_key(f"s{i}".encode())])["test"]))
    refused(write_pairs(tmp_path, [(test_only, "x")]), "too few pairs: none fell into the training split")


def test_multi30k(real_data: Path) -> None:
    """Counts as the data's README gives them."""
    folder = real_data / "multi30k-en-de"
    places = [f"{folder}/{name}.en.gz,{folder}/{name}.de.gz" for name in ("train", "val", "test_2016_flickr")]
    dataset = load(places[0], validation=places[1], test=places[2], max_length=512)
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    assert sizes == {"train": 29_000, "validation": 1014, "test": 1000}
    assert dataset.manifest["left_out"] == {"train": 0, "validation": 0, "test": 0}
    short = load(places[0], validation=places[1], test=places[2], max_length=80)
    for name, split in content(dataset).items():
        fits = [pair for pair in split if max(map(len, pair)) + 1 <= 80]
        assert content(short)[name] == fits
        assert short.manifest["left_out"][name] == len(split) - len(fits)
    assert short.manifest["left_out"]["train"] > 0


def test_lines_that_end_in_a_carriage_return_alone_are_named(tmp_path: Path) -> None:
    for name in ("source", "target"):
        (tmp_path / name).write_bytes(b"\r".join(b"word %d" % i for i in range(40)))
    paths = f"{tmp_path / 'source'},{tmp_path / 'target'}"
    with pytest.raises(DataError, match=r"source: expected lines .* found 39 that end in \\r alone"):
        pairs.load(PairsData(source="pairs", path=paths))
