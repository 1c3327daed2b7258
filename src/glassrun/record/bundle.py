"""A bundle: a run in one file, a plain zip with the digest of each entry, and of the whole.

Whoever opens one cannot know who made it, so nothing in it is believed: names, sizes and forms are checked before a
byte is written, and what is unpacked is counted while it is read. The same run gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import glassrun
from glassrun.config import data_paths
from glassrun.digest import canonical_json
from glassrun.errors import BundleError
from glassrun.record import requirements
from glassrun.record.files import writing
from glassrun.record.run_folder import RunFolder, checkpoint_paths

FORMAT = 1
ENDING = ".glassrun"
MANIFEST = "manifest.json"
RUN_FILES = ("code.zip", "config.yaml", "data.keys", "ledger.jsonl", "ledger.tensors", "metrics.jsonl", "run.json")
ENVIRONMENT_FILES = ("Dockerfile", "environment.yml", "requirements.txt")
MOST_BYTES = 16 * 2**30  # of all entries together, unpacked
MOST_ENTRIES = 200_000
_IN_MEMORY = (MANIFEST, "code.zip", "config.yaml", "run.json")  # are read whole
_MOST_IN_MEMORY = 64 * 2**20
_BLOCK = 2**20
_SEAL = b"glassrun bundle 1 "  # the zip's comment: this, and the digest of every byte before it
_SEAL_BYTES = len(_SEAL) + 32
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that a zip can hold

_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error)

# A part of a path: no empty one, none that leads elsewhere, nothing that another system reads as a separator.
_PART = r"(?!\.{1,2}(?:/|$))[^/\\:\x00-\x1f\x7f\ud800-\udfff]{1,255}"
_ALLOWED = re.compile(
    rf"{re.escape(MANIFEST)}|{'|'.join(map(re.escape, RUN_FILES + ENVIRONMENT_FILES))}"
    r"|checkpoints/step-\d{6,12}/(?:model\.safetensors|optimizer\.safetensors|state\.json)"
    rf"|data/(?:path|validation|test)/\d/{_PART}(?:/{_PART})*"
)


def pack(folder: RunFolder, out: Path, *, with_data: bool = False, with_checkpoints: bool = False) -> None:
    """Write a run's bundle; the run is checked by whoever calls.

    Arguments:
        folder: a run that has begun.
        out: the file; nothing may stand there.
        with_data: also the files and folders that the recipe's data section names.
        with_checkpoints: also the checkpoints.

    Raises:
        BundleError: something stands at `out`, the data are too large, or a file changed meanwhile.
        RunFolderError: the disk is full.
    """
    if out.exists():
        raise BundleError(f"{out}: something stands there, and nothing is overwritten. Choose another file with --out")
    files: dict[str, Path | bytes] = {name: folder.path / name for name in RUN_FILES}
    environment = folder.header["environment"]
    files["requirements.txt"] = requirements.requirements_txt(environment).encode()
    files["environment.yml"] = requirements.environment_yml(environment, folder.recipe.name).encode()
    files["Dockerfile"] = requirements.dockerfile(environment).encode()
    for path in checkpoint_paths(folder.path) if with_checkpoints else ():
        files |= {f"checkpoints/{path.name}/{file.name}": file for file in path.iterdir()}
    data = _data_files(folder) if with_data else {}
    for entries in data.values():
        files |= entries
    described = _described(files)
    manifest = {
        "format": FORMAT,
        "glassrun": glassrun.__version__,
        "entries": described,
        "data": {field: sorted({"/".join(name.split("/")[:4]) for name in entries}) for field, entries in data.items()},
    }
    files[MANIFEST] = (canonical_json(manifest) + "\n").encode()
    _write(out, files, described)


def _data_files(folder: RunFolder) -> dict[str, dict[str, Path | bytes]]:
    """Entry to file of what each field of the data section names: `data/FIELD/NUMBER/NAME`, folders walked."""
    found: dict[str, dict[str, Path | bytes]] = {}
    for field, places in data_paths(folder.recipe.data).items():
        found[field] = {}
        for number, place in enumerate(map(Path, places)):
            entry = f"data/{field}/{number}/{place.name}"
            if place.is_file():
                found[field][entry] = place
            elif place.is_dir():
                found[field] |= {f"{entry}/{file.relative_to(place).as_posix()}": file for file in _walk(place)}
            else:
                raise BundleError(f"data.{field}: {place}: expected a file or a folder, found nothing there any more")
    odd = next((entry for entries in found.values() for entry in entries if not _ALLOWED.fullmatch(entry)), None)
    if odd is not None:
        raise BundleError(f"{odd!r}: a bundle cannot hold a file of this name; rename it, or pack without --with-data")
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """All files of a folder; links are followed, as the data sources do, so their number is bounded."""
    count = 0
    for place, inside, files in os.walk(folder, followlinks=True):
        inside.sort()
        for name in sorted(files):
            count += 1
            if count > MOST_ENTRIES:
                raise BundleError(f"{folder}: more than {MOST_ENTRIES:,} files: hand the data over beside the bundle")
            yield Path(place, name)


def _described(files: Mapping[str, Path | bytes]) -> dict[str, dict[str, Any]]:
    """Size and digest of each file."""
    found: dict[str, dict[str, Any]] = {}
    total = 0
    for name, source in sorted(files.items()):
        digest, size = hashlib.blake2b(digest_size=16), 0
        for block in _blocks_of(source):
            digest.update(block)
            size += len(block)
            total += len(block)
            if total > MOST_BYTES:
                raise BundleError(
                    f"{name}: with it, the files of the run come to more than {MOST_BYTES:,} bytes, the most that a "
                    "bundle holds. Pack without --with-data, and hand the data over beside it (replay --data-path)"
                )
        found[name] = {"bytes": size, "digest": digest.hexdigest()}
    return found


def _write(out: Path, files: Mapping[str, Path | bytes], described: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the zip beside its place, sealed, and rename it there."""
    partial = out.with_name(f".{out.name}.partial")
    with writing(out):
        try:
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.comment = _SEAL + b"0" * 32  # its length is part of what is sealed
                for name in sorted(files):
                    _add(archive, name, files[name], described.get(name))
            with partial.open("r+b") as file:
                seal = _seal(file)
                file.seek(-32, os.SEEK_END)
                file.write(seal)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(out)
        finally:
            partial.unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, name: str, source: Path | bytes, described: Mapping[str, Any] | None) -> None:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.file_size = described["bytes"] if described else len(source) if isinstance(source, bytes) else 0
    digest = hashlib.blake2b(digest_size=16)
    with archive.open(entry, "w") as stream:
        for block in _blocks_of(source):
            digest.update(block)
            stream.write(block)
    if described and digest.hexdigest() != described["digest"]:
        raise BundleError(f"{name}: it changed while it was packed; pack again when nothing writes it")


