"""The manifest and its digest: what data are, wherever and in whatever packing they lie."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glassrun.data.manifest import differences, file_digest, manifest, manifest_digest
from glassrun.data.registry import LOADERS, load
from glassrun.data.source import Dataset
from glassrun.data.text import EvaluationWindows
from glassrun.sections.data import DATA

TEXT = "the quick brown fox jumps over the lazy dog\n" * 9
LINES = [(f"source {number}", f"target {number * 7}") for number in range(60)]


def digest(source: str, path: object, **fields: object) -> str:
    return manifest_digest(dataset(source, path, **fields).manifest)


def dataset(source: str, path: object, **fields: object) -> Dataset:
    return load(DATA[source](source=source, path=str(path), **fields), 1)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def write_pairs(folder: Path, lines: list[tuple[str, str]], names: tuple[str, str] = ("a.en", "a.de")) -> str:
    return ",".join(
        str(write(folder / name, "".join(f"{pair[side]}\n" for pair in lines))) for side, name in enumerate(names)
    )


def write_idx(folder: Path, values: np.ndarray, labels: np.ndarray, suffix: str = "", prefix: str = "") -> Path:
    folder.mkdir(parents=True)
    for name, array in (("images-idx3", values), ("labels-idx1", labels)):
        data = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        data += array.astype(np.uint8).tobytes()
        (folder / f"{prefix}train-{name}-ubyte{suffix}").write_bytes(gzip.compress(data) if suffix else data)
    return folder


def write_pictures(folder: Path, values: np.ndarray, classes: tuple[str, str] = ("ant", "cat"), name: str = "") -> Path:
    for number, pixels in enumerate(values):
        place = folder / classes[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{name}{number:03}.png")
    return folder


IMAGES = np.random.default_rng(0).integers(0, 256, (80, 5, 7), dtype=np.uint8)
LABELS = np.arange(80) % 2


def test_path_name_and_packing_of_a_text_do_not_matter(tmp_path: Path) -> None:
    expected = digest("text", write(tmp_path / "a" / "one.txt", TEXT))
    assert digest("text", write(tmp_path / "b" / "c" / "two", TEXT)) == expected
    assert digest("text", write(tmp_path / "three.gz", TEXT)) == expected
    assert digest("text", write(tmp_path / "with-mark.txt", f"\ufeff{TEXT}")) == expected


def test_path_name_and_packing_of_pairs_do_not_matter(tmp_path: Path) -> None:
    expected = digest("pairs", write_pairs(tmp_path / "a", LINES))
    assert digest("pairs", write_pairs(tmp_path / "b", LINES, ("x", "y"))) == expected
    assert digest("pairs", write_pairs(tmp_path / "c", LINES, ("x.gz", "y"))) == expected


def test_path_name_and_packing_of_idx_files_do_not_matter(tmp_path: Path) -> None:
    expected = digest("images", write_idx(tmp_path / "a", IMAGES, LABELS))
    assert digest("images", write_idx(tmp_path / "b", IMAGES, LABELS, ".gz")) == expected
    assert digest("images", write_idx(tmp_path / "c", IMAGES, LABELS, prefix="other-")) == expected


def test_path_and_name_of_pictures_do_not_matter(tmp_path: Path) -> None:
    expected = digest("images", write_pictures(tmp_path / "a", IMAGES))
    assert digest("images", write_pictures(tmp_path / "b", IMAGES, name="other")) == expected


@pytest.mark.parametrize(
    "changed",
    [TEXT[:-2] + "x\n", "T" + TEXT[1:], TEXT.replace("fox", "fxo", 1), TEXT + "\n", TEXT.replace("\n", "\r\n")],
    ids=["last", "first", "order", "one more", "line ends"],
)
def test_one_character_of_a_text_matters(tmp_path: Path, changed: str) -> None:
    assert len({digest("text", write(tmp_path / "a", text)) for text in (TEXT, changed)}) == 2


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("line", range(0, 60, 13))
def test_one_character_of_a_pair_matters(tmp_path: Path, side: int, line: int) -> None:
    changed = [list(pair) for pair in LINES]
    changed[line][side] = changed[line][side][:-1] + "u"  # a letter of both vocabularies' texts
    before = digest("pairs", write_pairs(tmp_path / "a", LINES))
    assert digest("pairs", write_pairs(tmp_path / "b", [(a, b) for a, b in changed])) != before


def test_one_pixel_matters(tmp_path: Path) -> None:
    for place in (0, 41, 79):
        changed = IMAGES.copy()
        changed[place, 4, 6] ^= 1
        folders = tmp_path / f"a{place}", tmp_path / f"b{place}"
        assert (
            len({digest("images", write_idx(f, v, LABELS)) for f, v in zip(folders, (IMAGES, changed), strict=True)})
            == 2
        )


def test_the_class_of_one_image_matters(tmp_path: Path) -> None:
    changed = LABELS.copy()
    changed[40] ^= 1
    assert digest("images", write_idx(tmp_path / "a", IMAGES, LABELS)) != digest(
        "images", write_idx(tmp_path / "b", IMAGES, changed)
    )


def test_the_name_of_a_class_matters(tmp_path: Path) -> None:
    first = digest("images", write_pictures(tmp_path / "a", IMAGES, ("ant", "cat")))
    assert digest("images", write_pictures(tmp_path / "b", IMAGES, ("ant", "cow"))) != first


def test_order_matters(tmp_path: Path) -> None:
    images = digest("images", write_idx(tmp_path / "a", IMAGES, LABELS))
    assert digest("images", write_idx(tmp_path / "b", IMAGES[::-1], LABELS[::-1])) != images
    pairs = digest("pairs", write_pairs(tmp_path / "c", LINES))
    assert digest("pairs", write_pairs(tmp_path / "d", LINES[::-1])) != pairs


def test_preprocessing_matters(tmp_path: Path) -> None:
    path = write(tmp_path / "a", TEXT)
    options: list[dict[str, object]] = [{}, {"context": 7}, {"tokenizer": "byte"}, {"context": 7, "tokenizer": "byte"}]
    assert len({digest("text", path, **option) for option in options}) == 4


def test_the_shape_of_images_matters(tmp_path: Path) -> None:
    turned = IMAGES.reshape(80, 7, 5)  # the same bytes
    assert digest("images", write_idx(tmp_path / "a", IMAGES, LABELS)) != digest(
        "images", write_idx(tmp_path / "b", turned, LABELS)
    )


def test_every_file_is_recorded_even_if_two_have_one_name(tmp_path: Path) -> None:
    """data/train/input.txt and data/valid/input.txt are two files."""
    train, valid = write(tmp_path / "train" / "input.txt", TEXT), write(tmp_path / "valid" / "input.txt", TEXT[:200])
    described = dataset("text", train, validation=str(valid)).manifest
    assert sorted(described["files"].values()) == sorted([file_digest(train), file_digest(valid)])


def test_the_digest_of_a_file_is_blake2b_of_its_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a", TEXT)
    assert file_digest(path) == hashlib.blake2b(TEXT.encode(), digest_size=16).hexdigest()
    assert dataset("text", path).manifest["files"] == {"a": file_digest(path)}


def test_a_manifest_has_all_parts() -> None:
    split = EvaluationWindows(np.arange(10), 4)
    found = manifest("text", splits={"train": split}, rule="official", preprocessing=[{"step": "none"}])
    assert found == {
        "source": "text",
        "splits": {"train": {"examples": 3, "digest": split.digest()}},
        "rule": "official",
        "preprocessing": [{"step": "none"}],
        "left_out": {},
        "files": {},
        "versions": {},
    }


def test_where_the_bytes_came_from_is_not_in_the_digest_and_all_else_is() -> None:
    base = {"source": "s", "splits": {}, "rule": "r", "preprocessing": [], "left_out": {}, "files": {}, "versions": {}}
    expected = manifest_digest(base)
    assert manifest_digest(base | {"files": {"a": "1"}}) == expected
    assert manifest_digest(base | {"versions": {"babel": "9"}}) == expected
    for name, value in {
        "source": "t",
        "splits": {"train": {}},
        "rule": "q",
        "preprocessing": [{}],
        "left_out": {"a": 1},
    }.items():
        assert manifest_digest(base | {name: value}) != expected


def test_differences_name_what_differs_packages_first() -> None:
    recorded = {
        "source": "dates",
        "versions": {"babel": "2.16"},
        "splits": {"train": {"examples": 7}},
        "files": {"a": "1"},
    }
    here = {"source": "dates", "versions": {"babel": "2.17"}, "splits": {"train": {"examples": 8}}, "files": {"b": "1"}}
    assert differences(recorded, here) == [
        "versions babel: recorded 2.16, here 2.17",
        "files a: recorded 1, here none",
        "files b: recorded none, here 1",
        "splits train examples: recorded 7, here 8",
    ]
    assert differences(recorded, recorded) == []


def test_long_values_are_shortened_in_differences() -> None:
    (line,) = differences({"rule": "x" * 1000}, {"rule": "y"})
    assert line == f"rule: recorded {'x' * 57}…, here y"


def test_differences_of_steps_name_the_step() -> None:
    steps = [{"step": "tokenize", "digest": "a", "long": "x" * 100}, {"step": "windows", "context": 3}]
    others = [{"step": "tokenize", "digest": "b", "long": "x" * 100}, *steps[1:], {"step": "augment"}]
    assert differences({"preprocessing": steps}, {"preprocessing": others}) == [
        "preprocessing tokenize digest: recorded a, here b",
        "preprocessing augment: recorded none, here {'step': 'augment'}",
    ]


def test_every_source_has_a_loader() -> None:
    assert set(LOADERS) == set(DATA)
