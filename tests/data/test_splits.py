"""Splits by a hash of content."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassrun.data.splits import SHARES, WITHOUT_TEST, by_hash, content_key, digest_of_keys

PROPERTY = settings(max_examples=30, deadline=None, database=None, derandomize=True)


def split_of(contents: list[bytes]) -> dict[bytes, str]:
    indices = by_hash([content_key(content) for content in contents])
    return {contents[index]: name for name, chosen in indices.items() for index in chosen.tolist()}


@PROPERTY
@given(
    contents=st.lists(st.binary(max_size=8), min_size=1, max_size=60, unique=True),
    added=st.lists(st.binary(min_size=9, max_size=12), max_size=60, unique=True),
    random=st.randoms(use_true_random=False),
)
def test_adding_examples_moves_none_of_the_others(contents: list[bytes], added: list[bytes], random) -> None:
    before = split_of(contents)
    more = [*contents, *added]
    random.shuffle(more)
    after = split_of(more)
    assert {content: after[content] for content in contents} == before


@PROPERTY
@given(contents=st.lists(st.binary(max_size=8), min_size=1, max_size=100))
def test_every_example_is_in_exactly_one_split_and_in_order(contents: list[bytes]) -> None:
    indices = by_hash([content_key(content) for content in contents])
    assert list(indices) == ["train", "validation", "test"]
    assert sorted(np.concatenate(list(indices.values())).tolist()) == list(range(len(contents)))
    for chosen in indices.values():
        assert all(a < b for a, b in pairwise(chosen.tolist()))


def test_equal_content_is_in_one_split() -> None:
    contents = [b"twin"] * 50
    indices = by_hash([content_key(content) for content in contents])
    assert sorted(len(chosen) for chosen in indices.values()) == [0, 0, 50]


@pytest.mark.parametrize("shares", [SHARES, WITHOUT_TEST])
def test_shares_are_roughly_right(shares: dict[str, float]) -> None:
    """10,000 keys: each share within four standard deviations of the binomial distribution."""
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-12)
    found = by_hash([content_key(str(number).encode()) for number in range(10_000)], shares)
    assert list(found) == list(shares)
    for name, share in shares.items():
        assert abs(len(found[name]) - 10_000 * share) < 4 * (10_000 * share * (1 - share)) ** 0.5


@pytest.mark.parametrize(
    ("value", "split"),
    [
        (0.0, "train"),
        (0.7999, "train"),
        (0.8, "validation"),
        (0.8001, "validation"),
        (0.8999, "validation"),
        (0.9001, "test"),
        (0.999999, "test"),
    ],
)
def test_the_first_eight_bytes_decide_little_endian(value: float, split: str) -> None:
    key = int(value * 2**64).to_bytes(8, "little")
    for rest in (bytes(8), b"\xff" * 8):
        assert by_hash([key + rest])[split].tolist() == [0]


def test_the_largest_key_is_in_the_last_split() -> None:
    assert by_hash([b"\xff" * 16])["test"].tolist() == [0]


def test_content_key_is_blake2b_over_parts_with_their_lengths() -> None:
    expected = hashlib.blake2b(
        (2).to_bytes(8, "little") + b"ab" + (0).to_bytes(8, "little") + (1).to_bytes(8, "little") + b"c", digest_size=16
    ).digest()
    assert content_key(b"ab", b"", b"c") == expected


def test_content_key_keeps_parts_apart() -> None:
    keys = {content_key(*parts) for parts in [(b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"abc", b""), (b"", b"abc")]}
    assert len(keys) == 5


def test_digest_of_keys_depends_on_every_key_and_their_order() -> None:
    first, second = content_key(b"1"), content_key(b"2")
    digests = {digest_of_keys(keys) for keys in ([], [first], [second], [first, second], [second, first])}
    assert len(digests) == 5
    assert digest_of_keys([first, second]) == hashlib.blake2b(first + second, digest_size=16).hexdigest()
