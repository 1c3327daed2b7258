"""The ledger: whatever is written is read back, and whatever was changed is found."""

import hashlib
import json
import math
import struct
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from glassrun.digest import digest_bytes
from glassrun.errors import RunFolderError
from glassrun.record import ledger
from glassrun.record.ledger import PHASES, Line, Step, TensorTable, first_phase, link

PROPERTY = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
IDENTITY = "0" * 32
PRINTS = st.text("0123456789abcdef", min_size=16, max_size=16)
COUNTS = st.integers(0, 2**63)
FLOATS = st.floats()
STEPS = st.builds(
    Step,
    step=st.just(1),
    epoch=COUNTS,
    examples=COUNTS,
    tokens=COUNTS,
    loss=FLOATS,
    learning_rate=FLOATS,
    gradient_norm=FLOATS,
    batch=PRINTS,
    gradients=PRINTS,
    parameters=PRINTS,
    buffers=PRINTS,
)


def step(number: int, **values: Any) -> Step:
    given = Step(number, 1, 64, 0, 2.5 / number, 1e-3, 0.7, "b" * 16, "c" * 16, f"{number:016x}", "d" * 16)
    return replace(given, **values)


def lines_of(steps: list[Step], identity: str = IDENTITY) -> list[bytes]:
    """Lines as a run writes them."""
    chain, lines = identity, []
    for one in steps:
        chain = link(chain, one)
        lines.append(Line(one, chain, 0.0125 * one.step).encode())
    return lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def read(path: Path, data: bytes | list[bytes], identity: str = IDENTITY) -> list[Line]:
    path.write_bytes(b"".join(data) if isinstance(data, list) else data)
    return ledger.read(path, identity)


# --- round trip ------------------------------------------------------------------------------------------------------


@PROPERTY
@given(st.lists(STEPS, max_size=5), st.floats(0, 1e6))
def test_what_is_written_is_read_back(path: Path, steps: list[Step], seconds: float) -> None:
    numbered = [replace(one, step=i) for i, one in enumerate(steps, start=1)]
    chain, data = IDENTITY, b""
    for one in numbered:
        chain = link(chain, one)
        data += Line(one, chain, seconds).encode()
    found = read(path, data)
    assert [line.step.fields() for line in found] == [one.fields() for one in numbered]
    assert all(line.seconds == round(seconds, 6) for line in found)
    assert (found[-1].chain if found else IDENTITY) == chain


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1])
def test_every_float_keeps_its_value(path: Path, value: float) -> None:
    (line,) = read(path, lines_of([step(1, loss=value, gradient_norm=value)]))
    for found in (line.step.loss, line.step.gradient_norm):
        assert found.hex() == value.hex()


def test_a_line_is_json_that_anybody_reads() -> None:
    values = json.loads(lines_of([step(1, loss=math.nan)])[0], parse_constant=pytest.fail)
    assert values["loss"] is None
    assert values["loss_hex"] == "nan"
    assert values["learning_rate"] == 1e-3
    assert float.fromhex(values["learning_rate_hex"]) == 1e-3


def test_an_empty_ledger_has_no_lines(path: Path) -> None:
    assert read(path, b"") == []


def test_a_missing_ledger_is_told(path: Path) -> None:
    with pytest.raises(RunFolderError, match="missing"):
        ledger.read(path, IDENTITY)


@PROPERTY
@given(st.none() | st.floats(0))
def test_so_is_how_far_the_step_moved_the_parameters(path: Path, norm: float | None) -> None:
    chain = link(IDENTITY, step(1))
    [found] = read(path, Line(step(1), chain, 0.5, norm).encode())
    assert found.chain == chain
    assert found.update_norm == (norm if norm is None or math.isfinite(norm) else pytest.approx(math.nan, nan_ok=True))


@pytest.mark.parametrize("value", ["-0.5", '"0.5"', "1", "true", "[0.5]", "NaN", "Infinity", "-Infinity", "1e999"])
def test_one_that_no_training_can_have_written_is_refused(path: Path, value: str) -> None:
    """No chain covers it, and whoever changes the line can make its checksum fit."""
    line = Line(step(1), link(IDENTITY, step(1)), 0.5, 0.25).encode()
    head = line.rpartition(b', "checksum"')[0].replace(b'"update_norm": 0.25', b'"update_norm": ' + value.encode())
    changed = head + b', "checksum": "' + digest_bytes(head + b"}").encode() + b'"}\n'
    assert changed != line
    with pytest.raises(RunFolderError, match="line 1: not a ledger line: update_norm is"):
        read(path, changed)


# --- damage ----------------------------------------------------------------------------------------------------------


@PROPERTY
@given(st.data())
def test_any_changed_byte_is_found(path: Path, data: st.DataObject) -> None:
    whole = b"".join(lines_of([step(1), step(2, loss=math.nan), step(3)]))
    at = data.draw(st.integers(0, len(whole) - 2))  # the newline of the last line: see the torn line below
    value = data.draw(st.integers(0, 255))
    assume(value != whole[at])
    with pytest.raises(RunFolderError):
        read(path, whole[:at] + bytes([value]) + whole[at + 1 :])


