"""Data sets of the hub, built here: in a folder, and in the cache of the hub's own library, with no network."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glassrun import config
from glassrun.data import hub, images, pairs, recorded, text
from glassrun.data.keys import keys_of
from glassrun.data.manifest import manifest_digest
from glassrun.data.source import Dataset
from glassrun.errors import ConfigError, DataError
from glassrun.sections.data import HubData, ImagesData, PairsData, TextData

datasets = pytest.importorskip("datasets", reason="needs the extra hub: pip install 'glassrun[hub]'")

COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def png(seed: int, side: int = 5) -> bytes:
    pixels = np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (side, side), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write(folder: Path, parts: dict[str, dict[str, Any]], features: Any = None) -> Path:
    """A data set as it lies in a repository: one Parquet file for each part."""
    for part, columns in parts.items():
        (folder / "data").mkdir(parents=True, exist_ok=True)
        table = datasets.Dataset.from_dict(columns, features=features)
        table.to_parquet(folder / "data" / f"{part}-00000-of-00001.parquet")
    return folder


def load(folder: Path, **fields: Any) -> Dataset:
    return hub.load(HubData.model_validate_json(json.dumps({"source": "hub", "path": str(folder)} | fields)), 1)


def write_pictures(folder: Path, counts: dict[str, int]) -> Path:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "eel"])})
    return write(
        folder,
        {
            part: {"image": [{"bytes": png(i), "path": None} for i in range(n)], "label": [i % 3 for i in range(n)]}
            for part, n in counts.items()
        },
        features,
    )


# --- images ----------------------------------------------------------------------------------------------------------


def test_pictures_are_those_of_folders(tmp_path: Path) -> None:
    """The same pictures in folders by class: the same examples, splits, facts and statistics."""
    found = load(write_pictures(tmp_path / "hub", {"train": 60}), images={})
    for index in range(60):
        place = tmp_path / "folders" / ["cat", "dog", "eel"][index % 3]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index:03}.png").write_bytes(png(index))
    expected = images.load(ImagesData(source="images", path=str(tmp_path / "folders")))
    assert found.facts == expected.facts
    assert {name: sorted(own) for name, own in keys_of(found.splits).items()} == {
        name: sorted(own) for name, own in keys_of(expected.splits).items()
    }
    assert found.manifest["rule"] == expected.manifest["rule"] == "hash of the image and its class, 80/10/10"
    assert found.encoding.classes == ("cat", "dog", "eel")


def test_the_parts_of_a_data_set_are_its_splits(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "hub", {"train": 30, "test": 6})
    found = load(folder, images={"image_size": 3})
    assert {name: len(split) for name, split in found.splits.items() if name == "test"} == {"test": 6}
    assert found.splits["train"].example(0, 1)["image"].shape == (1, 3, 3)
    assert found.manifest["rule"] == "official test; validation by hash of the image and its class, 90/10"
    cut = load(folder, images={}, split="hash")
    assert sum(map(len, cut.splits.values())) == 30


def test_pictures_outside_the_folder_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(1))
    for place in (str(secret), "../secret.png"):
        found = hub._Found({}, tmp_path / "hub", "here", {}, {})
        held = hub._Pictures([{"image": {"bytes": None, "path": place}}], "image", "train", found)
        with pytest.raises(DataError, match="in the data set's folder, found none"):
            held[0]


def test_damaged_pictures_and_unknown_classes_are_named(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "hub", {"train": 12})
    with pytest.raises(DataError, match=r"there is no column 'picture'; .*Known: image, label"):
        load(folder, images={"image": "picture"})
    with pytest.raises(DataError, match="expected pictures, found ClassLabel"):
        load(folder, images={"image": "label"})
    broken = write(
        tmp_path / "broken",
        {"train": {"image": [{"bytes": png(0), "path": None}, {"bytes": b"no", "path": None}], "label": ["a", "b"]}},
        datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")}),
    )
    with pytest.raises(DataError, match=r"train 1, image: expected a picture .*none of these forms"):
        load(broken, images={})


# --- texts and pairs -------------------------------------------------------------------------------------------------

LINES = [f"line {number} of the glass" for number in range(90)]


def test_a_text_is_that_of_a_file(tmp_path: Path) -> None:
    folder = write(tmp_path / "hub", {"train": {"words": LINES}})
    (tmp_path / "file.txt").write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    for tokenizer in ("char", {"kind": "bpe", "vocabulary_size": 270}):
        found = load(folder, text={"column": "words", "context": 7, "tokenizer": tokenizer})
        section = {"source": "text", "path": str(tmp_path / "file.txt"), "context": 7, "tokenizer": tokenizer}
        expected = text.load(TextData.model_validate_json(json.dumps(section)), 1)
        assert keys_of(found.splits) == keys_of(expected.splits)
        assert found.facts == expected.facts
        assert found.manifest["preprocessing"] == expected.manifest["preprocessing"]


def test_lines_that_end_are_not_ended_again(tmp_path: Path) -> None:
    ended, plain = ([f"{line}{end}" for line in LINES] for end in ("\n", ""))
    digests = {
        load(write(tmp_path / name, {"train": {"text": rows}, "validation": {"text": rows}}), text={}).manifest[
            "splits"
        ]["validation"]["digest"]
        for name, rows in (("ended", ended), ("plain", plain))
    }
    assert len(digests) == 1


@pytest.mark.parametrize("nested", [False, True])
def test_pairs_are_those_of_files(tmp_path: Path, nested: bool) -> None:
    rows = [(f"source {number}", f"target {number * 7}") for number in range(100)]
    columns: dict[str, Any] = {"en": [row[0] for row in rows], "de": [row[1] for row in rows]}
    if nested:
        columns = {"translation": [{"en": source, "de": target} for source, target in rows]}
    found = load(
        write(tmp_path / "hub", {"train": columns}),
        pairs={"source": "en", "target": "de"} | ({"translation": "translation"} if nested else {}),
    )
    for side in (0, 1):
        (tmp_path / str(side)).write_text("".join(f"{row[side]}\n" for row in rows), encoding="utf-8")
    expected = pairs.load(PairsData(source="pairs", path=f"{tmp_path}/0,{tmp_path}/1"))
    assert keys_of(found.splits) == keys_of(expected.splits)
    assert found.manifest["preprocessing"] == expected.manifest["preprocessing"]
    assert found.manifest["rule"] == expected.manifest["rule"]


def test_values_of_another_kind_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "hub", {"train": {"text": ["a", None, "b"], "number": [1, 2, 3]}})
    with pytest.raises(DataError, match="column 'text', row 1: expected a text, found None"):
        load(folder, text={})
    with pytest.raises(DataError, match="column 'number', row 0: expected a text, found 1"):
        load(folder, text={"column": "number"})
    with pytest.raises(DataError, match="with the key 'en' in each"):
        load(folder, pairs={"source": "en", "target": "de", "translation": "number"})
    with pytest.raises(DataError, match="official, but there is no part validation"):
        load(write(tmp_path / "one", {"train": {"text": LINES}}), text={}, split="official")


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a folder in the form of a data set on the hub, found nothing"):
        load(tmp_path / "nothing", text={})
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="cannot be read as a data set of the hub"):
        load(tmp_path / "empty", text={})
    with pytest.raises(DataError, match="expected a part train, found test"):
        load(write(tmp_path / "test", {"test": {"text": LINES}}), text={})


def test_code_and_other_formats_are_not_run_or_read(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    script = tmp_path / "script"
    script.mkdir()
    (script / "script.py").write_text(f"open({str(mark)!r}, 'w')\n", encoding="utf-8")
    with pytest.raises(DataError):
        load(script, text={})
    (tmp_path / "xml").mkdir()
    (tmp_path / "xml" / "train.xml").write_text("<a/>", encoding="utf-8")
    with pytest.raises(DataError, match=r"expected files of a format of .*, found xml"):
        load(tmp_path / "xml", text={})
    assert not mark.exists()


def test_what_the_library_keeps_is_not_asked(tmp_path: Path) -> None:
    """A file that changes and keeps its name, size and time gives other examples."""
    import os

    folder = tmp_path / "hub"
    folder.mkdir()
    file, digests = folder / "train.csv", set()
    for word in ("glass", "grass"):
        file.write_text("text\n" + f"{word} runs\n" * 90, encoding="utf-8")
        os.utime(file, (10**9, 10**9))
        digests.add(load(folder, text={}).manifest["splits"]["train"]["digest"])
    assert len(digests) == 2


# --- the hub ---------------------------------------------------------------------------------------------------------


def fetched(tmp_path: Path, commit: str, word: str, *, main: bool) -> None:
    """What the hub's library leaves in its cache after fetching a commit."""
    repository = tmp_path / "cache" / "datasets--glass--words"
    write(repository / "snapshots" / commit, {"train": {"text": [f"{word} {number}" for number in range(90)]}})
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    if main:
        (repository / "refs" / "main").write_text(commit, encoding="utf-8")


