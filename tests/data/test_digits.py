"""The digits that ship in scikit-learn."""

from __future__ import annotations

import hashlib
from importlib.metadata import version

import numpy as np
import pytest
from sklearn.datasets import load_digits

from glassrun.data import digits
from glassrun.data.source import Dataset
from glassrun.sections.data import DigitsData


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return digits.load(DigitsData(source="digits"))


def expected_split(pixels: np.ndarray, label: int) -> str:
    """The split of a digit, worked out from the description alone."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (str(label).encode(), b"(1, 8, 8)", pixels.astype(np.uint8).tobytes()):
        digest.update(len(part).to_bytes(8, "little") + part)
    share = int.from_bytes(digest.digest()[:8], "little") / 2**64
    return "train" if share < 0.8 else "validation" if share < 0.9 else "test"


def test_all_digits_are_there_in_the_split_of_their_content(dataset: Dataset) -> None:
    source = load_digits()
    expected: dict[str, list[tuple[bytes, int]]] = {"train": [], "validation": [], "test": []}
    for pixels, label in zip(source.images, source.target.tolist(), strict=True):
        expected[expected_split(pixels, label)].append((pixels.astype(np.uint8).tobytes(), label))
    found = {
        name: [(split.raw(index).tobytes(), split.example(index, 1)["label"]) for index in range(len(split))]
        for name, split in dataset.splits.items()
    }
    assert found == expected
    assert list(found) == ["train", "validation", "test"]
    assert sum(map(len, found.values())) == 1797


def test_facts_and_encoding(dataset: Dataset) -> None:
    assert dataset.facts == {"in_channels": 1, "image_height": 8, "image_width": 8, "num_classes": 10}
    assert dataset.encoding.classes == tuple("0123456789")
    assert dataset.encoding.levels == 16
    assert dataset.encoding.dark_border


def test_the_training_images_are_normalised_to_mean_0_and_variance_1(dataset: Dataset) -> None:
    train = dataset.splits["train"]
    images = np.stack([train.example(index, 1)["image"] for index in range(len(train))])
    assert images.dtype == np.float32
    assert images.shape == (len(train), 1, 8, 8)
    assert images.mean(dtype=np.float64) == pytest.approx(0.0, abs=1e-6)
    assert images.std(dtype=np.float64) == pytest.approx(1.0, abs=1e-6)


def test_an_example_is_the_same_in_every_epoch(dataset: Dataset) -> None:
    first, later = dataset.splits["train"].example(7, 1), dataset.splits["train"].example(7, 100)
    assert first["label"] == later["label"]
    np.testing.assert_array_equal(first["image"], later["image"])


def test_the_manifest(dataset: Dataset) -> None:
    assert dataset.manifest["source"] == "digits"
    assert dataset.manifest["versions"] == {"scikit-learn": version("scikit-learn")}
    assert dataset.manifest["files"] == {}
    for name, split in dataset.splits.items():
        described = dataset.manifest["splits"][name]
        keys = b"".join(split.key(index) for index in range(len(split)))
        assert described == {"examples": len(split), "digest": hashlib.blake2b(keys, digest_size=16).hexdigest()}


def test_loading_twice_gives_the_same(dataset: Dataset) -> None:
    assert digits.load(DigitsData(source="digits")).manifest == dataset.manifest
