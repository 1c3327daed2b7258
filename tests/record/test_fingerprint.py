"""The fingerprint against the formula of its docstring, written again here in plain Python integers."""

import hashlib
import struct
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from glassrun.record.fingerprint import (
    Fingerprinter,
    as_words,
    combine,
    multipliers,
    stored_name,
    weighted_sum_torch,
)
from glassrun.record.words import weighted_sum

PROPERTY = settings(max_examples=30, deadline=None)
WORDS = st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=37)  # the bits of float32 elements


def multiplier(position: int) -> int:
    """mᵢ in unbounded integers: three bijections of 63-bit integers, then 2x + 1."""
    mask = 2**63 - 1
    x = (position + 0x1E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0x3F58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x14D049BB133111EB) & mask
    return 2 * (x ^ (x >> 31)) + 1


def reference(data: bytes, first_word: int = 0) -> int:
    """Σᵢ mixed(wᵢ) · mᵢ mod 2⁶⁴ over little-endian words, the last one padded with zeros."""
    padded = data + bytes(-len(data) % 8)
    words = struct.unpack(f"<{len(padded) // 8}Q", padded)
    return sum(mixed(w) * multiplier(first_word + i) for i, w in enumerate(words)) % 2**64


def mixed(word: int) -> int:
    """(w ⊕ (w ≫ 29)) · c, then x ⊕ (x ≫ 32)."""
    product = (word ^ (word >> 29)) * 0xBF58476D1CE4E5B9 % 2**64
    return product ^ (product >> 32)


def float32(bits: list[int]) -> Tensor:
    """Float32 elements that have these bits."""
    return torch.tensor(bits, dtype=torch.int64).to(torch.int32).view(torch.float32)


def print_of(bits: list[int]) -> int:
    return Fingerprinter()(float32(bits))


# --- the formula -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 1, 32_767, 2**31 - 3, 2**40])
def test_multipliers_are_the_formula(start: int) -> None:
    assert [m % 2**64 for m in multipliers(start, 11).tolist()] == [multiplier(start + i) for i in range(11)]


def test_multipliers_are_odd_and_never_repeat() -> None:
    table = multipliers(0, 200_003)
    assert bool((table & 1 == 1).all())
    assert len(set(table.tolist())) == 200_003


@pytest.mark.parametrize(
    ("tensor", "data"),
    [
        (torch.tensor([1.5, -2.0, 3.25]), struct.pack("<3f", 1.5, -2.0, 3.25)),
        (torch.tensor([0.1, -0.2], dtype=torch.float64), struct.pack("<2d", 0.1, -0.2)),
        (torch.tensor([1.5, -2.0, 0.5], dtype=torch.float16), struct.pack("<3e", 1.5, -2.0, 0.5)),
        (torch.tensor([1.0, -2.0, 3.0], dtype=torch.bfloat16), bytes.fromhex("803f00c04040")),
        (torch.tensor([-1, 2, -3], dtype=torch.int64), struct.pack("<3q", -1, 2, -3)),
        (torch.tensor([-1, 2, 3, -5, 7], dtype=torch.int16), struct.pack("<5h", -1, 2, 3, -5, 7)),
        (
            torch.tensor([1, 2, 3, 5, 7, 11, 13, 17, 19, 23, 255], dtype=torch.uint8),
            bytes([1, 2, 3, 5, 7, 11, 13, 17, 19, 23, 255]),
        ),
        (torch.tensor([True, False, True]), b"\1\0\1"),
        (torch.tensor([1.5 - 2.5j, 3.0 + 0.5j], dtype=torch.complex64), struct.pack("<4f", 1.5, -2.5, 3.0, 0.5)),
        (torch.tensor(3.0), struct.pack("<f", 3.0)),
        (torch.empty(0), b""),
        (torch.empty(0, 3, dtype=torch.int8), b""),
    ],
    ids=lambda value: f"{value.dtype}-{value.numel()}" if isinstance(value, Tensor) else "",
)
def test_fingerprint_is_the_formula_over_the_bytes(tensor: Tensor, data: bytes) -> None:
    assert Fingerprinter()(tensor) == reference(data)


