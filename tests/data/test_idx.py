"""idx files: what is read, and that whatever is damaged is refused with a DataError."""

from __future__ import annotations

import gzip
import struct
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glassrun.data import compressed, idx, images
from glassrun.errors import ConfigError, DataError
from glassrun.sections.data import ImagesData

PROPERTY = settings(max_examples=30, deadline=None, database=None, derandomize=True)


def packed(values: np.ndarray, kind: int = 8) -> bytes:
    header = struct.pack(">HBB", 0, kind, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(np.uint8).tobytes()


def random_images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_set(folder: Path, count: int = 60, part: str = "train", labels: np.ndarray | None = None) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    labels = np.arange(count) % 3 if labels is None else labels
    write(folder / f"{part}-images-idx3-ubyte", packed(random_images(count, 5, 7, seed=len(part))))
    write(folder / f"{part}-labels-idx1-ubyte", packed(labels))
    return folder


# --- one file --------------------------------------------------------------------------------------------------------


@PROPERTY
@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=5), zipped=st.booleans(), seed=st.integers(0, 99))
def test_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], zipped: bool, seed: int
) -> None:
    values = random_images(*shape, seed=seed)
    path = tmp_path_factory.mktemp("idx") / ("file.gz" if zipped else "file")
    found = idx.read(write(path, packed(values)))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, values)


def test_a_gzip_file_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(gzip.compress(packed(np.arange(3))))
    assert idx.read(tmp_path / "plain").tolist() == [0, 1, 2]


WHOLE = packed(random_images(2, 3, 5))
MALFORMED = {
    "empty": (b"", "two zero bytes"),
    "three bytes": (b"\0\0\x08", "two zero bytes"),
    "wrong magic": (b"PK" + WHOLE[2:], "504b0803"),
    "second byte not zero": (b"\0\1" + WHOLE[2:], "two zero bytes"),
    "floats": (WHOLE[:2] + b"\x0d" + WHOLE[3:], "type 13"),
    "signed bytes": (WHOLE[:2] + b"\x09" + WHOLE[3:], "type 9"),
    "no dimensions": (b"\0\0\x08\0", "header of 0 dimensions"),
    "header cut off": (WHOLE[:9], "header of 3 dimensions is cut off"),
    "header cut before the last byte": (WHOLE[:15], "header of 3 dimensions is cut off"),
    "body missing": (WHOLE[:16], "found 0: the file is cut off"),
    "body cut off": (WHOLE[:-1], r"2 × 3 × 5 = 30 values, found 29: the file is cut off"),
    "too long": (WHOLE + b"x", "30 values, found 31: the file is too long"),
    "zero images": (struct.pack(">HBB3I", 0, 8, 3, 0, 3, 5), "empty"),
    "images of no size": (struct.pack(">HBB3I", 0, 8, 3, 2, 0, 5), "empty"),
    "four billion images": (
        struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 28, 28) + bytes(784),
        f"{(2**32 - 1) * 28 * 28:,} values, found 784: the file is cut off",
    ),
    "beyond 64 bits": (struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 4) + bytes(7), "the file is cut off"),
    "more dimensions than NumPy has": (b"\0\0\x08\x41" + struct.pack(">65I", *[1] * 65) + b"x", "dimensions"),
    "most dimensions": (b"\0\0\x08\xff" + struct.pack(">255I", *[1] * 255) + b"x", "dimensions"),
}


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_refused_by_name(tmp_path: Path, name: str, zipped: bool) -> None:
    data, message = MALFORMED[name]
    path = write(tmp_path / ("some-file.gz" if zipped else "some-file"), data)
    with pytest.raises(DataError, match=message) as error:
        idx.read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("kept", [2, 5, 10, -9, -4, -1])
def test_gzip_cut_off_is_refused(tmp_path: Path, kept: int) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(WHOLE)[:kept])
    with pytest.raises(DataError, match="compression is damaged or cut off"):
        idx.read(tmp_path / "a.gz")


@pytest.mark.parametrize("place", [-1, -6, 12])
def test_gzip_with_a_flipped_bit_is_refused(tmp_path: Path, place: int) -> None:
    data = bytearray(gzip.compress(WHOLE))  # a length, a checksum, and the compressed stream
    data[place] ^= 0x10
    (tmp_path / "a.gz").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.gz"):
        idx.read(tmp_path / "a.gz")