def section_of(**fields: Any) -> HubData:
    return HubData.model_validate_json(json.dumps({"source": "hub", "repository": "glass/words", "text": {}} | fields))


def test_a_branch_is_recorded_as_its_commit_and_a_run_stays_with_it(tmp_path: Path) -> None:
    fetched(tmp_path, COMMIT, "glass", main=True)
    first = hub.load(section_of(), 1)
    assert first.manifest["versions"]["glass/words"] == COMMIT
    encoding = json.loads(json.dumps(first.encoding.to_plain()))
    header = {"encoding": encoding, "data": first.manifest, "data_digest": manifest_digest(first.manifest)}
    fetched(tmp_path, OTHER, "grass", main=True)
    moved = hub.load(section_of(), 1)
    assert moved.manifest["versions"]["glass/words"] == OTHER
    assert manifest_digest(moved.manifest) != manifest_digest(first.manifest)
    again = hub.load(section_of(), 1, recorded.of_run(header, "run"))
    assert again.manifest == first.manifest
    assert manifest_digest(hub.load(section_of(revision=COMMIT), 1).manifest) == manifest_digest(first.manifest)


def test_a_folder_with_the_same_examples_is_the_same_data(tmp_path: Path) -> None:
    fetched(tmp_path, COMMIT, "glass", main=True)
    by_name = hub.load(section_of(), 1)
    by_folder = load(tmp_path / "cache" / "datasets--glass--words" / "snapshots" / COMMIT, text={})
    assert manifest_digest(by_name.manifest) == manifest_digest(by_folder.manifest)
    assert by_name.manifest["files"] != by_folder.manifest["files"]