def test_vectors() -> None:
    """Written down from `reference` above on 2026-11-24, so that a change of the formula in both places is seen."""
    assert reference(bytes(range(1, 9))) == print_of([0x04030201, 0x08070605])
    assert print_of([0x3F800000, 0]) == 101605494250571943
    assert print_of([0, 0x3F800000]) == 12873497345689107021
    assert print_of([0, 0, 1, 0]) == 3554657743914551140


def test_more_words_than_one_block() -> None:
    tensor = torch.arange(2**15 * 2 + 7, dtype=torch.int64) * 0x123456789ABCD
    assert Fingerprinter()(tensor) == reference(tensor.numpy().tobytes())


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t.t(),
        lambda t: t[::2],
        lambda t: t[:, 1:4],
        lambda t: t[1:],
        lambda t: t.reshape(-1)[3:],  # starts in the middle of a word
        lambda t: t.reshape(-1)[1:8],
        lambda t: t[:1].expand(5, 7),
        lambda t: t.flip(0),
    ],
)
def test_only_the_elements_count_not_how_they_lie(view) -> None:  # type: ignore[no-untyped-def]
    tensor = view(torch.arange(35, dtype=torch.float32).reshape(5, 7) - 17)
    assert Fingerprinter()(tensor) == reference(tensor.numpy().tobytes())


def test_a_tensor_that_only_remembers_its_conjugation_or_sign() -> None:
    conjugated = torch.tensor([1 + 2j, 3 - 5j], dtype=torch.complex64).conj()
    assert Fingerprinter()(conjugated) == reference(struct.pack("<4f", 1, -2, 3, 5))
    negated = torch.tensor([1 + 2j], dtype=torch.complex64).conj().imag
    assert Fingerprinter()(negated) == reference(struct.pack("<f", -2))


def test_a_tensor_in_a_graph() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    assert Fingerprinter()(weight) == reference(struct.pack("<3f", 1, 2, 3))


@PROPERTY
@given(st.binary(max_size=101), st.sampled_from([0, 1, 2, 3, 5, 8]))
def test_any_bytes_from_any_offset(data: bytes, offset: int) -> None:
    storage = torch.frombuffer(bytearray(offset) + bytearray(data) + bytearray(1), dtype=torch.uint8)
    assert Fingerprinter()(storage[offset : offset + len(data)]) == reference(data)


@PROPERTY
@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=67))
def test_the_numpy_and_the_torch_way_agree(values: list[int]) -> None:
    words = torch.tensor(values, dtype=torch.int64)
    table = multipliers(0, len(words))
    expected = reference(struct.pack(f"<{len(values)}q", *values))
    assert weighted_sum(words.numpy().view(np.uint64), table.numpy().view(np.uint64)) == expected
    assert int(weighted_sum_torch(words, table)) % 2**64 == expected


