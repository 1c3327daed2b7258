"""Writing files so that a kill or a full disk at any moment leaves either the old or the new, never half of one."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from glassrun.errors import RunFolderError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell an error of the file system in the user's terms; `path` is what was being written."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = (
            "Free some space; nothing that was written before is lost. Then go on with `glassrun resume`, or, if the "
            "run had not begun and so left no folder, give the command again"
            if full
            else ""
        )
        reason = "the disk is full" if full else error.strerror or str(error)
        raise RunFolderError(f"{path}: cannot be written: {reason}. {advice}".rstrip(". ")) from None


def write_atomic(path: Path, data: bytes) -> None:
    """Write beside, flush to the disk, rename into place."""
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        try:
            _write_synced(partial, data)
            partial.rename(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_folder_atomic(path: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder with these files: written beside, flushed, renamed into place.

    Raises:
        RunFolderError: a folder that is not empty stands there, or the disk is full.
    """
    # The number of the process: two that begin a run in one second choose one name, and the first rename wins.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with writing(path):
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            for name, data in files.items():
                _write_synced(partial / name, data)
            sync_folder(partial)
            partial.rename(path)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync_folder(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder so that it is whole until it is gone: renamed first, then deleted."""
    with writing(path):
        doomed = path.with_name(f".{path.name}.partial")
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


class Appender:
    """An append-only file that starts after `size` bytes: what stood behind them is cut off."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        with writing(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.ftruncate(self._descriptor, size)
        self._size = size

    def append(self, data: bytes) -> None:
        """Write at the end, whole or not at all."""
        with writing(self.path):
            try:
                written = os.pwrite(self._descriptor, data, self._size)
                if written < len(data):  # a full disk can take a part
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(self._descriptor, self._size)
                raise
            self._size += len(data)

    def sync(self) -> None:
        """Flush to the disk."""
        with writing(self.path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)