def test_what_was_not_fetched_is_said() -> None:
    with pytest.raises(DataError, match="glass/words at main: cannot be read as a data set of the hub"):
        hub.load(section_of(), 1)


# --- the recipe ------------------------------------------------------------------------------------------------------


def recipe(**data: Any) -> config.Recipe:
    model = {"kind": "language-model"}
    return config.load({"name": "a", "task": "language-model", "data": {"source": "hub"} | data, "model": model})


def test_where_it_lies_is_free_and_what_is_read_is_not(tmp_path: Path) -> None:
    digests = {
        recipe(path=str(tmp_path), text={}).digest(),
        recipe(repository="glass/words", text={}).digest(),
        recipe(repository="glass/words", revision=COMMIT, text={}).digest(),
    }
    assert len(digests) == 1
    assert recipe(repository="glass/words", text={"column": "words"}).digest() not in digests
    assert recipe(path="here", text={}).data.path == str(Path("here").absolute())


def test_a_text_is_read_with_gaps_too() -> None:
    fields = {"task": "masked-language-model", "data": {"source": "hub", "path": "a", "text": {}}}
    assert config.load({"name": "a", "model": {"kind": "encoder"}} | fields).digest()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"text": {}}, "either path .* or repository"),
        ({"path": "a", "repository": "b/c", "text": {}}, "either path .* or repository"),
        ({"path": "a", "revision": "main", "text": {}}, "revision would be ignored with path"),
        ({"path": "a"}, "exactly one of images, text and pairs, found none"),
        ({"path": "a", "text": {}, "images": {}}, "found images and text"),
        ({"path": "a", "images": {}}, "task language-model does not read images"),
        ({"path": "a", "text": {}, "split": "hash"}, "split: hash is not for text"),
        ({"path": "a", "text": {"colum": "x"}}, r"data\.text\.colum: unknown key; did you mean 'column'"),
        ({"path": "a", "text": {"tokenizer": {"kind": "bpe", "size": 3}}}, r"data\.text\.tokenizer\.size: unknown key"),
        ({"path": "a", "text": {}, "context": 3}, r"data\.context: unknown key"),
    ],
)
def test_settings_that_make_no_sense_are_refused(data: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        recipe(**data)