@pytest.mark.parametrize("value", [b"\n", b"\r", b" ", b"}", b"\0", b"\xff"])
def test_every_byte_of_a_line_matters(path: Path, value: bytes) -> None:
    first, second = lines_of([step(1), step(2)])
    for at in range(len(first)):
        if first[at : at + 1] != value:
            with pytest.raises(RunFolderError):
                read(path, first[:at] + value + first[at + 1 :] + second)


@PROPERTY
@given(st.data())
def test_a_torn_last_line_is_dropped(path: Path, data: st.DataObject) -> None:
    lines = lines_of([step(1), step(2), step(3)])
    kept = data.draw(st.integers(0, len(lines[2]) - 1))
    assert [line.step.step for line in read(path, [*lines[:2], lines[2][:kept]])] == [1, 2]


def test_a_torn_line_in_the_middle_is_found(path: Path) -> None:
    lines = lines_of([step(1), step(2), step(3)])
    with pytest.raises(RunFolderError, match="line 2"):
        read(path, [lines[0], lines[1][:40], lines[2]])


@pytest.mark.parametrize(
    ("order", "where"),
    [
        ([0, 2, 1], "line 2"),  # swapped
        ([1, 0, 2], "line 1"),
        ([0, 1, 1, 2], "line 3"),  # repeated
        ([0, 2], "line 2"),  # missing in the middle
        ([1, 2], "line 1"),  # missing at the start
    ],
)
def test_lines_out_of_order(path: Path, order: list[int], where: str) -> None:
    lines = lines_of([step(1), step(2), step(3)])
    with pytest.raises(RunFolderError, match=where):
        read(path, [lines[i] for i in order])


def test_a_line_of_another_run_is_found_even_with_a_valid_checksum(path: Path) -> None:
    ours, theirs = lines_of([step(1), step(2), step(3)]), lines_of([step(1, loss=9.0), step(2), step(3)])
    with pytest.raises(RunFolderError, match="line 2: the chain breaks"):
        read(path, [ours[0], theirs[1], theirs[2]])
    with pytest.raises(RunFolderError, match="line 1: the chain breaks"):
        read(path, ours, identity="1" * 32)


