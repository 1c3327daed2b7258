"""Canonical JSON and digests."""

import hashlib
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassrun.digest import canonical_json, digest_bytes, digest_value

properties = settings(max_examples=50, deadline=None)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


def reversed_keys(value):
    """The same value with every mapping in the opposite order."""
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(list(value))}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


def test_canonical_json_hand_written():
    value = {"z": [1, 2.5, -0.0], "a": {"é": "⟨ ⟩", "b": None}, "B": True}
    assert canonical_json(value) == '{"B":true,"a":{"b":null,"é":"⟨ ⟩"},"z":[1,2.5,-0.0]}'


def test_tuples_are_lists():
    # Recipes hold tuples, their JSON form lists: both must have one digest.
    assert digest_value({"betas": (0.9, 0.999)}) == digest_value({"betas": [0.9, 0.999]})


@properties
@given(plain)
def test_reading_it_gives_the_value_again(value):
    assert json.loads(canonical_json(value)) == value


@properties
@given(plain)
def test_order_of_keys_does_not_matter(value):
    assert canonical_json(reversed_keys(value)) == canonical_json(value)
    assert digest_value(reversed_keys(value)) == digest_value(value)


@properties
@given(plain, plain)
def test_other_values_have_other_digests(first, second):
    assert (digest_value(first) == digest_value(second)) == (canonical_json(first) == canonical_json(second))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [{"a": math.nan}]])
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


def test_floats_keep_every_bit():
    neighbours = [0.1, math.nextafter(0.1, 1), 1e-3, 1e-300, 5e-324, 1.0, -0.0, 0.0]
    assert [float(canonical_json(x)).hex() for x in neighbours] == [x.hex() for x in neighbours]
    assert len({digest_value(x) for x in neighbours}) == len(neighbours)


def test_an_integer_is_no_float_and_true_is_no_one():
    assert len({digest_value(value) for value in (1, 1.0, True, "1")}) == 4


def test_digest_is_blake2b_of_128_bits():
    # Of the empty text, as `b2sum -l 128 /dev/null` prints it.
    assert digest_bytes(b"") == "cae66941d9efbd404e4d88758ea67670"


@properties
@given(st.binary(max_size=40), st.binary(max_size=40))
def test_digests_tell_bytes_apart(first, second):
    assert len(digest_bytes(first)) == 32
    assert (digest_bytes(first) == digest_bytes(second)) == (first == second)


def test_digest_of_a_value_is_that_of_its_text_in_utf8():
    assert digest_value({"é": 1}) == hashlib.blake2b('{"é":1}'.encode(), digest_size=16).hexdigest()
