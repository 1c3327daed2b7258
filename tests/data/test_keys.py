"""Comparing the keys of examples, and the file that holds them."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassrun.data import dates, images, keys, pairs, text
from glassrun.data.keys import Finding, compare, decode, describe, encode
from glassrun.data.pixels import image_key
from glassrun.data.source import Dataset
from glassrun.data.splits import by_hash
from glassrun.errors import DataError
from glassrun.sections.data import DatesData, ImagesData, PairsData, TextData

PROPERTY = settings(max_examples=200, deadline=None, database=None, derandomize=True)
FEW = settings(max_examples=15, deadline=None, database=None, derandomize=True)
# Few different letters, so that keys recur, as blank lines do.
WORDS = st.text("abcdefgh", max_size=12)
UNIQUE = st.lists(st.integers(0, 99), min_size=2, max_size=30, unique=True)


def key(content: object) -> bytes:
    return str(content).encode().ljust(16, b".")


def found(before: list[bytes], after: list[bytes]) -> dict[str, list[tuple[int | None, int | None]]]:
    findings = compare({"train": before}, {"train": after})
    return {finding.kind: [(place.index, place.found_index) for place in finding.places] for finding in findings}


@PROPERTY
@given(before=WORDS, after=WORDS)
def test_nothing_is_found_exactly_where_nothing_differs_and_the_counts_add_up(before: str, after: str) -> None:
    old, new = [list(map(key, word)) for word in (before, after)]
    findings = {finding.kind: finding for finding in compare({"train": old}, {"train": new})}
    assert bool(findings) == (old != new)
    counts = {kind: findings[kind].count if kind in findings else 0 for kind in ("changed", "missing", "added")}
    assert len(old) - counts["missing"] + counts["added"] == len(new)
    lost, gained = Counter(old) - Counter(new), Counter(new) - Counter(old)
    for finding in findings.values():
        for place in finding.places:
            assert place.key == (None if place.index is None else old[place.index].hex())
            assert place.found_key == (None if place.found_index is None else new[place.found_index].hex())
    # A key that is less often there is told as changed or missing, one that is more often there as changed or added
    told = [p for kind in ("changed", "missing", "added") if kind in findings for p in findings[kind].places]
    assert lost <= Counter(bytes.fromhex(p.key) for p in told if p.key)
    assert gained <= Counter(bytes.fromhex(p.found_key) for p in told if p.found_key)


@PROPERTY
@given(contents=UNIQUE, data=st.data())
def test_one_thing_that_was_done_is_told_as_that(contents: list[int], data: st.DataObject) -> None:
    old = [key(content) for content in contents]
    place = data.draw(st.integers(0, len(old) - 1))
    assert found(old, [*old[:place], *old[place + 1 :]]) == {"missing": [(place, None)]}
    assert found(old, [*old[:place], key("new"), *old[place:]]) == {"added": [(None, place)]}
    assert found(old, [*old[:place], key("new"), *old[place + 1 :]]) == {"changed": [(place, place)]}
    other = (
        data.draw(st.integers(0, len(old) - 1).filter(lambda other: abs(other - place) > 2)) if len(old) > 8 else place
    )
    swapped = list(old)
    swapped[place], swapped[other] = swapped[other], swapped[place]
    expected = {"reordered": sorted([(place, other), (other, place)])} if place != other else {}
    assert found(old, swapped) == expected


def test_recurring_keys_are_told_apart_by_where_they_stand() -> None:
    """Blank lines: taking one away makes none of the others reordered."""
    old = [key(c) for c in "a_b_c_d_e"]
    assert found(old, [key(c) for c in "ab_c_d_e"]) == {"missing": [(1, None)]}
    assert found(old, [key(c) for c in "a_X_c_d_eY"]) == {"changed": [(2, 2)], "added": [(None, 9)]}


def test_one_that_is_moved_is_told_as_one() -> None:
    old = [key(number) for number in range(1000)]
    assert found(old, [*old[1:], old[0]]) == {"reordered": [(0, 999)]}


def test_each_split_is_told_for_itself() -> None:
    findings = compare({"train": [key(1)], "test": [key(2)]}, {"train": [key(1)], "validation": [key(2)]})
    assert [(f.split, f.kind, f.count, f.recorded) for f in findings] == [
        ("test", "missing", 1, 1),
        ("validation", "added", 1, 0),
    ]


def test_sentences_name_the_first_few() -> None:
    old = [bytes([number]) * 16 for number in range(9)]
    findings = compare({"train": old}, {"train": old[5:]})
    assert describe(findings, "images") == [
        "train: 5 of 9 examples missing: index 0 (key 000000000000), index 1 (key 010101010101), index 2 (key "
        "020202020202), …"
    ]
    (line,) = describe(compare({"train": old}, {"train": [*old[:4], b"x" * 16, *old[5:]]}), "text")
    assert line == "train: 1 of 9 lines changed: line 5 (key 040404040404, now 787878787878)"
    (line,) = describe(compare({"train": old}, {"train": [*old, old[0]]}), "digits")
    assert line == "train: 1 added to 9 examples: index 9 (key 000000000000)"


def test_plain_values_have_all_examples() -> None:
    (finding,) = compare({"train": [key(1)]}, {"train": [key(2)]})
    assert finding.to_plain() == {
        "split": "train",
        "kind": "changed",
        "count": 1,
        "recorded": 1,
        "examples": [{"index": 0, "found_index": 0, "key": key(1).hex(), "found_key": key(2).hex()}],
    }


# --- the file --------------------------------------------------------------------------------------------------------

KEYS = st.dictionaries(st.text(max_size=9), st.lists(st.binary(min_size=16, max_size=16), max_size=5), max_size=4)


@PROPERTY
@given(given_keys=KEYS)
def test_the_file_holds_the_keys(given_keys: dict[str, list[bytes]]) -> None:
    assert decode(encode(given_keys), "here") == given_keys


@PROPERTY
@given(given_keys=KEYS, data=st.data())
def test_a_damaged_file_is_one_clear_error_or_other_keys(
    given_keys: dict[str, list[bytes]], data: st.DataObject
) -> None:
    """(That its keys are the recorded ones is what its digest in run.json is for.)"""
    whole = encode(given_keys)
    cut = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[cut] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DataError, match="here: expected"):
        decode(whole[:cut], "here")
    with pytest.raises(DataError, match="here: expected"):
        decode(whole + b"x", "here")
    with suppress(DataError):
        assert decode(bytes(changed), "here") != given_keys


# --- the keys of each source -----------------------------------------------------------------------------------------


def placed(dataset: Dataset) -> dict[bytes, str]:
    return {example: name for name, own in keys.keys_of(dataset.splits).items() for example in own}


def write_pairs(folder: Path, lines: list[tuple[str, str]]) -> PairsData:
    for side in (0, 1):
        (folder / str(side)).write_text("".join(f"{pair[side]}\n" for pair in lines))
    return PairsData(source="pairs", path=f"{folder / '0'},{folder / '1'}")


def write_images(folder: Path, values: np.ndarray, labels: np.ndarray) -> ImagesData:
    for name, array in (("images", values), ("labels", labels)):
        head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
        (folder / name).write_bytes(head + array.astype(np.uint8).tobytes())
    return ImagesData(source="images", path=f"{folder / 'images'},{folder / 'labels'}")


def only_added(before: Dataset, after: Dataset) -> None:
    """No example of before has another split, and nothing is said but that some were added."""
    old, new = placed(before), placed(after)
    assert {example: new[example] for example in old} == old
    findings: list[Finding] = compare(*(keys.keys_of(d.splits) for d in (before, after)))
    assert {finding.kind for finding in findings} == {"added"}
    assert sum(finding.count for finding in findings) == sum(map(len, (s.keys() for s in after.splits.values()))) - len(
        old
    )


@FEW
@given(seed=st.integers(0, 10**6), random=st.randoms(use_true_random=False))
def test_ten_percent_more_pairs_move_no_pair(seed: int, random, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("pairs")
    lines = [(f"source {seed} {number}", f"target {number}") for number in range(110)]
    before = pairs.load(write_pairs(folder, lines[:100]))
    order = sorted(random.sample(range(110), 10))  # where the new ones come to stand among the old ones
    old, new = iter(lines[:100]), iter(lines[100:])
    after = pairs.load(write_pairs(folder, [next(new) if place in order else next(old) for place in range(110)]))
    only_added(before, after)


@FEW
@given(seed=st.integers(0, 10**6), random=st.randoms(use_true_random=False))
def test_ten_percent_more_images_move_no_image(seed: int, random, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("images")
    values = np.random.default_rng(seed).integers(0, 256, (110, 5, 7), dtype=np.uint8)
    labels = np.arange(110) % 3
    before = images.load(write_images(folder, values[:100], labels[:100]))
    places = np.sort(np.array(random.sample(range(101), 10)))
    more = [np.insert(array[:100], places, array[100:], axis=0) for array in (values, labels)]
    only_added(before, images.load(write_images(folder, *more)))


@FEW
@given(seed=st.integers(0, 10**6), size=st.integers(50, 300))
def test_ten_percent_more_dates_move_no_date(seed: int, size: int) -> None:
    before, after = (
        dates.load(DatesData(source="dates", examples=examples, languages=("en",)), seed)
        for examples in (size, size + -(-size // 10))
    )
    only_added(before, after)


@FEW
@given(seed=st.integers(0, 10**6))
def test_the_order_of_digit_images_does_not_decide_their_split(seed: int) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 17, (80, 1, 8, 8), dtype=np.uint8)
    own = [image_key(image, str(number % 10)) for number, image in enumerate(pixels)]
    order = random.permutation(80).tolist()
    splits = {own[index]: name for name, chosen in by_hash(own).items() for index in chosen.tolist()}
    shuffled = [own[index] for index in order]
    assert splits == {shuffled[i]: name for name, chosen in by_hash(shuffled).items() for i in chosen.tolist()}


@FEW
@given(order=st.permutations(range(60)))
def test_the_order_of_the_lines_does_not_decide_the_split_of_a_pair(
    order: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("pairs")
    lines = [(f"source {number}", f"target {number}") for number in range(60)]
    before = pairs.load(write_pairs(folder, lines))
    assert placed(before) == placed(pairs.load(write_pairs(folder, [lines[index] for index in order])))


TEXT = "the quick brown fox\n\njumps over\n\nthe lazy dog\n" * 40


def text_keys(path: Path, content: str, **fields: object) -> list[bytes]:
    path.write_text(content)
    splits = text.load(TextData(source="text", path=str(path), **fields), 1).splits
    return [example for own in keys.keys_of(splits).values() for example in own]


def test_a_text_is_told_by_its_lines_whatever_vocabulary_and_context(tmp_path: Path) -> None:
    path = tmp_path / "text"
    old = text_keys(path, TEXT)
    # The tail begins inside a line, and there its two parts are two.
    assert len(old) in (200, 201)
    assert text_keys(path, TEXT, context=7) == old
    assert len(set(old) ^ set(text_keys(path, TEXT.replace("fox", "fôx", 1)))) <= 4  # the tail may begin elsewhere


def test_a_new_character_changes_one_line_and_not_all(tmp_path: Path) -> None:
    """It gives most tokens other numbers; what a line says stays."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.valid").write_text("the dog\n" * 20)
    old, new = (
        keys.keys_of(text.load(_official(tmp_path, name, TEXT.replace("lazy", word, 1)), 1).splits)
        for name, word in (("a", "lazy"), ("b", "!azy"))
    )
    assert found(old["train"], new["train"]) == {"changed": [(4, 4)]}
    assert old["validation"] == new["validation"]


def _official(folder: Path, name: str, content: str) -> TextData:
    (folder / name).write_text(content)
    return TextData(source="text", path=str(folder / name), validation=str(folder / f"{name}.valid"))


def test_a_text_of_one_line_is_cut(tmp_path: Path) -> None:
    content = "glass " * 1000
    old = text_keys(tmp_path / "a", content, tokenizer="byte")
    new = text_keys(tmp_path / "a", content[:2500] + "x" + content[2501:], tokenizer="byte")
    assert len(old) == 7  # 5,400 bytes to train, 600 to validate
    assert [a == b for a, b in zip(old, new, strict=True)] == [True, True, False, True, True, True, True]


@pytest.mark.parametrize("content", ["a\nb\n", "a\nb", "\n\n", "a", "x" * 2000, "x" * 2001 + "\n"])
def test_lines_cover_a_text_without_a_gap(content: str) -> None:
    values = np.frombuffer(content.encode(), dtype=np.uint8)
    starts = text.line_starts(values)
    assert starts[0] == 0
    assert starts[-1] == len(content)
    assert all(0 < b - a <= 1000 for a, b in pairwise(starts))
    assert len(text.line_keys(values)) == len(starts) - 1