def _blocks_of(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    try:
        with source.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block
    except OSError as error:
        raise BundleError(f"{source}: cannot be read: {error.strerror or error}") from None


def _seal(file: IO[bytes]) -> bytes:
    """The digest of all bytes before the seal's own, as it is written."""
    left = file.seek(0, os.SEEK_END) - 32
    file.seek(0)
    digest = hashlib.blake2b(digest_size=16)
    while left > 0 and (block := file.read(min(_BLOCK, left))):
        digest.update(block)
        left -= len(block)
    return digest.hexdigest().encode()


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bundle:
    """A bundle whose seal, entries' names and manifest were checked; each entry's content is when it is read."""

    path: Path
    version: str
    entries: dict[str, tuple[int, str]]
    data: dict[str, list[str]]

    @property
    def unpacked_bytes(self) -> int:
        return sum(size for size, _ in self.entries.values())

    @property
    def checkpoints(self) -> list[int]:
        """The steps whose checkpoints are in it."""
        return sorted({int(name.split("/")[1][5:]) for name in self.entries if name.startswith("checkpoints/")})

    def unpack(self, folder: Path, *, whole: bool = True) -> None:
        """Write the entries under a new folder, each with the digest that the manifest gives.

        Arguments:
            folder: made here.
            whole: also data, checkpoints and the environment's files; else only what the run itself is.

        Raises:
            BundleError: an entry is not what the manifest says, or there is no room for it.
        """
        names = [name for name in self.entries if whole or name in RUN_FILES]
        needed = sum(self.entries[name][0] for name in names)
        with writing(folder):
            folder.mkdir(parents=True)
        if needed > (free := shutil.disk_usage(folder).free):
            raise BundleError(f"{self.path}: it unpacks to {needed:,} bytes, and {folder} has room for {free:,}")
        with _reading(self.path), zipfile.ZipFile(self.path) as archive:
            for name in names:
                self._unpack(archive, name, folder / name)

    def _unpack(self, archive: zipfile.ZipFile, name: str, path: Path) -> None:
        size, digest = self.entries[name]
        found, left = hashlib.blake2b(digest_size=16), size
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("xb")
        with file, archive.open(name) as stream:
            # Not what the zip's headers promise, but what comes out, is counted.
            while block := stream.read(_BLOCK):
                left -= len(block)
                if left < 0:
                    break
                found.update(block)
                with writing(path):
                    file.write(block)
        if left or found.hexdigest() != digest:
            raise BundleError(f"{self.path}: {name}: it is not what the bundle's manifest says. Get the bundle again")


def open_bundle(path: Path) -> Bundle:
    """Check a bundle's seal, the names and forms of its entries, and its manifest.

    Raises:
        BundleError: it is none, it was changed or cut off, or it holds something that a bundle does not.
    """
    if not path.is_file():
        raise BundleError(f"{path}: no such file. `glassrun pack RUN` writes a bundle")
    with _reading(path):
        with path.open("rb") as file:
            _check_seal(path, file)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(path, entries)
            manifest = _manifest(path, archive)
    found = {entry.filename for entry in entries} - {MANIFEST}
    if set(manifest.entries) != found:
        odd = min(set(manifest.entries) ^ found)
        raise BundleError(f"{path}: {odd!r}: expected what the manifest lists and nothing else. Get the bundle again")
    missing = [name for name in RUN_FILES if name not in found]
    if missing:
        raise BundleError(f"{path}: {missing[0]} is missing. Get the bundle again")
    return manifest


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Everything that a damaged or malicious zip makes its readers raise, in the user's terms."""
    try:
        yield
    except (*_UNREADABLE, EOFError, NotImplementedError, OverflowError, RuntimeError, ValueError, OSError) as error:
        raise BundleError(f"{path}: cannot be read as a bundle: {error}. Get the bundle again") from None


def _check_seal(path: Path, file: IO[bytes]) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _SEAL_BYTES))
    seal = file.read(_SEAL_BYTES)
    if not seal.startswith(_SEAL) or len(seal) != _SEAL_BYTES:
        raise BundleError(f"{path}: no bundle that `glassrun pack` wrote, or cut off at its end")
    if size > 2 * MOST_BYTES:
        raise BundleError(f"{path}: expected at most {2 * MOST_BYTES:,} bytes, found {size:,}")
    if _seal(file) != seal[len(_SEAL) :]:
        raise BundleError(f"{path}: its bytes are not those that were written: it was damaged. Get the bundle again")


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MOST_ENTRIES:
        raise BundleError(f"{path}: expected at most {MOST_ENTRIES:,} entries, found {len(entries):,}")
    names = [entry.filename for entry in entries]
    if names != sorted(set(names)):
        raise BundleError(f"{path}: its entries are repeated or out of order. Get the bundle again")
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if entry.filename != entry.orig_filename or not _ALLOWED.fullmatch(entry.filename):
            raise BundleError(f"{path}: {entry.orig_filename!r} is no entry of a bundle")
        if kind not in (0, stat.S_IFREG):
            raise BundleError(f"{path}: {entry.filename}: expected a plain file, found a link or something else")
        if entry.flag_bits & 0x1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BundleError(f"{path}: {entry.filename}: it is encrypted, or packed in another way than a bundle is")
    inside = {"/".join(parts[:end]) for parts in (name.split("/") for name in names) for end in range(1, len(parts))}
    if both := inside & set(names):
        raise BundleError(f"{path}: {min(both)}: it is a file and a folder")