def test_gzip_followed_by_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(WHOLE) + b"more")
    with pytest.raises(DataError, match="compression is damaged"):
        idx.read(tmp_path / "a.gz")


def test_what_unpacks_to_more_than_the_bound_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "bomb.gz", bytes(1001))
    assert compressed.read(path, most=1001) == bytes(1001)
    with pytest.raises(DataError, match="at most 1,000 bytes once unpacked"):
        compressed.read(path, most=1000)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found nothing"):
        idx.read(tmp_path / "missing")
    with pytest.raises(DataError, match="found a folder"):
        idx.read(tmp_path)


def test_a_name_that_is_too_long_for_the_file_system_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        idx.read(tmp_path / ("x" * 300))


@settings(PROPERTY, max_examples=300)
@given(data=st.binary(max_size=60), begin=st.sampled_from([b"", b"\0\0", b"\0\0\x08", b"\0\0\x08\x01", b"\x1f\x8b"]))
@example(data=b"\0\0\0\1x", begin=b"\0\0\x08\x01")
def test_random_bytes_give_an_array_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, begin: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "random-bytes"
    path.write_bytes(begin + data)
    try:
        values = idx.read(path)
    except DataError as error:
        message = str(error)
    else:
        message = str(path)
        assert packed(values) == begin + data
    assert str(path) in message


@settings(PROPERTY, max_examples=100)
@given(
    dimensions=st.lists(st.sampled_from([0, 1, 2, 3, 2**16, 2**31, 2**32 - 1]), min_size=1, max_size=9),
    body=st.binary(max_size=6),
)
@example(dimensions=[1, 3, 2, 1], body=b"abcdef")
@example(dimensions=[1] * 64, body=b"x")
@example(dimensions=[1] * 65, body=b"x")
@example(dimensions=[2**32 - 1] * 255, body=b"x")
def test_any_header_gives_an_array_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, dimensions: list[int], body: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-header"
    path.write_bytes(bytes([0, 0, 8, len(dimensions)]) + struct.pack(f">{len(dimensions)}I", *dimensions) + body)
    try:
        values = idx.read(path)
    except DataError:
        assert len(dimensions) > 64 or prod(dimensions) == 0 or prod(dimensions) != len(body)
    else:
        assert list(values.shape) == dimensions
        assert values.tobytes() == body


@settings(PROPERTY, max_examples=100)
@given(data=st.data(), zipped=st.booleans())
def test_every_truncation_is_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, zipped: bool
) -> None:
    whole = gzip.compress(WHOLE, mtime=0) if zipped else WHOLE
    path = tmp_path_factory.getbasetemp() / "truncated"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(DataError, match="truncated"):
        idx.read(path)


# --- images and labels -----------------------------------------------------------------------------------------------


def test_three_dimensions_are_grey(tmp_path: Path) -> None:
    values = random_images(4, 5, 7)
    pixels, labels = idx.images_and_labels(
        write(tmp_path / "i", packed(values)), write(tmp_path / "l.gz", packed(np.arange(4)))
    )
    np.testing.assert_array_equal(pixels, values[:, None])
    assert labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("channels", [1, 3])
def test_in_four_dimensions_channels_come_last_or_second(tmp_path: Path, channels: int) -> None:
    values = random_images(4, 5, 7, channels)
    labels = write(tmp_path / "l", packed(np.arange(4)))
    last, _ = idx.images_and_labels(write(tmp_path / "last", packed(values)), labels)
    second, _ = idx.images_and_labels(write(tmp_path / "second", packed(values.transpose(0, 3, 1, 2))), labels)
    assert last.shape == second.shape == (4, channels, 5, 7)
    np.testing.assert_array_equal(last, second)
    np.testing.assert_array_equal(last[2, :, 1, 6], values[2, 1, 6])
    assert last.flags.c_contiguous


@pytest.mark.parametrize("shape", [(4,), (4, 5), (4, 5, 7, 2), (4, 4, 5, 7), (4, 2, 5, 7, 3)])
def test_images_of_another_form_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pictures = write(tmp_path / "pictures", packed(random_images(*shape)))
    with pytest.raises(DataError, match=r"pictures: expected images × height × width"):
        idx.images_and_labels(pictures, write(tmp_path / "l", packed(np.arange(4))))


def test_labels_of_another_form_are_refused(tmp_path: Path) -> None:
    pictures = write(tmp_path / "pictures", packed(random_images(4, 5, 7)))
    with pytest.raises(DataError, match="labels in one dimension, found 2"):
        idx.images_and_labels(pictures, write(tmp_path / "l", packed(np.zeros((4, 1)))))