def test_a_line_between_the_lines_is_found(path: Path) -> None:
    lines = lines_of([step(1), step(2)])
    for foreign in (b"\n", b"hello\n", b"{}\n", b"null\n"):
        with pytest.raises(RunFolderError, match="line 2"):
            read(path, [lines[0], foreign, lines[1]])


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.pop("epoch"),
        lambda v: v.pop("chain"),
        lambda v: v.pop("loss_hex"),
        lambda v: v.update(epoch="one"),
        lambda v: v.update(loss_hex="zz"),
        lambda v: v.update(epoch=None),
        lambda v: v.update(seconds="soon"),
    ],
)
def test_a_line_of_another_form_with_a_valid_checksum(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(lines_of([step(1)])[0])
    del values["checksum"]
    change(values)
    with pytest.raises(RunFolderError, match="not a ledger line"):
        read(path, ledger.with_checksum(values))


def test_the_checksum_is_over_the_line_before_it() -> None:
    line = ledger.with_checksum({"a": 1})
    digest = hashlib.blake2b(b'{"a": 1}', digest_size=16).hexdigest()
    assert line == f'{{"a": 1, "checksum": "{digest}"}}\n'.encode()
    assert ledger.without_checksum(line, "here") == {"a": 1}


@pytest.mark.parametrize("text", [b"{", b'{"a": 1,}', b"[1", b'{"step": 1, "x": \xff', b'{"a": ' * 100_000])
def test_what_is_no_json_object_under_a_checksum_that_fits(path: Path, text: bytes) -> None:
    digest = hashlib.blake2b(text + b"}", digest_size=16).hexdigest()
    with pytest.raises(RunFolderError, match=r"not a JSON object|not a ledger line"):
        read(path, text + f', "checksum": "{digest}"}}\n'.encode())


def test_the_message_says_where_and_what_to_do(path: Path) -> None:
    with pytest.raises(RunFolderError) as caught:
        read(path, b'{"step": 1}\n')
    assert f"{path}, line 1" in str(caught.value)
    assert "Restore the file from a copy" in str(caught.value)


# --- the chain -------------------------------------------------------------------------------------------------------


def other(value: Any) -> Any:
    if isinstance(value, str):
        return "f" * 16
    return math.nextafter(value, 10.0) if isinstance(value, float) else value + 1


@pytest.mark.parametrize("name", [field.name for field in fields(Step)])
def test_the_chain_depends_on_every_field(name: str) -> None:
    changed = replace(step(1), **{name: other(getattr(step(1), name))})
    assert link(IDENTITY, changed) != link(IDENTITY, step(1))


def test_the_chain_depends_on_what_came_before_and_on_the_identity() -> None:
    assert link(link(IDENTITY, step(1)), step(2)) != link(link(IDENTITY, step(1, epoch=7)), step(2))
    assert link("1" * 32, step(1)) != link(IDENTITY, step(1))


def test_the_chain_tells_minus_zero_from_zero() -> None:
    assert link(IDENTITY, step(1, loss=-0.0)) != link(IDENTITY, step(1, loss=0.0))


def test_the_chain_does_not_depend_on_seconds(path: Path) -> None:
    chain = link(IDENTITY, step(1))
    slow, fast = Line(step(1), chain, 100.0).encode(), Line(step(1), chain, 0.001).encode()
    assert slow != fast
    assert read(path, slow)[0].chain == read(path, fast)[0].chain == chain


@pytest.mark.parametrize("name", [field.name for field in fields(Step) if field.name != "step"])
def test_every_field_has_a_phase(name: str) -> None:
    changed = replace(step(1), **{name: other(getattr(step(1), name))})
    assert first_phase(step(1), changed) == (PHASES[name], name)


def test_the_first_phase_is_the_one_that_comes_first_in_a_step() -> None:
    changed = step(1, parameters="e" * 16, loss=9.0, buffers="e" * 16, gradients="e" * 16)
    assert first_phase(step(1), changed) == ("forward", "loss")
    assert first_phase(step(1), step(1, loss=step(1).loss)) is None
    assert first_phase(step(1, loss=math.nan), step(1, loss=math.nan)) is None
    assert first_phase(step(1, loss=0.0), step(1, loss=-0.0)) == ("forward", "loss")


# --- the table of tensors --------------------------------------------------------------------------------------------


def write_table(path: Path, table: TensorTable, rows: list[bytes]) -> None:
    path.write_bytes(table.header + b"".join(rows))


@PROPERTY
@given(st.integers(0, 19), st.data())
def test_rows_are_read_back(tmp_path: Path, width: int, data: st.DataObject) -> None:
    values = st.none() | st.integers(0, 2**64 - 1)
    rows = data.draw(st.lists(st.lists(values, min_size=width, max_size=width), max_size=4))
    table = TensorTable([f"täglich {i} float32 3x5" for i in range(width)])
    write_table(tmp_path / "t", table, [table.encode(i, row) for i, row in enumerate(rows, start=1)])
    found, read_rows = TensorTable.read(tmp_path / "t")
    assert found.names == table.names
    assert list(read_rows) == list(enumerate(rows, start=1))


def test_the_row_as_documented() -> None:
    row = TensorTable(["a", "b", "c"]).encode(7, [5, None, 2**64 - 1])
    header = b"glassrun tensors 1\n" + struct.pack("<Q", 13) + b'["a","b","c"]'
    body = struct.pack("<QQQQB", 7, 5, 0, 2**64 - 1, 0b101)
    assert row == body + hashlib.blake2b(header + body, digest_size=16).digest()


def test_absent_is_not_zero() -> None:
    table = TensorTable(["a"])
    assert table.encode(1, [None]) != table.encode(1, [0])
    assert table.decode(table.encode(1, [None]), "here") == (1, [None])


@PROPERTY
@given(st.data())
def test_any_changed_byte_of_a_row_is_found(tmp_path: Path, data: st.DataObject) -> None:
    table = TensorTable(["a", "b", "c"])
    rows = b"".join(table.encode(i, [i, None, 3]) for i in (1, 2))
    at = data.draw(st.integers(0, len(rows) - 1))
    flipped = rows[at] ^ data.draw(st.integers(1, 255))
    write_table(tmp_path / "t", table, [rows[:at], bytes([flipped]), rows[at + 1 :]])
    _, found = TensorTable.read(tmp_path / "t")
    with pytest.raises(RunFolderError, match="checksum"):
        list(found)


def test_a_torn_last_row_is_left_out(tmp_path: Path) -> None:
    table = TensorTable(["a", "b"])
    write_table(tmp_path / "t", table, [table.encode(1, [1, 2]), table.encode(2, [3, 4])[:-1]])
    assert list(TensorTable.read(tmp_path / "t")[1]) == [(1, [1, 2])]


@pytest.mark.parametrize("data", [b"", b"glass", b"glassrun tensors 2\n" + bytes(40), b"PK\x03\x04" + bytes(40)])
def test_something_else_is_no_table(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(RunFolderError, match="not a table"):
        TensorTable.read(tmp_path / "t")


@PROPERTY
@given(st.data())
def test_a_changed_header_never_ends_in_a_traceback(tmp_path: Path, data: st.DataObject) -> None:
    """The header has no checksum of its own: a change is refused, or shows in names or rows."""
    table = TensorTable(["alpha", "beta"])
    rows = [table.encode(1, [1, 2]), table.encode(2, [3, 4])]
    at = data.draw(st.integers(0, len(table.header) - 1))
    header = bytearray(table.header)
    header[at] ^= data.draw(st.integers(1, 255))
    (tmp_path / "t").write_bytes(bytes(header) + b"".join(rows))
    try:
        found, read_rows = TensorTable.read(tmp_path / "t")
        shown = (found.names, list(read_rows))
    except RunFolderError:
        return
    assert shown != (table.names, [(1, [1, 2]), (2, [3, 4])])