def _manifest(path: Path, archive: zipfile.ZipFile) -> Bundle:
    if MANIFEST not in archive.namelist():
        raise BundleError(f"{path}: {MANIFEST} is missing. Get the bundle again")
    with archive.open(MANIFEST) as stream:
        text = stream.read(_MOST_IN_MEMORY + 1)
    if len(text) > _MOST_IN_MEMORY:
        raise BundleError(f"{path}: {MANIFEST}: expected at most {_MOST_IN_MEMORY:,} bytes")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: {MANIFEST} is not JSON: {error}. Get the bundle again") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else None
        raise BundleError(f"{path}: format {found!r}; this glassrun reads bundles of format {FORMAT}")
    try:
        bundle = Bundle(path, _text(values["glassrun"]), _entries(values["entries"]), _data(values["data"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path}: {MANIFEST} is of another form: {error}. Get the bundle again") from None
    if bundle.unpacked_bytes > MOST_BYTES:
        raise BundleError(f"{path}: it unpacks to {bundle.unpacked_bytes:,} bytes; expected at most {MOST_BYTES:,}")
    for place in (place for places in bundle.data.values() for place in places):
        if not any(name == place or name.startswith(f"{place}/") for name in bundle.entries):
            raise BundleError(f"{path}: {place}: the manifest names data that are not in the bundle")
    return bundle


def _entries(values: Any) -> dict[str, tuple[int, str]]:
    found = {name: (value["bytes"], _text(value["digest"])) for name, value in values.items()}
    for name, (size, _) in found.items():
        if type(size) is not int or size < 0 or (name in _IN_MEMORY and size > _MOST_IN_MEMORY):
            raise TypeError(f"entries: {name}: {size!r} bytes")
    return found


def _data(values: Any) -> dict[str, list[str]]:
    found = {field: [_text(place) for place in places] for field, places in values.items()}
    for field, places in found.items():
        for number, place in enumerate(places):
            if not re.fullmatch(rf"data/{field}/{number}/{_PART}", place) or field not in (
                "path",
                "validation",
                "test",
            ):
                raise TypeError(f"data: {field}: {place!r}")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {value!r}")
    return value
