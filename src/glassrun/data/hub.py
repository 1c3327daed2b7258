"""Data sets in the form of the Hugging Face hub, through the `datasets` library: tables with named columns.

No code and no pickle of a data set is run or read: only the formats of `_FORMATS` are taken. What the library keeps on
this machine is not asked: every load converts the files anew, in a folder that is gone afterwards.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from glassrun.data import images, pairs, text
from glassrun.data.compressed import what_is_at
from glassrun.data.folders import files_below
from glassrun.data.manifest import file_digest
from glassrun.data.pictures import Held
from glassrun.data.recorded import Recorded
from glassrun.data.source import Dataset
from glassrun.data.splits import content_key
from glassrun.errors import DataError, MissingDependency, nearest
from glassrun.sections.data import HubData, HubImages, HubPairs, HubText

_FORMATS = ("arrow", "csv", "imagefolder", "json", "parquet", "text")  # the library's names
_PARTS = ("train", "validation", "test")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class _Found:
    """A data set's tables by part, the folder they came from, and what the manifest says of that."""

    tables: dict[str, Any]
    folder: Path
    where: str
    files: dict[str, str]
    versions: dict[str, str]


def load(section: HubData, seed: int, recorded: Recorded | None = None) -> Dataset:
    """The columns that a recipe names, as images, a text or pairs.

    A run that has begun takes the commit that it began with, whatever its revision means by now.

    Raises:
        DataError: the data set cannot be fetched or read, or has no such column, or its values are of another kind.
        MissingDependency: the library is not installed.
    """
    found = _found(section, recorded)
    if section.images is not None:
        return _images(section, section.images, found)
    if section.text is not None:
        return _text(section, section.text, found, seed, recorded)
    assert section.pairs is not None, "checked by the recipe"
    return _pairs(section, section.pairs, found, recorded)


# --- columns ---------------------------------------------------------------------------------------------------------


def _images(section: HubData, columns: HubImages, found: _Found) -> Dataset:
    parts = []
    for part, table in found.tables.items():
        classes = _classes(table, columns.label, found)
        held = _Pictures(_encoded(table, columns.image, found), columns.image, part, found)
        parts.append(images.Found(part, images.decoded(held, columns.image_size), classes, {}))
    if len(parts) == 1:
        parts[0].part = "all"
    return images.dataset(
        parts,
        source=section.source,
        split=section.split,
        image_size=columns.image_size,
        where=found.where,
        files=found.files,
        versions=found.versions,
    )


@dataclass(frozen=True)
class _Pictures(Sequence[Held]):
    """The encoded pictures of a column, each taken from the table when it is asked for."""

    table: Any
    column: str
    part: str
    found: _Found

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, index: int) -> Held: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Held]: ...
    def __getitem__(self, index: int | slice) -> Held | Sequence[Held]:
        assert isinstance(index, int), "pictures are asked for one by one"
        name = f"{self.found.where}: {self.part} {index}, {self.column}"
        value = self.table[index][self.column]
        if value is None:
            raise DataError(f"{name}: expected a picture, found nothing")
        if value["bytes"] is not None:
            return Held(name, value["bytes"])
        path = Path(os.path.abspath(self.found.folder / (value["path"] or "")))  # noqa: PTH100 - links stay as they are
        if not path.is_relative_to(self.found.folder) or what_is_at(path) != "a file":
            raise DataError(f"{name}: expected a picture in the data set's folder, found none at {value['path']!r}")
        return Held(name, path.read_bytes())


def _encoded(table: Any, column: str, found: _Found) -> Any:
    """The table with the pictures of a column as they lie there, decoded by nobody."""
    from datasets import Image

    _column(table, column, found)
    if not isinstance(table.features[column], Image):
        raise DataError(f"{found.where}: column {column!r}: expected pictures, found {table.features[column]!r}")
    return table.select_columns([column]).cast_column(column, Image(decode=False))


def _text(section: HubData, columns: HubText, found: _Found, seed: int, recorded: Recorded | None) -> Dataset:
    texts = {}
    for part, table in found.tables.items():
        rows = _strings(_column(table, columns.column, found), columns.column, found)
        # A row ends its line, as the lines of a text file do.
        texts[part] = "".join(row if row.endswith("\n") else f"{row}\n" for row in rows)
    if section.split == "official" and "validation" not in texts:
        raise DataError(f"{found.where}: data.split is official, but there is no part validation")
    return text.windows(
        columns,
        texts,
        seed,
        recorded,
        source=section.source,
        where=found.where,
        files=found.files,
        versions=found.versions,
    )


def _pairs(section: HubData, columns: HubPairs, found: _Found, recorded: Recorded | None) -> Dataset:
    given = {}
    for part, table in found.tables.items():
        sides = [_side(table, name, columns.translation, found) for name in (columns.source, columns.target)]
        given[part] = [(source.strip(), target.strip()) for source, target in zip(*sides, strict=True)]
        if any(not source or not target for source, target in given[part]):
            raise DataError(f"{found.where}: the part {part} has a pair with nothing on one side")
    if section.split == "official" and len(given) == 1:
        raise DataError(f"{found.where}: data.split is official, but there is only the part train")
    parts, rule = (given, "official") if "validation" in given else pairs.without_validation(given)
    return pairs.dataset(
        columns,
        parts,
        rule,
        recorded,
        source=section.source,
        where=found.where,
        files=found.files,
        versions=found.versions,
    )