def test_counts_that_differ_are_refused(tmp_path: Path) -> None:
    pictures = write(tmp_path / "pictures", packed(random_images(4, 5, 7)))
    with pytest.raises(DataError, match=r"holds 4 images, but .*ells 3 labels"):
        idx.images_and_labels(pictures, write(tmp_path / "ells", packed(np.arange(3))))


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pictures", "labels", "part"),
    [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "train"),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "train"),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte", "train"),
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz", "train"),
        ("t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte", "test"),
        ("train.images.idx3.ubyte", "train.labels.idx1.ubyte", "train"),
        ("emnist-letters-test-images-idx3-ubyte.gz", "emnist-letters-test-labels-idx1-ubyte.gz", "test"),
        ("train-images-idx4-ubyte", "train-labels-idx1-ubyte", "train"),
    ],
)
def test_the_usual_names_are_found(tmp_path: Path, pictures: str, labels: str, part: str) -> None:
    for name in (pictures, labels, "README", "train-images.png"):
        (tmp_path / name).touch()
    assert idx.pairs_in(tmp_path) == {part: (tmp_path / pictures, tmp_path / labels)}


def test_a_file_both_plain_and_packed_is_one(tmp_path: Path) -> None:
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (tmp_path / name).touch()
        (tmp_path / f"{name}.gz").touch()
    plain = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    assert idx.pairs_in(tmp_path) == {"train": plain}


def test_missing_labels_are_named(tmp_path: Path) -> None:
    write(tmp_path / "train-images-idx3-ubyte", packed(random_images(4, 5, 7)))
    with pytest.raises(DataError, match=r"expected its labels beside it in train-labels-idx1-ubyte, found nothing"):
        images.load(ImagesData(source="images", path=str(tmp_path)))


def test_two_sets_in_one_folder_are_refused(tmp_path: Path) -> None:
    for name in ("digits", "letters"):
        (tmp_path / f"{name}-train-images-idx3-ubyte").touch()
        (tmp_path / f"{name}-train-labels-idx1-ubyte").touch()
    with pytest.raises(DataError, match=r"found digits-train-\S+ and letters-train-\S+: name the two files"):
        idx.pairs_in(tmp_path)


# --- as a data source ------------------------------------------------------------------------------------------------


def test_a_folder_with_an_official_test_part(tmp_path: Path) -> None:
    write_set(write_set(tmp_path, 200), 30, "t10k")
    dataset = images.load(ImagesData(source="images", path=str(tmp_path)))
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    assert list(sizes) == ["train", "validation", "test"]
    assert sizes["test"] == 30
    assert sizes["train"] + sizes["validation"] == 200
    assert 5 <= sizes["validation"] <= 40  # a tenth of 200, within four standard deviations
    assert dataset.manifest["rule"].startswith("official test")
    assert set(dataset.manifest["files"]) == {
        f"{part}-{what}" for part in ("train", "t10k") for what in ("images-idx3-ubyte", "labels-idx1-ubyte")
    }
    test = random_images(30, 5, 7, seed=4)
    for index in range(30):
        found = dataset.splits["test"].example(index, 1)
        assert found["label"] == index % 3
        np.testing.assert_array_equal(found["image"], dataset.encoding.normalise(test[index][None]))


def test_split_hash_ignores_that_there_is_an_official_test_part(tmp_path: Path) -> None:
    write_set(write_set(tmp_path, 200), 30, "t10k")
    dataset = images.load(ImagesData(source="images", path=str(tmp_path), split="hash"))
    assert sum(len(split) for split in dataset.splits.values()) == 230
    assert dataset.manifest["rule"].startswith("hash")


def test_two_files_by_name(tmp_path: Path) -> None:
    pictures = write(tmp_path / "one.bin", packed(random_images(100, 5, 7)))
    labels = write(tmp_path / "two.gz", packed(np.arange(100) % 2))
    dataset = images.load(ImagesData(source="images", path=f"{pictures}, {labels}"))
    assert sum(len(split) for split in dataset.splits.values()) == 100
    assert dataset.facts == {"in_channels": 1, "image_height": 5, "image_width": 7, "num_classes": 2}
    assert set(dataset.manifest["files"]) == {"one.bin", "two.gz"}


