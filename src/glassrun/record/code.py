"""The code of a run: every source file, ours and the user's, that it imported from outside installed packages.

A package that is installed in editable mode, or found through a `.pth` file, lies outside the folders of installed
packages, so its files count as the user's.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import sysconfig
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import islice
from pathlib import Path
from typing import Any

from glassrun.digest import digest_bytes, digest_value
from glassrun.errors import RunFolderError
from glassrun.record import git
from glassrun.record.files import write_atomic

FILE_LIMIT = 2**20  # bytes: a source file is smaller; what is larger is data in disguise
TOTAL_LIMIT = 16 * 2**20
_MOST_LEFT_OUT = 1000  # names
# A module's path: names that no folder can be left by. A part never starts with a dot.
_MODULE = re.compile(r"(?:[^/\\\0.][^/\\\0]*/)*[^/\\\0.][^/\\\0]*\.py")


@dataclass(frozen=True)
class Code:
    """Source files by their path as modules (`package/module.py`), and what was left out, with the reason."""

    files: dict[str, bytes]
    left_out: dict[str, str]
    roots: tuple[Path, ...]

    @property
    def digests(self) -> dict[str, str]:
        return {name: digest_bytes(data) for name, data in self.files.items()}

    def record(self) -> dict[str, Any]:
        """What `run.json` says about the code."""
        return {
            "digest": digest_value(self.digests),
            "files": self.digests,
            "left_out": self.left_out,
            "git": git.repositories(self.roots),
        }

    def archive(self) -> bytes:
        """A zip of the files, the same bytes for the same files."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in self.files.items():
                entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, data)
        return stream.getvalue()


def collect() -> Code:
    """The sources of all modules that are imported now."""
    files: dict[str, bytes] = {}
    left_out: dict[str, str] = {}
    roots: set[Path] = set()
    total = 0
    installed = _installed()
    for name, module in sorted(_modules().items()):
        path = _file(name, module, installed)
        if path is None:
            continue
        stored = name.replace(".", "/") + ("/__init__.py" if path.name == "__init__.py" else ".py")
        if path.suffix != ".py":
            left_out[str(Path(stored).with_name(path.name))] = "compiled"
            continue
        data = path.read_bytes()
        if len(data) > FILE_LIMIT or total + len(data) > TOTAL_LIMIT:
            left_out[stored] = "too large"
            continue
        files[stored] = data
        total += len(data)
        if stored == f"{name}/__init__.py" and not _is_ours(name):
            left_out |= {f"{name}/{file}": "no source" for file in islice(_beside(path.parent), _MOST_LEFT_OUT)}
        if stored.count("/") < len(path.parents):  # a module may be called anything
            roots.add(path.parents[stored.count("/")])
    kept = dict(sorted(left_out.items())[:_MOST_LEFT_OUT])
    return Code(files, kept, tuple(sorted(roots)))


def _modules() -> dict[str, Any]:
    """What is imported, by name. The program that was started is known as __main__, and as a module has its own name.

    A script keeps the name __main__: under its own it could not be told from a module.
    """
    found: dict[str, Any] = dict(sys.modules)
    program = found.pop("__main__", None)
    found.pop("__mp_main__", None)
    spec, file = getattr(program, "__spec__", None), getattr(program, "__file__", None)
    if spec:  # `python -m glassrun.train.worker`
        found[spec.name] = program
    elif isinstance(file, str) and file.endswith(".py"):  # `python train.py`
        found["__main__"] = program
    return found


def _beside(package: Path) -> Iterator[str]:
    """Files of a package that are no Python, such as data: its code may read them, so they are named."""
    for folder, inside, files in os.walk(package):
        inside[:] = sorted(name for name in inside if not name.startswith((".", "__pycache__")))
        for name in sorted(files):
            if not name.startswith(".") and not name.endswith((".py", ".pyc", ".pyi")):
                yield str(Path(folder, name).relative_to(package))


def store(folder: Path) -> dict[str, Any]:
    """Write `code.zip` with the sources that are imported now; what `run.json` says about them."""
    sources = collect()
    write_atomic(folder / "code.zip", sources.archive())
    return sources.record()


def kept(folder: Path, recorded: dict[str, Any]) -> dict[str, Any]:
    """Add to `code.zip` what was imported since; a changed file is not replaced. What `run.json` says then."""
    found = collect()
    grown = found.digests.keys() > recorded["files"].keys() and not differences(recorded, found)
    return store(folder) if grown else recorded


def read_archive(path: Path, recorded: Mapping[str, Any]) -> dict[str, bytes]:
    """The source files of a run's `code.zip`, each as `run.json` says it was.

    Raises:
        RunFolderError: the archive is missing or damaged, or a file in it is not the recorded one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > TOTAL_LIMIT:
                raise ValueError(f"it unpacks to more than {TOTAL_LIMIT:,} bytes")
            files = {entry.filename: archive.read(entry) for entry in entries}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise RunFolderError(f"{path}: the recorded code cannot be read: {error}. Restore it from a copy") from None
    digests = {name: digest_bytes(data) for name, data in files.items()}
    if digests != dict(recorded["files"]) or not all(map(_MODULE.fullmatch, files)):
        raise RunFolderError(f"{path}: its files are not those that the run recorded. Restore it from a copy")
    return files


def lay_out(files: Mapping[str, bytes], folder: Path) -> None:
    """Make a folder from which the recorded code is imported: this glassrun with the recorded files over it.

    What the run did not import is not recorded, so it is taken from here.
    """
    shutil.copytree(Path(__file__).parents[1], folder / "glassrun", ignore=shutil.ignore_patterns("__pycache__"))
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def differences(recorded: dict[str, Any], here: Code) -> list[str]:
    """One line for each source file that is not the same; files that only one side imported do not count."""
    found = here.digests
    return [
        f"code: {name} was changed since"
        for name, digest in sorted(recorded.get("files", {}).items())
        if name in found and found[name] != digest
    ]


def now(recorded: Mapping[str, Any], here: Code) -> dict[str, Any]:
    """The recorded files as they are now, for a run that goes on.

    Returns:
        `digest`, the recorded one if no file was changed, and `changed`, the new digest of each that was.
    """
    found = here.digests
    changed = {name: found[name] for name, digest in recorded["files"].items() if found.get(name, digest) != digest}
    return {"digest": digest_value(recorded["files"] | changed), "changed": changed}


def _is_ours(name: str) -> bool:
    return name == "glassrun" or name.startswith("glassrun.")


def _file(name: str, module: Any, installed: tuple[str, ...]) -> Path | None:
    """The file of a module of ours or of the user's: a source, or a compiled extension."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith((".py", *EXTENSION_SUFFIXES)):
        return None
    path = Path(file).absolute()
    if not _is_ours(name) and str(path).startswith(installed):
        return None
    return path if path.is_file() else None


def _installed() -> tuple[str, ...]:
    """The folders of the standard library and of installed packages, as the beginnings of paths."""
    paths = sysconfig.get_paths()
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = {Path(paths[name]).absolute() for name in names} | {Path(sysconfig.__file__).parent.absolute()}
    packages = [Path(p).absolute() for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    return tuple(f"{folder}{os.sep}" for folder in sorted(folders | set(packages)))