def _side(table: Any, name: str, translation: str | None, found: _Found) -> list[str]:
    """One side of all pairs: a column, or a key in each value of the column `translation`."""
    if translation is None:
        return _strings(_column(table, name, found), name, found)
    rows = _column(table, translation, found)
    if any(not isinstance(row, dict) or name not in row for row in rows):
        raise DataError(f"{found.where}: column {translation!r}: expected values with the key {name!r} in each")
    return _strings([row[name] for row in rows], f"{translation}.{name}", found)


def _column(table: Any, name: str, found: _Found) -> list[Any]:
    if name not in table.column_names:
        raise DataError(f"{found.where}: there is no column {name!r}; {nearest(name, table.column_names)}")
    return list(table[name]) if not _is_picture(table, name) else []


def _is_picture(table: Any, name: str) -> bool:
    return type(table.features[name]).__name__ == "Image"


def _strings(values: list[Any], column: str, found: _Found) -> list[str]:
    """Values that must be texts."""
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(f"{found.where}: column {column!r}, row {row}: expected a text, found {value!r}")
    return values


def _classes(table: Any, column: str, found: _Found) -> list[str]:
    """The names of classes: texts or whole numbers, or numbers that stand for the names that the data set gives."""
    values = _column(table, column, found)
    names: list[str] | None = getattr(table.features[column], "names", None)
    for row, value in enumerate(values):
        if type(value) not in (str, int) or (names is not None and value not in range(len(names))):
            raise DataError(f"{found.where}: column {column!r}, row {row}: expected a class, found {value!r}")
    return [str(value) if names is None else names[value] for value in values]


# --- tables ----------------------------------------------------------------------------------------------------------


def _found(section: HubData, recorded: Recorded | None) -> _Found:
    """The data set's tables, of a folder or of a commit on the hub."""
    library = _library()
    versions = {"datasets": str(library.__version__)}
    if section.repository is not None:
        pinned = recorded.manifest["versions"].get(section.repository) if recorded else None
        folder = _fetched(section.repository, pinned or section.revision)
        where, files = section.repository, {}
        versions[section.repository] = folder.name
    else:
        folder = Path(str(section.path)).absolute()
        if (at := what_is_at(folder)) != "a folder":
            raise DataError(f"{folder}: expected a folder in the form of a data set on the hub, found {at}")
        paths = files_below(folder)
        digest = content_key(*(file_digest(path).encode() for path in paths)).hex()
        where, files = str(folder), {f"{folder.name} ({len(paths)} files)": digest}
    tables = _tables(library, folder, section.subset, where)
    if "train" not in tables:
        raise DataError(f"{where}: expected a part train, found {', '.join(tables) or 'none'}")
    wanted = ("train",) if section.split in ("hash", "tail") else _PARTS
    return _Found({part: tables[part] for part in wanted if part in tables}, folder, where, files, versions)


def _tables(library: Any, folder: Path, subset: str | None, where: str) -> dict[str, Any]:
    """Each part's table. The converted files are unlinked at once and stay mapped as long as a table is used."""
    with tempfile.TemporaryDirectory(prefix="glassrun-hub-") as cache, _quiet(library), _refusing(where):
        builder = library.load_dataset_builder(str(folder), name=subset, cache_dir=cache)
        kind = type(builder).__module__.rpartition(".")[2]
        if kind not in _FORMATS:
            raise DataError(f"{where}: expected files of a format of {', '.join(_FORMATS)}, found {kind}")
        builder.download_and_prepare()
        return dict(builder.as_dataset())


def _fetched(repository: str, revision: str | None) -> Path:
    """A folder with the repository's files at the commit that a revision means now; the folder has the commit's name.

    With HF_HUB_OFFLINE=1 it is what was fetched before.
    """
    from huggingface_hub import snapshot_download

    where = f"{repository} at {revision or 'main'}"
    with _refusing(where):
        folder = Path(snapshot_download(repository, repo_type="dataset", revision=revision))
    if not _COMMIT.fullmatch(folder.name):
        raise DataError(f"{where}: expected a folder of a commit, found {folder}")
    return folder.absolute()


@contextmanager
def _refusing(where: str) -> Iterator[None]:
    """What the libraries raise, which is of many kinds, as one of our errors."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise DataError(f"{where}: cannot be read as a data set of the hub: {type(error).__name__}: {text}") from None


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Without the library's progress bars, which would write into ours."""
    shown = not library.are_progress_bars_disabled()
    library.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            library.enable_progress_bars()


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingDependency("datasets", "data.source: hub", extra="hub") from None
    return datasets
