"""Picture files: every format that is listed, and a DataError that names the file for whatever is damaged."""

from __future__ import annotations

import gc
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from glassrun.data import pictures
from glassrun.errors import DataError

PROPERTY = settings(max_examples=150, deadline=None, database=None, derandomize=True)
FORMAT = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".pgm": "PPM",
    ".ppm": "PPM",
}
LOSSLESS = (".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
COLOURS = np.array([[[200, 30, 40], [0, 0, 0], [10, 220, 90]], [[255, 255, 255], [1, 2, 3], [40, 50, 250]]], np.uint8)
GREYS = np.array([[0, 17, 34], [200, 254, 255]], np.uint8)


@pytest.fixture(autouse=True)
def _left_open() -> Iterator[None]:
    """A file that is left open warns when it is collected: here, so that the warning fails the test that left it."""
    yield
    gc.collect()


def file_bytes(image: Image.Image, suffix: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, FORMAT[suffix], **({"lossless": True, "exact": True} if suffix == ".webp" else {}))
    return stream.getvalue()


def write(path: Path, image: Image.Image) -> Path:
    path.write_bytes(file_bytes(image, path.suffix))
    return path


def test_every_suffix_is_tested_here() -> None:
    assert set(FORMAT) == set(pictures.SUFFIXES)


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_colour_is_read_exactly(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", Image.fromarray(COLOURS))
    found = pictures.read(path, 3)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, COLOURS.transpose(2, 0, 1))
    assert pictures.size_and_channels(path) == (2, 3, 3)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tif", ".pgm", ".gif"])
def test_grey_is_read_exactly(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", Image.fromarray(GREYS))
    np.testing.assert_array_equal(pictures.read(path, 1), GREYS[None])
    np.testing.assert_array_equal(pictures.read(path, 3), [GREYS] * 3)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".pgm", ".jpg"])
def test_grey_has_one_channel(tmp_path: Path, suffix: str) -> None:
    assert pictures.size_and_channels(write(tmp_path / f"a{suffix}", Image.fromarray(GREYS))) == (2, 3, 1)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_jpeg_is_read_roughly(tmp_path: Path, suffix: str) -> None:
    smooth = np.add.outer(np.arange(16) * 5, np.arange(24) * 5).astype(np.uint8)
    path = write(tmp_path / f"a{suffix}", Image.fromarray(np.stack([smooth, smooth, 255 - smooth], -1)))
    found = pictures.read(path, 3).astype(int)
    np.testing.assert_allclose(found, [smooth, smooth, 255 - smooth.astype(int)], atol=16)
    assert pictures.size_and_channels(path) == (16, 24, 3)


def test_colour_as_grey_is_the_luma_of_itu_r_601(tmp_path: Path) -> None:
    found = pictures.read(write(tmp_path / "a.png", Image.fromarray(COLOURS)), 1)
    np.testing.assert_allclose(found[0], COLOURS @ np.array([0.299, 0.587, 0.114]), atol=1)


def test_a_palette_gives_its_colours(tmp_path: Path) -> None:
    image = Image.new("P", (3, 2))
    image.putpalette([200, 30, 40, 0, 0, 255])
    image.putdata([0, 1, 0, 1, 1, 0])
    path = write(tmp_path / "a.png", image)
    found = pictures.read(path, 3)
    assert found[:, 0, 0].tolist() == [200, 30, 40]
    assert found[:, 0, 1].tolist() == [0, 0, 255]
    assert found[:, 1, 2].tolist() == [200, 30, 40]
    assert pictures.size_and_channels(path)[2] == 3


def test_black_and_white(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", Image.fromarray(np.array([[True, False]])))
    assert pictures.read(path, 1).tolist() == [[[255, 0]]]
    assert pictures.size_and_channels(path) == (1, 2, 1)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_what_is_transparent_lies_on_white(tmp_path: Path, suffix: str) -> None:
    values = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 100, 200, 51]]], np.uint8)
    path = write(tmp_path / f"a{suffix}", Image.fromarray(values))
    found = pictures.read(path, 3)
    assert found[:, 0, 0].tolist() == [255, 255, 255]
    assert found[:, 0, 1].tolist() == [10, 20, 30]
    np.testing.assert_allclose(found[:, 0, 2], [204, 224, 244], atol=1)  # 0.2 · colour + 0.8 · 255
    assert pictures.size_and_channels(path)[2] == 3


def test_transparent_grey_and_palette_lie_on_white(tmp_path: Path) -> None:
    grey = write(tmp_path / "grey.png", Image.merge("LA", [Image.new("L", (2, 1), 8), Image.new("L", (2, 1), 0)]))
    assert pictures.read(grey, 1).tolist() == [[[255, 255]]]
    assert pictures.size_and_channels(grey)[2] == 1
    image = Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 4, 5, 6])
    image.putdata([0, 1])
    for suffix, format_name in ((".png", "PNG"), (".gif", "GIF")):
        path = tmp_path / f"palette{suffix}"
        image.save(path, format_name, transparency=0)
        assert pictures.read(path, 3)[:, 0].T.tolist() == [[255, 255, 255], [4, 5, 6]]


def test_one_grey_level_may_be_transparent(tmp_path: Path) -> None:
    Image.fromarray(GREYS).save(tmp_path / "a.png", transparency=17)
    assert pictures.read(tmp_path / "a.png", 1).tolist() == [[[0, 255, 34], [200, 254, 255]]]


