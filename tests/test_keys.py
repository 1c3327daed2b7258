"""Keyed randomness."""

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from glassrun.keys import derive

properties = settings(max_examples=50, deadline=None)
seeds = st.integers(0, 2**63 - 1)
purposes = st.lists(st.one_of(st.text(max_size=5), st.integers()), max_size=4)


def test_the_hashed_bytes_written_out():
    # Each part: its length in four bytes, its type's letter, its text. Recorded runs need exactly these keys again.
    data = b"\x02\0\0\0i1" + b"\x08\0\0\0sdropout" + b"\x03\0\0\0i-7" + b"\x03\0\0\0s\xc3\xbc"
    expected = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") // 2
    assert derive(1, "dropout", -7, "ü") == expected


@properties
@given(seeds, purposes)
def test_a_key_fits_a_generator_and_repeats(seed, purpose):
    key = derive(seed, *purpose)
    assert 0 <= key < 2**63
    assert key == derive(seed, *purpose)


@properties
@given(seeds, purposes, seeds, purposes)
def test_other_seeds_and_purposes_give_other_keys(seed, purpose, other_seed, other_purpose):
    # A collision by chance is a matter of 2⁻⁶³.
    same = (seed, purpose) == (other_seed, other_purpose)
    assert (derive(seed, *purpose) == derive(other_seed, *other_purpose)) == same


def test_parts_keep_their_type_border_and_order():
    ways = [
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        ("abc", ""),
        ("", "abc"),
        ("c", "ab"),
        ("1",),
        (1,),
        ("i1",),
        (1, 2),
        (12,),
        (2, 1),
        (),
        ("",),
        (-1,),
    ]
    assert len({derive(1, *way) for way in ways}) == len(ways)


def test_keys_spread_over_the_whole_range():
    # 4,096 keys, a quarter of them in each quarter of the range; 5 standard errors (139) are allowed.
    keys = [derive(1, "order", i) for i in range(4096)]
    for quarter in range(4):
        count = sum(key >> 61 == quarter for key in keys)
        assert abs(count - 1024) < 139
    assert any(key % 2 for key in keys)
    assert any(key % 2 == 0 for key in keys)
