"""The ledger: one line per step, chained by digest, append-only; and the fingerprints of single tensors beside it.

`ledger.jsonl` holds one JSON object per line. The chain value of a line is a digest over the previous chain value and
the line's deterministic fields, so one value stands for a whole history; it starts from the run's identity. A checksum
covers the whole line. A last line without its newline is a torn write and is dropped; any other damage is an error.

`ledger.tensors` holds, for the steps that `record.every` chooses, the fingerprint of every parameter after the step and
of every gradient: a header that names them, then rows of equal width.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from glassrun.digest import canonical_json, digest_bytes
from glassrun.errors import RunFolderError

# In the order in which a step makes them: the first that differs tells the phase.
PHASES = {
    "epoch": "batch",
    "examples": "batch",
    "tokens": "batch",
    "batch": "batch",
    "loss": "forward",
    "gradients": "backward",
    "gradient_norm": "backward",
    "learning_rate": "optimizer",
    "parameters": "optimizer",
    "buffers": "buffers",
}


@dataclass(frozen=True)
class Step:
    """What a step was, as far as it is determined: floats are written in hexadecimal, fingerprints as 16 digits."""

    step: int
    epoch: int
    examples: int
    tokens: int
    loss: float
    learning_rate: float
    gradient_norm: float
    batch: str
    gradients: str
    parameters: str
    buffers: str

    def fields(self) -> dict[str, int | str]:
        """The deterministic fields, floats as their exact hexadecimal text."""
        return {name: value.hex() if isinstance(value, float) else value for name, value in vars(self).items()}


@dataclass(frozen=True)
class Line:
    """One line of the ledger: a step, the chain value after it, the seconds it took, and what else was asked for.

    `update_norm` is how far the step moved the parameters; None where it was not recorded, NaN where it is not finite.
    """

    step: Step
    chain: str
    seconds: float
    update_norm: float | None = None

    def encode(self) -> bytes:
        """The line as written, with its checksum."""
        values: dict[str, object] = {}
        for name, value in self.step.fields().items():
            exact = getattr(self.step, name)
            if isinstance(exact, float):
                values |= {name: exact if isfinite(exact) else None, f"{name}_hex": value}
            else:
                values[name] = value
        values |= {"chain": self.chain, "seconds": round(self.seconds, 6)}
        if self.update_norm is not None:
            values["update_norm"] = self.update_norm if isfinite(self.update_norm) else None
        return with_checksum(values)


def link(previous: str, step: Step) -> str:
    """The chain value after `step`."""
    return digest_bytes(f"{previous}\n{canonical_json(step.fields())}".encode())


def first_phase(expected: Step, found: Step) -> tuple[str, str] | None:
    """The first (phase, field) in which two steps differ, or None where all bits agree."""
    a, b = expected.fields(), found.fields()
    return next(((phase, name) for name, phase in PHASES.items() if a[name] != b[name]), None)


def metrics_line(step: int, split: str, examples: int, metrics: Mapping[str, float]) -> bytes:
    """A line of `metrics.jsonl`: no time and no place, so that it is equal to the byte for equal runs."""
    values: dict[str, object] = {"step": step, "split": split, "examples": examples}
    for name, value in metrics.items():
        values |= {name: value if isfinite(value) else None, f"{name}_hex": float(value).hex()}
    return with_checksum(values)


def with_checksum(values: Mapping[str, object]) -> bytes:
    """A JSON line that ends in a checksum over all that stands before it."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    return f'{text[:-1]}, "checksum": "{digest_bytes(text.encode())}"}}\n'.encode()


def without_checksum(line: bytes, where: str) -> dict[str, object]:
    """The values of a JSON line whose checksum holds; `where` names it in the error."""
    head, mark, tail = line.rpartition(b', "checksum": "')
    if not mark or tail != f'{digest_bytes(head + b"}")}"}}\n'.encode():
        raise RunFolderError(
            f"{where}: the line's checksum does not match its content: it was changed after it was written. "
            "Restore the file from a copy; nothing was changed here"
        )
    try:
        values = json.loads(head + b"}")
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{where}: not a JSON object: {error}") from None
    if not isinstance(values, dict):
        raise RunFolderError(f"{where}: not a JSON object")
    return values