SIXTEEN = np.array([[0, 255, 256, 4095], [32768, 65279, 65280, 65535]], np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_of_grey_keep_the_upper_eight(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", Image.fromarray(SIXTEEN))
    np.testing.assert_array_equal(pictures.read(path, 1), SIXTEEN[None] >> 8)
    np.testing.assert_array_equal(pictures.read(path, 3), [SIXTEEN >> 8] * 3)
    assert pictures.size_and_channels(path) == (2, 4, 1)


def test_sixteen_bits_of_grey_in_either_byte_order(tmp_path: Path) -> None:
    """A big-endian TIFF with one strip, written by hand (TIFF 6.0, section 2)."""
    tags = [(256, 4), (257, 2), (258, 16), (259, 1), (262, 1), (273, 122), (277, 1), (278, 2), (279, 16)]
    fields = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    data = b"MM\0*" + struct.pack(">IH", 8, len(tags)) + fields + bytes(4)
    assert len(data) == 122
    (tmp_path / "a.tif").write_bytes(data + SIXTEEN.astype(">u2").tobytes())
    np.testing.assert_array_equal(pictures.read(tmp_path / "a.tif", 1), SIXTEEN[None] >> 8)


def test_sixteen_bits_of_grey_with_a_transparent_level_keep_their_values(tmp_path: Path) -> None:
    Image.fromarray(SIXTEEN).save(tmp_path / "a.png", transparency=0)
    expected = (SIXTEEN >> 8).astype(int)
    expected[0, 0] = 255
    np.testing.assert_array_equal(pictures.read(tmp_path / "a.png", 1), [expected])


def test_only_the_first_frame_of_an_animation_is_read(tmp_path: Path) -> None:
    frames = [Image.new("L", (3, 2), level) for level in (50, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert pictures.read(tmp_path / "a.gif", 1).tolist() == [[[50] * 3] * 2]


def test_the_suffix_does_not_decide_the_format(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(file_bytes(Image.fromarray(COLOURS), ".png"))
    np.testing.assert_array_equal(pictures.read(tmp_path / "a.jpg", 3), COLOURS.transpose(2, 0, 1))


# --- what is refused -------------------------------------------------------------------------------------------------


def refused(path: Path, message: str = "found") -> None:
    """Both ways of reading refuse a file with a DataError that names it."""
    with pytest.raises(DataError, match=message) as error:
        pictures.size_and_channels(path)
    assert str(path) in str(error.value)
    with pytest.raises(DataError, match=message) as error:
        pictures.read(path, 3)
    assert str(path) in str(error.value)


def test_what_is_no_picture_is_told_without_pillows_stream(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"not a picture")
    refused(tmp_path / "a.png", r"expected a picture \(PNG, .*\), found none of these forms$")


def png(width: int, height: int, body: bytes) -> bytes:
    """A grey PNG file by hand, so that its header can say anything."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def test_the_hand_made_png_is_a_png(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(3, 2, b"\0\1\2\3\0\4\5\6"))
    assert pictures.read(tmp_path / "a.png", 1).tolist() == [[[1, 2, 3], [4, 5, 6]]]


@pytest.mark.parametrize("size", [(8001, 8000), (64_000_001, 1), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_a_huge_number_of_pixels_is_refused_before_they_are_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "bomb.png").write_bytes(png(*size, b""))
    refused(tmp_path / "bomb.png", r"found \d+ × \d+|exceeds limit of")


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"not a picture\n", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"name{suffix}"
    path.write_bytes(content)
    refused(path, "expected a picture")


def test_a_format_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png", "ICO", sizes=[(16, 16)])
    refused(tmp_path / "a.png", "none of these forms")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "missing.png", "found nothing")
    refused(tmp_path, "found a folder")


@pytest.mark.parametrize("suffix", [s for s in FORMAT if s not in (".tiff", ".jpeg")])
def test_a_picture_cut_in_half_is_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (17, 13, 3), dtype=np.uint8)
    whole = file_bytes(Image.fromarray(noise), suffix)
    path = tmp_path / f"half{suffix}"
    path.write_bytes(whole[: len(whole) // 2])
    refused(path)


@pytest.mark.parametrize("place", [45, -20])
def test_a_png_with_a_wrong_bit_is_refused(tmp_path: Path, place: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (17, 13, 3), dtype=np.uint8)
    data = bytearray(file_bytes(Image.fromarray(noise), ".png"))
    data[place] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    refused(tmp_path / "a.png")


@PROPERTY
@given(data=st.data(), suffix=st.sampled_from(sorted(FORMAT)))
def test_whatever_happens_to_a_file_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, suffix: str
) -> None:
    """Bytes changed and the end cut off: a picture of the right type, or a DataError with the file's name."""
    content = bytearray(file_bytes(Image.fromarray(COLOURS), suffix))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"fuzzed{suffix}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        height, width, channels = pictures.size_and_channels(path)
        found = pictures.read(path, channels)
    except DataError as error:
        message = str(error)
    else:
        message = str(path)
        assert found.shape == (channels, height, width)
    assert str(path) in message


# --- scaling ---------------------------------------------------------------------------------------------------------


def test_scaling_down_averages_areas() -> None:
    pixels = np.array([[[0, 4, 10, 10], [8, 4, 10, 30]], [[1, 1, 3, 3], [1, 1, 3, 3]]], np.uint8)
    assert pictures.scaled(pixels, 1, 2).tolist() == [[[4, 15]], [[1, 3]]]


def test_scaling_up_is_bilinear() -> None:
    # Samples lie at the centres of pixels: at −1/4, 1/4, 3/4 and 5/4 of the way from the first to the second.
    assert pictures.scaled(np.array([[[0, 100]]], np.uint8), 1, 4).tolist() == [[[0, 25, 75, 100]]]


def test_the_same_size_is_left_alone() -> None:
    np.testing.assert_array_equal(pictures.scaled(GREYS[None], 2, 3), GREYS[None])


def test_height_and_width_are_not_swapped() -> None:
    assert pictures.scaled(np.zeros((3, 10, 14), np.uint8), 5, 7).shape == (3, 5, 7)
