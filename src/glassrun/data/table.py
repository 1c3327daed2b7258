"""Tables beside pictures: a CSV file that says of each which labels it has, or which numbers belong to it.

The first column, `file`, names a picture by its place in the table's folder; every other column is a label (1 or 0) or
a number.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glassrun.data import pictures
from glassrun.data.folders import entries, files_below
from glassrun.digest import canonical_json
from glassrun.errors import DataError

_FIRST_COLUMN = "file"
_LARGEST = 1e30  # in float32 with room for squares of sums


@dataclass(frozen=True)
class Table:
    """What a table says.

    Arguments:
        path: of the table.
        target: labels or numbers.
        pictures: of each row.
        names: of the columns behind the first.
        values: Float64[rows, columns]; of labels 0 or 1.
    """

    path: Path
    target: Literal["labels", "numbers"]
    pictures: list[Path]
    names: tuple[str, ...]
    values: NDArray[np.float64]

    def contents(self) -> list[str]:
        """What each picture is of, as text for its key; of labels only those it has, so that a new one moves none."""
        rows = [dict(zip(self.names, row, strict=True)) for row in self.values.tolist()]
        if self.target == "labels":
            return [canonical_json(sorted(name for name, value in row.items() if value)) for row in rows]
        return [canonical_json(row) for row in rows]


def table_in(folder: Path) -> Path | None:
    """The folder's table, if it has one.

    Raises:
        DataError: it has several.
    """
    found = [path for path in entries(folder) if path.suffix.lower() == ".csv"]
    if len(found) > 1:
        raise DataError(f"{folder}: expected one table, found {', '.join(path.name for path in found)}: leave one")
    return found[0] if found else None


def read(path: Path, target: Literal["labels", "numbers"]) -> Table:
    """A table and the pictures that it names, which must be all that lie beside and below it.

    Raises:
        DataError: it cannot be read, has no such form, or names other pictures than are there.
    """
    (first, *names), rows = _header_and_rows(path)
    if first != _FIRST_COLUMN:
        raise DataError(f"{path}: expected the first column to be called {_FIRST_COLUMN!r}, found {first!r}")
    if not names:
        raise DataError(f"{path}: expected columns of {target} behind the first, found none")
    if twice := _twice(names):
        raise DataError(f"{path}: expected columns with different names, found {twice!r} twice")
    rows = sorted(rows, key=lambda row: row[1][0])  # the order of the lines means nothing
    parse = _label if target == "labels" else _number
    values = [
        [parse(text, f"{path}, line {line}, {name}") for name, text in zip(names, row[1:], strict=True)]
        for line, row in rows
    ]
    places = [_inside(row[0], f"{path}, line {line}") for line, row in rows]
    if twice := _twice([str(place) for place in places]):
        raise DataError(f"{path}: expected one row for each picture, found {twice!r} twice")
    named = [path.parent / place for place in places]
    _check_all_named(path, named)
    return Table(path, target, named, tuple(names), np.array(values, dtype=np.float64))


def same_columns(tables: list[Table]) -> tuple[str, ...]:
    """The names of the columns, which all parts share.

    Raises:
        DataError: they do not.
    """
    first, *others = tables
    for other in others:
        if other.names != first.names:
            raise DataError(
                f"{other.path}: expected the columns {', '.join(first.names)}, which {first.path} has, "
                f"found {', '.join(other.names)}"
            )
    return first.names


def values_and_scales(
    tables: list[Table], train: NDArray[np.int64]
) -> tuple[NDArray[np.float32], list[tuple[float, float]]]:
    """What a model learns of every picture of all tables: Float32[pictures, columns]; and the scales of numbers.

    Labels stay 0 or 1 and have no scales. Numbers become (number − mean) / std over the training pictures.

    Arguments:
        tables: of all parts.
        train: the training pictures.

    Raises:
        DataError: a number is the same for all training pictures, or far beyond them.
    """
    values = np.concatenate([table.values for table in tables])
    if tables[0].target == "labels":
        return values.astype(np.float32), []
    scales = [
        _scale(column, f"{tables[0].path}: {name}")
        for name, column in zip(tables[0].names, values[train].T.tolist(), strict=True)
    ]
    means, stds = (np.array(part) for part in zip(*scales, strict=True))
    scaled = (values - means) / stds
    if np.abs(scaled).max() > _LARGEST:
        row, column = np.unravel_index(np.abs(scaled).argmax(), scaled.shape)
        owners = [(table.path, picture) for table in tables for picture in table.pictures]
        path, picture = owners[row]
        raise DataError(
            f"{path}: {tables[0].names[column]} of {picture.name} is {values[row, column]:g}: expected a number nearer "
            f"to those of the training pictures, whose mean is {means[column]:g} and standard deviation "
            f"{stds[column]:g}"
        )
    return scaled.astype(np.float32), scales


def _scale(values: list[float], where: str) -> tuple[float, float]:
    """Mean and standard deviation of a column, from exactly rounded sums: the same on every machine."""
    mean = math.fsum(values) / len(values)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    if min(values) == max(values) or std == 0.0:
        raise DataError(f"{where}: is {values[0]:g} for every training picture: nothing can be learned; leave it out")
    return mean, std


def _header_and_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, and every row with its line; blank lines are left out."""
    try:
        reader = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""), strict=True)
        lines = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: expected a table as CSV in UTF-8: {error}") from None
    if len(lines) < 2:
        raise DataError(f"{path}: expected a line of column names and a row for each picture, found {len(lines)} lines")
    (_, header), *rows = lines
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {line}: expected {len(header)} fields as in the first line, found {len(row)}"
            )
    return header, rows


def _twice(names: list[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _label(text: str, where: str) -> float:
    if text.strip() not in ("0", "1"):
        raise DataError(f"{where}: expected 1 (the picture has the label) or 0, found {text!r}")
    return float(text)


def _number(text: str, where: str) -> float:
    try:
        value = float(text.replace("_", "?"))  # Python takes 1_000 for a thousand
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: expected a number such as 12.5, found {text!r}")
    if abs(value) > _LARGEST:
        raise DataError(f"{where}: expected a number of at most {_LARGEST:g}, found {text!r}")
    return value


def _inside(name: str, where: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts:
        raise DataError(f"{where}: expected a picture in the table's folder, found {name!r}")
    return path


def _check_all_named(path: Path, named: list[Path]) -> None:
    there = {file for file in files_below(path.parent) if file.suffix.lower() in pictures.SUFFIXES}
    if missing := [file for file in named if file not in there]:
        raise DataError(f"{path}: names {missing[0].relative_to(path.parent)}, but there is no such picture")
    if left := sorted(there - set(named)):
        raise DataError(
            f"{path}: expected a row for each picture, found none for {len(left)}, the first of them "
            f"{left[0].relative_to(path.parent)}: add rows, or take the pictures away"
        )