def complete_lines(path: Path) -> list[bytes]:
    """All lines of a file that end in a newline: a torn last one is left out."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise RunFolderError(f"{path}: missing; this folder is not a whole run") from None
    return data[: data.rfind(b"\n") + 1].splitlines(keepends=True)


def read(path: Path, identity: str) -> list[Line]:
    """All lines of a ledger, each checked: checksum, consecutive steps, chain.

    Raises:
        RunFolderError: a line in the middle is torn, changed, missing, repeated or out of order.
    """
    lines: list[Line] = []
    chain = identity
    for number, raw in enumerate(complete_lines(path), start=1):
        where = f"{path}, line {number}"
        line = _decode(without_checksum(raw, where), where)
        if line.step.step != number:
            raise RunFolderError(
                f"{where}: expected step {number}, found step {line.step.step}: "
                "lines are missing, repeated or out of order"
            )
        chain = link(chain, line.step)
        if line.chain != chain:
            raise RunFolderError(
                f"{where}: the chain breaks here: this line does not follow from the one before it, "
                "or belongs to another run"
            )
        lines.append(line)
    return lines


def _decode(values: Mapping[str, object], where: str) -> Line:
    try:
        fields: dict[str, Any] = {
            name: float.fromhex(str(values[f"{name}_hex"]))
            if kind == "float"
            else {"int": int, "str": str}[str(kind)](values[name])
            for name, kind in Step.__annotations__.items()
        }
        step = Step(**fields)
        return Line(step, str(values["chain"]), float(str(values["seconds"])), _update_norm(values))
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise RunFolderError(f"{where}: not a ledger line: {error}") from None


def _update_norm(values: Mapping[str, object]) -> float | None:
    """It is in no chain, so nothing else would find one that no training can have written."""
    if "update_norm" not in values:
        return None
    value = values["update_norm"]
    if value is None:
        return float("nan")
    if not isinstance(value, float) or not isfinite(value) or value < 0:
        raise ValueError(f"update_norm is {value!r}, expected a number of 0 or more, or null")
    return value


# --- fingerprints of single tensors ----------------------------------------------------------------------------------

_MAGIC = b"glassrun tensors 1\n"


class TensorTable:
    """The rows of `ledger.tensors`: step, one fingerprint per name, one presence bit per name, a checksum.

    A gradient may be absent (None), which is not the same as zero: hence the presence bits. A row's checksum covers the
    header too, so that no name can be changed unseen.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        listing = canonical_json(self.names).encode()
        self.header = _MAGIC + struct.pack("<Q", len(listing)) + listing
        self._presence_bytes = (len(self.names) + 7) // 8
        self.row_bytes = 8 + 8 * len(self.names) + self._presence_bytes + 16

    def encode(self, step: int, values: Sequence[int | None]) -> bytes:
        """One row."""
        presence = sum(1 << i for i, value in enumerate(values) if value is not None)
        body = struct.pack(f"<Q{len(values)}Q", step, *(value or 0 for value in values))
        body += presence.to_bytes(self._presence_bytes, "little")
        return body + bytes.fromhex(digest_bytes(self.header + body))

    def decode(self, row: bytes, where: str) -> tuple[int, list[int | None]]:
        """Step and fingerprints of one row."""
        body, checksum = row[:-16], row[-16:]
        if bytes.fromhex(digest_bytes(self.header + body)) != checksum:
            raise RunFolderError(
                f"{where}: the row's checksum does not match its content: it was changed after it was written"
            )
        step, *values = struct.unpack_from(f"<Q{len(self.names)}Q", body)
        presence = int.from_bytes(body[-self._presence_bytes :], "little") if self._presence_bytes else 0
        return step, [value if presence >> i & 1 else None for i, value in enumerate(values)]

    @classmethod
    def read(cls, path: Path) -> tuple[TensorTable, Iterator[tuple[int, list[int | None]]]]:
        """The table of a file, and its whole rows; a torn last row is left out."""
        data = path.read_bytes()
        start = len(_MAGIC) + 8
        if data[: len(_MAGIC)] != _MAGIC or len(data) < start:
            raise RunFolderError(f"{path}: not a table of tensor fingerprints")
        (length,) = struct.unpack_from("<Q", data, len(_MAGIC))
        try:
            names = json.loads(data[start : start + length])
            table = cls(names if isinstance(names, list) else [])
        except (ValueError, RecursionError):
            table = cls([])
        if data[: len(table.header)] != table.header or not all(isinstance(name, str) for name in table.names):
            raise RunFolderError(f"{path}: its list of names is damaged. Restore the file from a copy")
        rows = (
            table.decode(data[at : at + table.row_bytes], f"{path}, byte {at}")
            for at in range(start + length, len(data) - table.row_bytes + 1, table.row_bytes)
        )
        return table, rows
