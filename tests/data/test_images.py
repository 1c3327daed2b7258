"""Pictures in folders by class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glassrun.data import images
from glassrun.data.manifest import manifest_digest
from glassrun.data.source import Dataset
from glassrun.errors import ConfigError, DataError
from glassrun.sections.data import ImagesData


def write_class(folder: Path, count: int, *, shape: tuple[int, ...] = (5, 7), seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    values = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    for number, pixels in enumerate(values):
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder


def write_classes(folder: Path, counts: dict[str, int], seed: int = 0, **options: tuple[int, ...]) -> Path:
    for number, (name, count) in enumerate(counts.items()):
        write_class(folder / name, count, seed=seed + number, **options)
    return folder


def load(path: Path, **fields: object) -> Dataset:
    return images.load(ImagesData(source="images", path=str(path), **fields))


def sizes(dataset: Dataset) -> dict[str, int]:
    return {name: len(split) for name, split in dataset.splits.items()}


def labels(dataset: Dataset) -> list[int]:
    return [split.example(index, 1)["label"] for split in dataset.splits.values() for index in range(len(split))]


def test_folders_are_classes(tmp_path: Path) -> None:
    dataset = load(write_classes(tmp_path, {"cat": 50, "ant": 30}))
    assert sum(sizes(dataset).values()) == 80
    assert dataset.encoding.classes == ("ant", "cat")
    assert sorted(labels(dataset)) == [0] * 30 + [1] * 50
    assert dataset.facts == {"in_channels": 1, "image_height": 5, "image_width": 7, "num_classes": 2}
    assert dataset.manifest["rule"] == "hash of the image and its class, 80/10/10"


def test_pixels_and_labels_stay_together(tmp_path: Path) -> None:
    dataset = load(write_classes(tmp_path, {"cat": 20, "ant": 20}))
    expected = {}
    for label, name in enumerate(("ant", "cat")):
        for path in (tmp_path / name).iterdir():
            with Image.open(path) as picture:
                expected[np.asarray(picture).tobytes()] = label
    found = {}
    for split in dataset.splits.values():
        for index in range(len(split)):
            example = split.example(index, 1)
            np.testing.assert_array_equal(example["image"], dataset.encoding.normalise(split.raw(index)))
            found[split.raw(index).tobytes()] = example["label"]
    assert found == expected


def test_the_training_images_are_normalised_to_mean_0_and_variance_1(tmp_path: Path) -> None:
    dataset = load(write_classes(tmp_path, {"cat": 50, "ant": 30}, shape=(5, 7, 3)))
    train = dataset.splits["train"]
    pixels = np.stack([train.example(index, 1)["image"] for index in range(len(train))]).astype(np.float64)
    assert pixels.dtype == np.float64
    np.testing.assert_allclose(pixels.mean((0, 2, 3)), 0.0, atol=1e-6)
    np.testing.assert_allclose(pixels.std((0, 2, 3)), 1.0, atol=1e-6)
    raw = np.stack([train.raw(index) for index in range(len(train))]) / 255
    np.testing.assert_allclose(dataset.encoding.mean, raw.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(dataset.encoding.std, raw.std((0, 2, 3)), rtol=1e-12)


def test_images_of_one_colour_are_not_divided_by_zero(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(9):
            Image.new("L", (3, 2), 51).save(tmp_path / name / f"{number}.png")
    dataset = load(tmp_path)
    assert dataset.encoding.std == (1.0,)
    np.testing.assert_array_equal(dataset.splits["train"].example(0, 1)["image"], np.zeros((1, 2, 3)))


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("train", "validation", "test"), ("Training", "val", "testing"), ("TRAIN", "valid", "Test")],
)
def test_subfolders_named_after_splits_are_splits(tmp_path: Path, train: str, validation: str, test: str) -> None:
    for seed, (name, count) in enumerate({train: 20, validation: 5, test: 7}.items()):
        write_classes(tmp_path / name, {"cat": count, "ant": 2}, seed=10 * seed)
    dataset = load(tmp_path)
    assert sizes(dataset) == {"train": 22, "validation": 7, "test": 9}
    assert dataset.manifest["rule"] == "official"


def test_train_and_test_subfolders_leave_validation_to_the_hash(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 100, "ant": 100})
    write_classes(tmp_path / "test", {"cat": 3, "ant": 4}, seed=10)
    dataset = load(tmp_path)
    found = sizes(dataset)
    assert list(found) == ["train", "validation", "test"]
    assert found["test"] == 7
    assert found["train"] + found["validation"] == 200
    assert 5 <= found["validation"] <= 40  # a tenth of 200, within four standard deviations
    assert dataset.manifest["rule"] == "official test; validation by hash of the image and its class, 90/10"
    hashed = load(tmp_path, split="hash")
    assert sum(sizes(hashed).values()) == 207
    assert hashed.encoding.classes == ("ant", "cat")


def test_a_folder_beside_the_splits_is_not_taken_for_classes(tmp_path: Path) -> None:
    """train, test and one more folder: its images may not be trained on as of the classes "train" and "test"."""
    for seed, name in enumerate(("train", "test", "extra")):
        write_classes(tmp_path / name, {"cat": 20, "ant": 20}, seed=10 * seed)
    try:
        dataset = load(tmp_path)
    except (ConfigError, DataError):
        return
    assert dataset.encoding.classes == ("ant", "cat")


def test_validation_and_test_in_places_of_their_own(tmp_path: Path) -> None:
    for seed, (name, count) in enumerate({"x": 20, "y": 5, "z": 7}.items()):
        write_classes(tmp_path / name, {"cat": count, "ant": 2}, seed=10 * seed)
    y, z = (str(tmp_path / name) for name in "yz")
    assert sizes(load(tmp_path / "x", validation=y, test=z)) == {"train": 22, "validation": 7, "test": 9}
    assert sizes(load(tmp_path / "x", validation=y)) == {"train": 22, "validation": 7}
    only_test = sizes(load(tmp_path / "x", test=z))
    assert only_test["test"] == 9
    assert only_test["train"] + only_test.get("validation", 0) == 22
    with pytest.raises(ConfigError, match="split: hash would ignore"):
        load(tmp_path / "x", test=z, split="hash")


def test_a_test_part_given_twice_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "a" / "train", {"cat": 9, "ant": 9})
    write_classes(tmp_path / "a" / "test", {"cat": 9, "ant": 9})
    write_classes(tmp_path / "b", {"cat": 9, "ant": 9})
    with pytest.raises(ConfigError, match=r"data\.test: .* already has a test part"):
        load(tmp_path / "a", test=str(tmp_path / "b"))


def test_official_without_a_test_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no test or validation part"):
        load(write_classes(tmp_path, {"cat": 9, "ant": 9}), split="official")


def test_mixed_sizes_are_refused_by_name(tmp_path: Path) -> None:
    write_classes(tmp_path, {"ant": 9, "cat": 9})
    odd = write_class(tmp_path / "dog", 1, shape=(5, 11)) / "000.png"
    with pytest.raises(
        DataError, match=r"dog/000\.png is 11 × 5 pixels, but .*ant/000\.png is 7 × 5.*image_size"
    ) as error:
        load(tmp_path)
    assert str(odd) in str(error.value)


def test_image_size_scales_all(tmp_path: Path) -> None:
    write_classes(tmp_path, {"ant": 9, "cat": 9})
    write_class(tmp_path / "dog", 9, shape=(13, 3))
    dataset = load(tmp_path, image_size=4)
    assert dataset.facts == {"in_channels": 1, "image_height": 4, "image_width": 4, "num_classes": 3}
    assert dataset.splits["train"].example(0, 1)["image"].shape == (1, 4, 4)
    assert dataset.manifest["preprocessing"][0] == {"step": "scale", "size": 4}
    assert manifest_digest(dataset.manifest) != manifest_digest(load(tmp_path, image_size=5).manifest)


def test_numeric_names_are_sorted_by_value(tmp_path: Path) -> None:
    assert load(write_classes(tmp_path, {"10": 9, "9": 9, "100": 9})).encoding.classes == ("9", "10", "100")


def test_names_that_are_not_all_numbers_are_sorted_as_text(tmp_path: Path) -> None:
    assert load(write_classes(tmp_path, {"10": 9, "9": 9, "x": 9})).encoding.classes == ("10", "9", "x")


def test_a_class_only_in_test_is_refused_by_name(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 9, "ant": 9})
    write_classes(tmp_path / "test", {"cat": 2, "dog": 2}, seed=5)
    with pytest.raises(DataError, match="class 'dog' of the test part has no training image; classes there: ant, cat"):
        load(tmp_path)


def test_a_class_without_images_in_test_is_fine(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 20, "ant": 20})
    write_classes(tmp_path / "test", {"cat": 3}, seed=5)
    dataset = load(tmp_path)
    assert dataset.facts["num_classes"] == 2
    assert {dataset.splits["test"].example(index, 1)["label"] for index in range(3)} == {1}


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least two classes, found only 'cat'"):
        load(write_classes(tmp_path, {"cat": 9}))


def test_an_empty_class_folder_is_refused_by_name(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 9, "ant": 9})
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match=r"dog: expected pictures .* found none"):
        load(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one folder of pictures per class, or idx files, found neither"):
        load(tmp_path)


def test_a_missing_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found nothing"):
        load(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="found a file"):
        load(tmp_path / "file")


def test_a_damaged_picture_is_refused_by_name(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 9, "ant": 9})
    path = tmp_path / "cat" / "004.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"cat/004\.png"):
        load(tmp_path)


def test_grey_and_colour_mix_to_colour(tmp_path: Path) -> None:
    write_class(tmp_path / "grey", 30)
    write_class(tmp_path / "rgb", 30, shape=(5, 7, 3))
    dataset = load(tmp_path)
    assert dataset.facts["in_channels"] == 3
    for split in dataset.splits.values():
        for index in range(len(split)):
            red, green, blue = split.raw(index)
            is_grey = (red == green).all() and (green == blue).all()
            assert is_grey == (split.example(index, 1)["label"] == 0)


def test_grey_training_and_colour_test_images_mix_to_colour_or_are_refused_with_the_reason(tmp_path: Path) -> None:
    """With one size for all, the error may not advise `data.image_size`: it is the channels that differ."""
    write_classes(tmp_path / "train", {"cat": 20, "ant": 20})
    write_classes(tmp_path / "test", {"cat": 3, "ant": 3}, seed=5, shape=(5, 7, 3))
    try:
        dataset = load(tmp_path, image_size=4)
    except DataError as error:
        message = str(error)
    else:
        message = f"{dataset.facts['in_channels']} channels"
        assert message == "3 channels"
    assert "channels" in message
    assert "data.image_size scales all" not in message


def test_pictures_may_lie_deeper_and_other_files_beside_them(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 9, "ant": 9})
    write_class(tmp_path / "cat" / "deeper" / "still", 4, seed=9)
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "readme.md").write_text("no class")
    (tmp_path / ".hidden").mkdir()
    dataset = load(tmp_path)
    assert sum(sizes(dataset).values()) == 22
    assert dataset.facts["num_classes"] == 2


def test_more_than_fits_in_memory_is_decoded_when_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path, {"cat": 20, "ant": 20})
    kept = load(tmp_path)
    monkeypatch.setattr(images, "_MOST_IN_MEMORY", 40 * 5 * 7 - 1)
    read_again = load(tmp_path)
    assert read_again.manifest == kept.manifest
    for name, split in kept.splits.items():
        for index in range(len(split)):
            np.testing.assert_array_equal(
                read_again.splits[name].example(index, 1)["image"], split.example(index, 1)["image"]
            )


def test_no_image_moves_when_images_and_a_class_are_added(tmp_path: Path) -> None:
    def place_of(dataset: Dataset) -> dict[bytes, str]:
        return {split.key(index): name for name, split in dataset.splits.items() for index in range(len(split))}

    before = place_of(load(write_classes(tmp_path, {"cat": 30, "dog": 30})))
    write_class(tmp_path / "ant", 30, seed=7)
    write_class(tmp_path / "cat" / "more", 10, seed=8)
    after = place_of(load(tmp_path))
    assert len(after) == 100
    assert {key: after[key] for key in before} == before


def test_too_few_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path, {"cat": 1, "ant": 1})
    monkeypatch.setattr(images, "image_key", lambda pixels, name: b"\xff" * 16)  # noqa: ARG005 - all into the test split
    with pytest.raises(DataError, match="too few images: none fell into the training split"):
        load(tmp_path)


def test_joined_parts_are_indexed_one_after_the_other() -> None:
    joined = images._Joined([np.array([[0], [1]]), np.array([[2]]), np.array([[3], [4]])])
    assert len(joined) == 5
    assert [joined[index].item() for index in range(5)] == [0, 1, 2, 3, 4]
