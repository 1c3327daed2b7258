"""Pictures with a table of labels or numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from glassrun.data import images, keys, table
from glassrun.data.encoding import ImageEncoding, from_plain
from glassrun.data.manifest import manifest_digest
from glassrun.data.source import Dataset
from glassrun.errors import DataError
from glassrun.sections.data import ImagesData

LABELS = ["sun,rain", "1,0", "0,1", "1,1", "0,0"]  # the columns, and the rows in turn


def write(folder: Path, header: str, rows: Sequence[str], *, seed: int = 0, name: str = "table.csv") -> Path:
    """Pictures 000.png, 001.png … and a row for each."""
    folder.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (len(rows), 5, 7), dtype=np.uint8)
    for number, pixels in enumerate(values):
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    lines = [f"file,{header}", *(f"{number:03}.png,{row}" for number, row in enumerate(rows))]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def labelled(folder: Path, count: int = 40, seed: int = 0) -> Path:
    return write(folder, LABELS[0], [LABELS[1 + number % 4] for number in range(count)], seed=seed)


def load(path: Path, target: str = "labels", **fields: object) -> Dataset:
    return images.load(ImagesData(source="images", path=str(path), target=target, **fields))  # type: ignore[arg-type]


def by_pixels(dataset: Dataset) -> dict[bytes, list[float]]:
    return {
        split.raw(index).tobytes(): split.example(index, 1)["label"].tolist()  # type: ignore[attr-defined]
        for split in dataset.splits.values()
        for index in range(len(split))
    }


def pixels_of(folder: Path, name: str) -> bytes:
    with Image.open(folder / name) as picture:
        return np.asarray(picture).tobytes()


def encoding(dataset: Dataset) -> ImageEncoding:
    assert isinstance(dataset.encoding, ImageEncoding)
    return dataset.encoding


def test_labels_stay_with_their_pictures(tmp_path: Path) -> None:
    dataset = load(labelled(tmp_path))
    assert encoding(dataset).classes == ("sun", "rain")
    assert encoding(dataset).target == "labels"
    assert dataset.facts == {"in_channels": 1, "image_height": 5, "image_width": 7, "num_classes": 2}
    assert dataset.manifest["rule"] == "hash of the image and its labels, 80/10/10"
    assert dataset.manifest["preprocessing"][-1] == {"step": "labels", "names": ["sun", "rain"]}
    assert set(dataset.manifest["files"]) == {"table.csv", f"{tmp_path.name} (40 pictures)"}
    found = by_pixels(dataset)
    assert len(found) == 40
    for number in range(40):
        expected = [float(value) for value in LABELS[1 + number % 4].split(",")]
        assert found[pixels_of(tmp_path, f"{number:03}.png")] == expected
    assert dataset.splits["train"].example(0, 1)["label"].dtype == np.float32


def test_numbers_are_scaled_by_the_training_pictures_and_come_back(tmp_path: Path) -> None:
    rows = [f"{number * 1.5 - 7},{1e6 + number**2}" for number in range(40)]
    dataset = load(write(tmp_path, "height,price", rows), "numbers")
    train = dataset.splits["train"]
    scaled = np.stack([train.example(index, 1)["label"] for index in range(len(train))]).astype(np.float64)
    np.testing.assert_allclose(scaled.mean(0), 0.0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(0), 1.0, atol=1e-6)
    found = by_pixels(dataset)
    for number, row in enumerate(rows):
        back = encoding(dataset).in_units(found[pixels_of(tmp_path, f"{number:03}.png")])
        assert back == pytest.approx([float(value) for value in row.split(",")], rel=1e-5)
    step = dataset.manifest["preprocessing"][-1]
    assert step == {
        "step": "numbers",
        "names": ["height", "price"],
        "mean": list(encoding(dataset).number_means),
        "std": list(encoding(dataset).number_stds),
    }
    assert from_plain(json.loads(json.dumps(encoding(dataset).to_plain()))) == encoding(dataset)


@settings(max_examples=30)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9).filter(lambda v: max(v) - min(v) > 1e-3), st.randoms())
def test_scales_do_not_depend_on_the_order_of_the_pictures(values: list[float], random: object) -> None:
    shuffled = values[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert table._scale(values, "") == table._scale(shuffled, "")
    mean, std = table._scale(values, "")
    assert mean == pytest.approx(np.mean(values), abs=1e-6)
    assert std == pytest.approx(np.std(values), rel=1e-9)


def test_parts_have_tables_of_their_own(tmp_path: Path) -> None:
    for seed, (name, count) in enumerate({"train": 20, "validation": 5, "test": 7}.items()):
        labelled(tmp_path / name, count, seed)
    dataset = load(tmp_path)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 20, "validation": 5, "test": 7}
    assert dataset.manifest["rule"] == "official"
    apart = load(tmp_path / "train", validation=str(tmp_path / "validation"), test=str(tmp_path / "test"))
    assert manifest_digest(apart.manifest) == manifest_digest(dataset.manifest)


def test_pictures_may_lie_deeper(tmp_path: Path) -> None:
    labelled(tmp_path)
    text = (tmp_path / "table.csv").read_text().replace("000.png", "deeper/a b.png")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "000.png").rename(tmp_path / "deeper" / "a b.png")
    (tmp_path / "table.csv").write_text("\ufeff" + text, encoding="utf-8")  # as spreadsheets write it
    assert len(by_pixels(load(tmp_path))) == 40


def test_the_order_of_the_rows_and_where_it_lies_move_nothing(tmp_path: Path) -> None:
    first = load(labelled(tmp_path / "a"))
    labelled(tmp_path / "b")
    header, *rows = (tmp_path / "b" / "table.csv").read_text().splitlines()
    (tmp_path / "b" / "table.csv").rename(tmp_path / "b" / "other.csv")
    (tmp_path / "b" / "other.csv").write_text("\r\n".join([header, *rows[::-1], ""]))
    second = load(tmp_path / "b")
    assert manifest_digest(first.manifest) == manifest_digest(second.manifest)
    assert keys.keys_of(first.splits) == keys.keys_of(second.splits)


@pytest.mark.parametrize("target", ["labels", "numbers"])
def test_another_label_or_number_is_another_example(tmp_path: Path, target: str) -> None:
    before = load(labelled(tmp_path), target)
    text = (tmp_path / "table.csv").read_text()
    (tmp_path / "table.csv").write_text(text.replace("003.png,0,0", "003.png,1,0"))
    after = load(tmp_path, target)
    assert manifest_digest(before.manifest) != manifest_digest(after.manifest)
    old, new = ({key for own in keys.keys_of(d.splits).values() for key in own} for d in (before, after))
    assert len(old - new) == len(new - old) == 1


def test_another_order_of_the_columns_is_another_data_set(tmp_path: Path) -> None:
    before = load(labelled(tmp_path))
    lines = [line.split(",") for line in (tmp_path / "table.csv").read_text().splitlines()]
    (tmp_path / "table.csv").write_text("\n".join(f"{file},{b},{a}" for file, a, b in lines))
    assert manifest_digest(before.manifest) != manifest_digest(load(tmp_path).manifest)


def test_a_new_label_that_no_picture_has_moves_no_key(tmp_path: Path) -> None:
    before = keys.keys_of(load(labelled(tmp_path)).splits)
    lines = (tmp_path / "table.csv").read_text().splitlines()
    (tmp_path / "table.csv").write_text("\n".join([f"{lines[0]},snow", *(f"{line},0" for line in lines[1:])]))
    dataset = load(tmp_path)
    assert encoding(dataset).classes == ("sun", "rain", "snow")
    assert keys.keys_of(dataset.splits) == before


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,sun\n000.png,1\n", "expected the first column to be called 'file', found 'name'"),
        ("file\n000.png\n", "expected columns of labels behind the first, found none"),
        ("file,sun,sun\n000.png,1,1\n", "columns with different names, found 'sun' twice"),
        ("file,sun\n000.png,1\n000.png,0\n", "one row for each picture, found '000.png' twice"),
        ("file,sun\n000.png,1,1\n", "line 2: expected 2 fields as in the first line, found 3"),
        ("file,sun\n000.png,2\n", r"line 2, sun: expected 1 \(the picture has the label\) or 0, found '2'"),
        ("file,sun\n000.png,\n", "or 0, found ''"),
        ("file,sun\n../000.png,1\n", "expected a picture in the table's folder, found '../000.png'"),
        ("file,sun\n/etc/000.png,1\n", "expected a picture in the table's folder, found '/etc/000.png'"),
        ("file,sun\n,1\n", "expected a picture in the table's folder, found ''"),
        ("file,sun\n009.png,1\n", "names 009.png, but there is no such picture"),
        ("file,sun\n000.png,1\n", "found none for 1, the first of them 001.png: add rows, or take the pictures away"),
        ("file,sun\n", "a row for each picture, found 1 lines"),
        ("", "found 0 lines"),
        ('file,sun\n"000.png,1\n', "expected a table as CSV in UTF-8"),
    ],
)
def test_a_table_of_another_form_is_refused(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, "sun", ["1", "0"])
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("text", ["1,5", "x", "nan", "inf", "1e999", "1_000", ""])
def test_what_is_no_number_is_refused(tmp_path: Path, text: str) -> None:
    quoted = f'"{text}"'
    write(tmp_path, "height", ["1", quoted])
    with pytest.raises(DataError, match=r"line 3, height: expected a number such as 12\.5, found"):
        load(tmp_path, "numbers")


@pytest.mark.parametrize("value", ["0.1", "1e-200", "-3"])
def test_a_number_that_is_the_same_everywhere_is_refused_by_name(tmp_path: Path, value: str) -> None:
    write(tmp_path, "a,b", [f"{number},{value}" for number in range(20)])
    with pytest.raises(DataError, match=r"table\.csv: b: is .* for every training picture"):
        load(tmp_path, "numbers")


def test_numbers_beyond_float32_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", [f"{number}e300" for number in range(1, 20)])
    with pytest.raises(DataError, match=r"line 2, a: expected a number of at most 1e\+30"):
        load(tmp_path, "numbers")


@pytest.mark.parametrize(("number", "said"), [("1e31", "of at most 1e"), ("1e29", r"a of 000\.png is 1e\+29")])
def test_numbers_far_beyond_the_training_ones_are_refused(tmp_path: Path, number: str, said: str) -> None:
    """In float32 they would be infinite, and the metrics NaN."""
    write(tmp_path / "train", "a", [f"{place}e-5" for place in range(20)])
    write(tmp_path / "test", "a", [number, "1"], seed=1)
    with pytest.raises(DataError, match=rf"test/table\.csv.*{said}"):
        load(tmp_path, "numbers")


def test_one_picture_under_two_names_is_refused(tmp_path: Path) -> None:
    labelled(tmp_path)
    path = tmp_path / "table.csv"
    path.write_text(path.read_text() + "./000.png,1,1\n")
    with pytest.raises(DataError, match=r"one row for each picture, found '000\.png' twice"):
        load(tmp_path)


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "sun", ["1", "0"])
    (tmp_path / "table.csv").write_bytes(b"file,\xff\n000.png,1\n")
    with pytest.raises(DataError, match="expected a table as CSV in UTF-8"):
        load(tmp_path)


def test_no_table_and_two_are_refused(tmp_path: Path) -> None:
    labelled(tmp_path)
    (tmp_path / "second.csv").write_text("file,sun\n")
    with pytest.raises(DataError, match=r"expected one table, found second\.csv, table\.csv"):
        load(tmp_path)
    (tmp_path / "second.csv").unlink()
    (tmp_path / "table.csv").unlink()
    with pytest.raises(DataError, match=r"data\.target is labels: .* found none"):
        load(tmp_path)
    with pytest.raises(DataError, match="with a table of their labels, found nothing"):
        load(tmp_path / "missing")


def test_parts_with_other_columns_are_refused(tmp_path: Path) -> None:
    labelled(tmp_path / "train")
    write(tmp_path / "test", "rain,sun", ["1,0", "0,1"], seed=9)
    with pytest.raises(DataError, match=r"table\.csv: expected the columns rain, sun, which .* has, found sun, rain"):
        load(tmp_path)


def test_a_table_does_not_change_what_folders_by_class_are(tmp_path: Path) -> None:
    for seed, name in enumerate(("ant", "cat")):
        labelled(tmp_path / name, 20, seed)
        (tmp_path / name / "table.csv").unlink()
    (tmp_path / "notes.csv").write_text("file,sun\n")
    assert encoding(load(tmp_path, "class")).classes == ("ant", "cat")


def test_a_finite_scale_of_tiny_numbers() -> None:
    mean, std = table._scale([1e-20, 3e-20], "")
    assert mean == pytest.approx(2e-20)
    assert math.isfinite(1 / std)