def test_a_test_part_by_name(tmp_path: Path) -> None:
    write_set(tmp_path / "a", 100)
    write_set(tmp_path / "b", 20, "t10k")
    test = f"{tmp_path}/b/t10k-images-idx3-ubyte,{tmp_path}/b/t10k-labels-idx1-ubyte"
    dataset = images.load(ImagesData(source="images", path=str(tmp_path / "a"), test=test))
    assert len(dataset.splits["test"]) == 20
    assert len(dataset.splits["train"]) + len(dataset.splits["validation"]) == 100


def test_labels_that_start_at_one_are_names_of_classes(tmp_path: Path) -> None:
    """As EMNIST's letters: 1 to 26, sorted by value, so that 2 comes before 10."""
    write_set(tmp_path, 300, labels=np.arange(300) % 26 + 1)
    dataset = images.load(ImagesData(source="images", path=str(tmp_path)))
    assert dataset.encoding.classes == tuple(map(str, range(1, 27)))
    assert dataset.facts["num_classes"] == 26
    labels = [split.example(index, 1)["label"] for split in dataset.splits.values() for index in range(len(split))]
    assert sorted(set(labels)) == list(range(26))


def test_image_size_scales_idx_images(tmp_path: Path) -> None:
    values = np.kron(random_images(50, 3, 3), np.ones((1, 2, 2), np.uint8))
    write(tmp_path / "train-images-idx3-ubyte", packed(values))
    write(tmp_path / "train-labels-idx1-ubyte", packed(np.arange(50) % 2))
    dataset = images.load(ImagesData(source="images", path=str(tmp_path), image_size=3))
    assert dataset.facts["image_height"] == dataset.facts["image_width"] == 3
    raw = {split.raw(index).tobytes() for split in dataset.splits.values() for index in range(len(split))}
    assert raw == {image.tobytes() for image in random_images(50, 3, 3)}
    assert {"step": "scale", "size": 3} in dataset.manifest["preprocessing"]


def test_parts_of_different_sizes_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path, 50)
    write(tmp_path / "t10k-images-idx3-ubyte", packed(random_images(6, 7, 5)))
    write(tmp_path / "t10k-labels-idx1-ubyte", packed(np.arange(6) % 3))
    with pytest.raises(DataError, match=r"7 × 5 pixels.*5 × 7"):
        images.load(ImagesData(source="images", path=str(tmp_path)))


def test_official_without_a_test_part_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path, 50)
    with pytest.raises(DataError, match="no test or validation part"):
        images.load(ImagesData(source="images", path=str(tmp_path), split="official"))


def test_a_second_test_part_is_refused(tmp_path: Path) -> None:
    write_set(write_set(tmp_path / "a", 50), 20, "t10k")
    write_set(tmp_path / "b", 20)
    with pytest.raises(ConfigError, match="already has a test part"):
        images.load(ImagesData(source="images", path=str(tmp_path / "a"), test=str(tmp_path / "b")))


def test_a_folder_given_as_test_may_not_bring_its_training_images(tmp_path: Path) -> None:
    """`data.test` names a folder with a train and a t10k part: only the latter are test images, or it is refused."""
    write_set(tmp_path / "a", 50)
    write_set(write_set(tmp_path / "b", 40), 20, "t10k")
    try:
        dataset = images.load(ImagesData(source="images", path=str(tmp_path / "a"), test=str(tmp_path / "b")))
    except (ConfigError, DataError):
        return
    assert len(dataset.splits["test"]) == 20


def test_fashion_mnist(real_data: Path) -> None:
    """Counts and mean as the set's authors give them (Xiao, Rasul & Vollgraf 2017)."""
    dataset = images.load(ImagesData(source="images", path=str(real_data / "fashion-mnist")))
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    assert sizes["test"] == 10_000
    assert sizes["train"] + sizes["validation"] == 60_000
    assert abs(sizes["validation"] - 6000) < 4 * (60_000 * 0.09) ** 0.5
    assert dataset.facts == {"in_channels": 1, "image_height": 28, "image_width": 28, "num_classes": 10}
    assert dataset.encoding.dark_border
    assert dataset.encoding.mean[0] == pytest.approx(0.2860, abs=0.002)
    assert dataset.encoding.std[0] == pytest.approx(0.3530, abs=0.002)
    test = dataset.splits["test"]
    assert np.bincount(test.labels[test.indices]).tolist() == [1000] * 10
    assert [test.example(index, 1)["label"] for index in range(5)] == [9, 2, 1, 1, 6]
