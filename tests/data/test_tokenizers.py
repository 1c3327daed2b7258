"""Characters, bytes and words as tokens."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassrun.data.tokenizers import (
    BEGIN,
    END,
    PADDING,
    SPECIALS,
    UNKNOWN,
    ByteTokenizer,
    CharTokenizer,
    Spelling,
    Tokenizer,
    WordTokenizer,
)
from glassrun.data.tokenizing import from_plain
from glassrun.errors import DataError

PROPERTY = settings(max_examples=30, deadline=None, database=None, derandomize=True)


def test_the_special_tokens_come_first() -> None:
    assert (PADDING, BEGIN, END, UNKNOWN) == (0, 1, 2, 3)
    assert len(SPECIALS) == 4


@PROPERTY
@given(text=st.text(), special=st.booleans())
def test_what_is_encoded_is_decoded(text: str, special: bool) -> None:
    tokenizers: list[Tokenizer] = [CharTokenizer(text, special=special), ByteTokenizer(special=special)]
    for tokenizer in tokenizers:
        tokens = tokenizer.encode(text)
        assert all(4 * special <= token < tokenizer.size for token in tokens.tolist())
        assert tokenizer.decode(tokens.tolist()) == text
        assert tokenizer.decode(tokens) == text  # NumPy's integers too
        assert len(tokenizer.shown(tokens.tolist())) == len(tokens)


@PROPERTY
@given(text=st.text(min_size=1), special=st.booleans())
def test_a_plain_form_gives_the_same_tokenizer(text: str, special: bool) -> None:
    for tokenizer in (CharTokenizer(text, special=special), ByteTokenizer(special=special)):
        again = from_plain(json.loads(json.dumps(tokenizer.to_plain())))
        assert type(again) is type(tokenizer)
        assert again.size == tokenizer.size
        assert again.encode(text).tolist() == tokenizer.encode(text).tolist()


def test_characters_are_sorted_by_code_point() -> None:
    tokenizer = CharTokenizer("é\U0001f600bab", special=False)
    assert tokenizer.characters == "abé\U0001f600"
    assert tokenizer.size == 4
    assert tokenizer.encode("ba\U0001f600é").tolist() == [1, 0, 3, 2]
    assert CharTokenizer("é\U0001f600bab", special=True).encode("ba\U0001f600é").tolist() == [5, 4, 7, 6]


def test_the_order_of_the_text_does_not_matter() -> None:
    assert CharTokenizer("hello", special=True).to_plain() == CharTokenizer("oellh", special=True).to_plain()


def test_unknown_characters_become_the_unknown_token() -> None:
    tokenizer = CharTokenizer("bd", special=True)
    # below, between and beyond the known ones
    assert tokenizer.encode("abcde\U0001f600").tolist() == [UNKNOWN, 4, UNKNOWN, 5, UNKNOWN, UNKNOWN]
    assert tokenizer.decode(tokenizer.encode("abcde").tolist()) == "bd"


def test_without_an_unknown_token_unknown_characters_are_an_error_that_names_them() -> None:
    with pytest.raises(DataError, match=r"'c', 'e'\. It knows 2: 'bd'"):
        CharTokenizer("bd", special=False).encode("bcdebec")


def test_an_empty_vocabulary_knows_nothing() -> None:
    assert CharTokenizer("", special=True).encode("ab").tolist() == [UNKNOWN, UNKNOWN]
    with pytest.raises(DataError, match="'a'"):
        CharTokenizer("", special=False).encode("a")


@pytest.mark.parametrize("special", [False, True])
def test_an_empty_text_has_no_tokens(special: bool) -> None:
    assert CharTokenizer("ab", special=special).encode("").tolist() == []
    assert ByteTokenizer(special=special).encode("").tolist() == []


@pytest.mark.parametrize(
    ("count", "special", "dtype"),
    [
        (252, True, np.uint8),
        (253, True, np.uint16),
        (256, False, np.uint8),
        (257, False, np.uint16),
        (65536, False, np.uint16),
        (65533, True, np.uint32),
    ],
)
def test_tokens_are_in_the_smallest_type(count: int, special: bool, dtype: type) -> None:
    characters = "".join(map(chr, range(0x10000, 0x10000 + count)))
    tokens = CharTokenizer(characters, special=special).encode(characters)
    assert tokens.dtype == dtype
    assert tokens.tolist() == list(range(4 * special, count + 4 * special))


def test_bytes_are_those_of_utf_8() -> None:
    assert ByteTokenizer(special=False).encode("aé€").tolist() == [0x61, 0xC3, 0xA9, 0xE2, 0x82, 0xAC]
    assert ByteTokenizer(special=True).encode("aÿ").tolist() == [0x61 + 4, 0xC3 + 4, 0xBF + 4]
    assert ByteTokenizer(special=False).size == 256
    assert ByteTokenizer(special=True).size == 260


def test_special_tokens_are_left_out_of_the_text() -> None:
    assert ByteTokenizer(special=True).decode([BEGIN, 0x68 + 4, UNKNOWN, 0x69 + 4, END, PADDING]) == "hi"
    assert CharTokenizer("hi", special=True).decode([BEGIN, 4, UNKNOWN, 5, END, PADDING]) == "hi"


def test_bytes_that_are_no_utf_8_are_shown_as_the_replacement_character() -> None:
    assert ByteTokenizer(special=False).decode([0x61, 0xC3, 0x62]) == "a�b"


def test_shown_tokens_are_visible() -> None:
    assert CharTokenizer("\t\n a\x00", special=True).shown([0, 1, 2, 3, 4, 5, 6, 7, 8]) == [*SPECIALS, *"�⇥↵␣a"]
    assert ByteTokenizer(special=True).shown([0, 1, 2, 3, 4, 0x20 + 4, 0x41 + 4, 0xC3 + 4]) == [*SPECIALS, *"�␣A", "C3"]
    assert ByteTokenizer(special=False).shown([0x0A, 0x80]) == ["↵", "80"]


def test_a_lone_surrogate_is_unknown_to_characters() -> None:
    """Python gives one for every byte of the command line that is no UTF-8."""
    assert CharTokenizer("a", special=True).encode("a\udcff").tolist() == [4, UNKNOWN]
    with pytest.raises(DataError, match="udcff"):
        CharTokenizer("a", special=False).encode("\udcff")


@pytest.mark.parametrize("special", [False, True])
def test_a_lone_surrogate_is_a_data_error_for_bytes(special: bool) -> None:
    """It has no bytes in UTF-8; the error must be one of ours, not UnicodeEncodeError."""
    with pytest.raises(DataError):
        ByteTokenizer(special=special).encode("a\udcff")


# --- words -----------------------------------------------------------------------------------------------------------


def test_words_are_tokens_after_the_special_ones_in_order() -> None:
    tokenizer = WordTokenizer(["the", "a", "Öl", "the"])
    assert tokenizer.size == 7
    assert tokenizer.encode("  the Öl\ta \n").tolist() == [5, 6, 4]
    assert tokenizer.encode("").tolist() == []
    assert tokenizer.decode([BEGIN, 5, UNKNOWN, 6, END, PADDING]) == "the Öl"
    assert tokenizer.shown([BEGIN, 5, END]) == [SPECIALS[BEGIN], "the", SPECIALS[END]]
    assert tokenizer.starts.tolist() == [0, 0, 0, 0, 2, 4, 3]


def test_an_unknown_word_is_refused_and_the_known_ones_are_listed() -> None:
    with pytest.raises(DataError, match=r"the word 'cats'; did you mean 'cat'\? Known: cat, dog, the$"):
        WordTokenizer(["dog", "the", "cat"]).encode("the cats")


@PROPERTY
@given(words=st.lists(st.from_regex(r"[^\s]{1,5}", fullmatch=True), min_size=1))
def test_words_come_back_and_so_does_the_tokenizer(words: list[str]) -> None:
    tokenizer = WordTokenizer(words)
    tokens = tokenizer.encode(" ".join(words))
    assert tokenizer.decode(tokens.tolist()) == " ".join(words)
    assert from_plain(json.loads(json.dumps(tokenizer.to_plain()))).encode(" ".join(words)).tolist() == tokens.tolist()
    spelling = Spelling(tokenizer)
    assert "".join(spelling.add(token) for token in tokens.tolist()) == " ".join(words) + " "
    assert tokenizer.spelled(tokens).tobytes().decode() == " ".join(words) + " "