@PROPERTY
@given(st.binary(min_size=1, max_size=160), st.data())
def test_parts_add_up(data: bytes, draw: st.DataObject) -> None:
    cut = 8 * draw.draw(st.integers(0, len(data) // 8))
    tensor = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    fingerprinter = Fingerprinter()
    left, right = fingerprinter(tensor[:cut]), fingerprinter(tensor[cut:], first_word=cut // 8)
    assert (left + right) % 2**64 == fingerprinter(tensor)


def test_a_fingerprinter_gives_the_same_whatever_it_was_used_for_before() -> None:
    small, large = torch.arange(7.0), torch.arange(80_001.0)
    used = Fingerprinter()
    used(small)
    used(large)
    assert used(small) == Fingerprinter()(small)
    assert used(large) == Fingerprinter()(large)


@PROPERTY
@given(st.lists(st.sampled_from([0, 1, 3, 64, 1023, 1024, 1025, 5000, 8192, 8193, 20_000]), max_size=24))
def test_many_at_once_are_as_one_by_one(sizes: list[int]) -> None:
    tensors = [torch.arange(size, dtype=torch.int64) * 0x123456789ABCD + i for i, size in enumerate(sizes)]
    assert Fingerprinter().of_each(tensors) == [Fingerprinter()(tensor) for tensor in tensors]


def test_many_at_once_are_the_formula() -> None:
    tensors = [torch.arange(size, dtype=torch.int32) * 77_777 for size in (5, 0, 3000, 1, 20_001, 800)]
    assert Fingerprinter().of_each(tensors) == [reference(tensor.numpy().tobytes()) for tensor in tensors]


def test_several_threads_at_once() -> None:
    tensors = [torch.arange(size, dtype=torch.int64) * (i + 1) for i, size in enumerate([50, 900, 9000, 30_000] * 8)]
    expected = [reference(tensor.numpy().tobytes()) for tensor in tensors]
    fingerprinter = Fingerprinter()
    fingerprinter.reserve(tensors)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            assert list(pool.map(fingerprinter, tensors)) == expected


def test_words_are_bytes_padded_with_zeros() -> None:
    assert as_words(torch.tensor([1, 2, 3], dtype=torch.uint8)).tolist() == [0x030201]


# --- what must be seen -----------------------------------------------------------------------------------------------


def test_minus_zero_is_not_zero() -> None:
    assert Fingerprinter()(torch.tensor([0.0, -0.0])) != Fingerprinter()(torch.tensor([0.0, 0.0]))
    assert Fingerprinter()(torch.tensor(-0.0)) != Fingerprinter()(torch.tensor(0.0))


@PROPERTY
@given(WORDS, st.data())
def test_flipped_signs_of_an_even_number_of_elements(bits: list[int], data: st.DataObject) -> None:
    places = data.draw(st.sets(st.integers(0, len(bits) - 1), min_size=2).filter(lambda s: len(s) % 2 == 0))
    changed = [word ^ (1 << 31) if i in places else word for i, word in enumerate(bits)]
    assert print_of(changed) != print_of(bits)


@pytest.mark.parametrize("parity", [0, 1])
@pytest.mark.parametrize("bit", [22, 23, 30, 31])
def test_one_bit_in_every_pair_of_elements_of_one_parity(parity: int, bit: int) -> None:
    """The case that goes unseen without the mixing: the top bit of two words moves only the top bit of the sum."""
    bits = [0x3F800000 + i for i in range(14)]
    whole = print_of(bits)
    for a in range(parity, 14, 2):
        for b in range(a + 2, 14, 2):
            changed = list(bits)
            changed[a] ^= 1 << bit
            changed[b] ^= 1 << bit
            assert print_of(changed) != whole


@PROPERTY
@given(st.integers(1, 9), st.data())
def test_flipped_signs_of_an_even_number_of_whole_words(pairs: int, data: st.DataObject) -> None:
    """Both elements of a word flip: the mixing takes their change out of the lower half again."""
    bits = data.draw(st.lists(st.integers(0, 2**32 - 1), min_size=4 * pairs, max_size=4 * pairs))
    words = data.draw(st.sets(st.integers(0, 2 * pairs - 1), min_size=2).filter(lambda s: len(s) % 2 == 0))
    changed = [word ^ (1 << 31) if i // 2 in words else word for i, word in enumerate(bits)]
    assert print_of(changed) != print_of(bits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("count", [4, 7, 8, 64, 4096])
def test_a_tensor_is_not_its_own_negative(dtype: torch.dtype, count: int) -> None:
    tensor = torch.linspace(-1.0, 2.0, count).to(dtype)
    assert Fingerprinter()(-tensor) != Fingerprinter()(tensor)


@pytest.mark.parametrize("count", [2, 4, 8, 64, 256])
def test_constant_tensors_of_different_powers_of_two_differ(count: int) -> None:
    """Two elements of a word that change alike: the sign, every bit of the exponent."""
    values = [0.0, -0.0, 1.0, -1.0, *(2.0**n for n in range(-125, 128, 7)), *(-(2.0**n) for n in range(-125, 128, 7))]
    prints: dict[int, list[float]] = {}
    for value in values:
        prints.setdefault(Fingerprinter()(torch.full((count,), value)), []).append(value)
    assert [alike for alike in prints.values() if len(alike) > 1] == []


@PROPERTY
@given(WORDS, st.integers(23, 30), st.data())
def test_changed_exponents(bits: list[int], bit: int, data: st.DataObject) -> None:
    places = data.draw(st.sets(st.integers(0, len(bits) - 1), min_size=1))
    changed = [word ^ (1 << bit) if i in places else word for i, word in enumerate(bits)]
    assert print_of(changed) != print_of(bits)


@PROPERTY
@given(WORDS, st.data())
def test_swapped_elements(bits: list[int], data: st.DataObject) -> None:
    a, b = data.draw(st.tuples(*[st.integers(0, len(bits) - 1)] * 2))
    assume(bits[a] != bits[b])
    changed = list(bits)
    changed[a], changed[b] = bits[b], bits[a]
    assert print_of(changed) != print_of(bits)


@PROPERTY
@given(WORDS, st.data())
def test_swapped_pairs(bits: list[int], data: st.DataObject) -> None:
    """Whole words of two float32 change places."""
    pairs = [bits[i : i + 2] for i in range(0, len(bits) - 1, 2)]
    a, b = data.draw(st.tuples(*[st.integers(0, len(pairs) - 1)] * 2))
    assume(pairs[a] != pairs[b])
    changed = list(pairs)
    changed[a], changed[b] = pairs[b], pairs[a]
    assert print_of([*chain.from_iterable(changed)]) != print_of([*chain.from_iterable(pairs)])


@PROPERTY
@given(WORDS, st.integers(1, 36))
def test_moved_places(bits: list[int], by: int) -> None:
    by %= len(bits)
    moved = bits[by:] + bits[:by]
    assume(moved != bits)
    assert print_of(moved) != print_of(bits)


@PROPERTY
@given(WORDS, st.data())
def test_any_one_bit(bits: list[int], data: st.DataObject) -> None:
    place, bit = data.draw(st.integers(0, len(bits) - 1)), data.draw(st.integers(0, 31))
    changed = list(bits)
    changed[place] ^= 1 << bit
    assert print_of(changed) != print_of(bits)


# --- names and combination -------------------------------------------------------------------------------------------


def test_the_stored_name_holds_dtype_and_shape() -> None:
    assert stored_name("w", torch.zeros(3, 5, dtype=torch.bfloat16)) == "w bfloat16 3x5"
    assert stored_name("w", torch.tensor(1)) == "w int64 scalar"
    assert stored_name("w", torch.zeros(0, 3)) == "w float32 0x3"


def test_combine_is_blake2b_over_the_entries() -> None:
    text = b"a float32 3=000000000000000f\nb float32 3=absent\n"
    expected = hashlib.blake2b(text, digest_size=8).hexdigest()
    assert combine([("a float32 3", 15), ("b float32 3", None)]) == expected


def test_combine_depends_on_names_values_order_and_absence() -> None:
    entries = [("a", 1), ("b", 2)]
    others = [[("b", 2), ("a", 1)], [("a", 2), ("b", 1)], [("a", 1), ("c", 2)], [("a", 1)], [("a", 1), ("b", None)]]
    assert len({combine(e) for e in [entries, *others]}) == 6
    assert combine([("a", 0)]) != combine([("a", None)])
