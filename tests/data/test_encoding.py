"""How pictures and texts become a model's input, and the plain form that a run keeps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glassrun.data.encoding import ImageEncoding, PairEncoding, TextEncoding, border_mean, from_plain
from glassrun.data.tokenizers import BEGIN, END, UNKNOWN, ByteTokenizer, CharTokenizer
from glassrun.errors import DataError

GREY = ImageEncoding(("a", "b"), 1, 3, 5, 255, mean=(0.25,), std=(0.5,), dark_border=False, ink=1.0)
DARK = ImageEncoding(("a", "b"), 1, 3, 5, 255, mean=(0.25,), std=(0.5,), dark_border=True, ink=1.0)
COLOUR = ImageEncoding(("a", "b"), 3, 2, 7, 255, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25), dark_border=True, ink=1.0)
FEW_LEVELS = ImageEncoding(("a", "b"), 1, 3, 5, 16, mean=(0.25,), std=(0.5,), dark_border=False, ink=1.0)


def saved(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def test_normalise_is_the_formula() -> None:
    pixels = np.array([[[0, 51, 255]]], dtype=np.uint8)
    found = GREY.normalise(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[[-0.5, -0.1, 1.5]]], rtol=1e-7)


def test_normalise_uses_the_levels() -> None:
    np.testing.assert_array_equal(FEW_LEVELS.normalise(np.array([[[0, 4, 16]]], np.uint8)), [[[-0.5, 0.0, 1.5]]])


def test_normalise_takes_each_channel_by_its_own_values() -> None:
    pixels = np.full((3, 2, 7), 255, dtype=np.uint8)
    pixels[:, 0] = 0
    found = COLOUR.normalise(pixels)
    assert found.shape == (3, 2, 7)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 0, 0], [0.0, -1.0, -4.0])
    np.testing.assert_array_equal(found[:, 1, 6], [1.0, 1.0, 0.0])


def test_a_picture_of_the_right_size_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = np.arange(15, dtype=np.uint8).reshape(3, 5) * 17
    found = GREY.encode(saved(tmp_path / "a.png", pixels))
    np.testing.assert_array_equal(found, GREY.normalise(pixels[None]))


def test_a_picture_is_brought_to_the_levels_of_the_training_images(tmp_path: Path) -> None:
    levels = np.array([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 15, 16]], dtype=np.uint8)
    found = FEW_LEVELS.encode(saved(tmp_path / "a.png", np.round(levels * (255 / 16))))
    np.testing.assert_array_equal(found, FEW_LEVELS.normalise(levels[None]))


def test_a_larger_picture_is_averaged_over_areas(tmp_path: Path) -> None:
    pixels = np.kron(np.arange(15).reshape(3, 5) * 10, np.array([[0, 2], [2, 4]]) * 0 + 1) + np.tile(
        [[0, 2], [2, 4]], (3, 5)
    )
    found = GREY.encode(saved(tmp_path / "a.png", pixels))
    expected = np.arange(15, dtype=np.uint8).reshape(1, 3, 5) * 10 + 2
    np.testing.assert_array_equal(found, GREY.normalise(expected))


def test_ink_on_paper_is_inverted_where_the_training_images_are_bright_on_dark(tmp_path: Path) -> None:
    paper = np.full((3, 5), 255, dtype=np.uint8)
    paper[1, 1:4] = 0
    path = saved(tmp_path / "paper.png", paper)
    np.testing.assert_array_equal(DARK.encode(path), DARK.normalise(255 - paper[None]))
    np.testing.assert_array_equal(GREY.encode(path), GREY.normalise(paper[None]))


def test_a_picture_that_is_bright_on_dark_already_is_not_inverted(tmp_path: Path) -> None:
    slate = np.zeros((3, 5), dtype=np.uint8)
    slate[1, 1:4] = 255
    np.testing.assert_array_equal(DARK.encode(saved(tmp_path / "a.png", slate)), DARK.normalise(slate[None]))


def test_colour_is_never_inverted(tmp_path: Path) -> None:
    pixels = np.full((2, 7, 3), 255, dtype=np.uint8)
    path = saved(tmp_path / "a.png", pixels)
    np.testing.assert_array_equal(COLOUR.encode(path), COLOUR.normalise(pixels.transpose(2, 0, 1)))


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(DataError, match=r"a\.png"):
        GREY.encode(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"missing\.png"):
        GREY.encode(tmp_path / "missing.png")


def test_border_mean_by_hand() -> None:
    image = np.array([[[1, 2, 3], [4, 100, 5], [6, 7, 8]]], dtype=np.uint8)
    assert border_mean(image) == 36 / 8
    assert border_mean(np.array([[[7]]], np.uint8)) == 7.0  # an image may be all border
    assert border_mean(np.array([[[1, 2], [3, 6]]], np.uint8)) == 3.0
    assert border_mean(np.array([[[0, 200, 2]]] * 2, np.uint8)) == 202 / 3
    assert border_mean(np.full((3, 50, 50), 255, np.uint8)) == 255.0  # sums beyond a byte


def test_source_ends_and_target_begins_and_ends() -> None:
    encoding = PairEncoding(CharTokenizer("ab", special=True), ByteTokenizer(special=True), max_length=4)
    assert encoding.encode_source("abx").tolist() == [4, 5, UNKNOWN, END]
    assert encoding.encode_target("é").tolist() == [BEGIN, 0xC3 + 4, 0xA9 + 4, END]
    assert encoding.encode_target("").tolist() == [BEGIN, END]
    assert encoding.encode_source("a").dtype == encoding.encode_target("a").dtype == np.int64


def test_lower_case_on_both_sides() -> None:
    encoding = PairEncoding(CharTokenizer("ab", special=True), CharTokenizer("ä", special=True), 4, lowercase=True)
    assert encoding.encode_source("aB").tolist() == [4, 5, END]
    assert encoding.encode_target("Ä").tolist() == [BEGIN, 4, END]


@pytest.mark.parametrize("text", ["", "abab"])
def test_a_source_that_is_empty_or_too_long_is_refused(text: str) -> None:
    encoding = PairEncoding(CharTokenizer("ab", special=True), CharTokenizer("ab", special=True), max_length=4)
    with pytest.raises(DataError, match=rf"1 to 3 tokens, found {len(text)}"):
        encoding.encode_source(text)


@pytest.mark.parametrize(
    "encoding",
    [
        GREY,
        COLOUR,
        TextEncoding(CharTokenizer("ab\u2028\U0001f600", special=False), 7),
        TextEncoding(ByteTokenizer(special=False), 11),
        PairEncoding(CharTokenizer("ab", special=True), ByteTokenizer(special=True), 13),
        PairEncoding(CharTokenizer("ab", special=True), ByteTokenizer(special=True), 13, lowercase=True),
    ],
    ids=["grey", "colour", "characters", "bytes", "pair", "lower case"],
)
def test_the_plain_form_gives_the_same_encoding(encoding: ImageEncoding | TextEncoding | PairEncoding) -> None:
    plain = json.loads(json.dumps(encoding.to_plain()))
    again = from_plain(plain)
    assert type(again) is type(encoding)
    assert again.to_plain() == encoding.to_plain()
    if isinstance(encoding, ImageEncoding):
        assert again == encoding
    elif isinstance(encoding, TextEncoding):
        assert isinstance(again, TextEncoding)
        assert again.context == encoding.context
        assert again.tokenizer.encode("ab").tolist() == encoding.tokenizer.encode("ab").tolist()
    else:
        assert isinstance(again, PairEncoding)
        assert again.encode_source("abé").tolist() == encoding.encode_source("abé").tolist()
        assert again.encode_target("abé").tolist() == encoding.encode_target("abé").tolist()
