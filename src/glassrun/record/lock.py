"""The lock of a run folder: one process writes, and the operating system frees it however that process ends."""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from contextlib import suppress
from pathlib import Path

from glassrun.errors import RunFolderError


class WriterLock:
    """The right to write the run folder at `folder`; taken by at most one process at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / ".lock"
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process has it."""
        return self._descriptor is not None

    def take(self) -> None:
        """Become the only writer.

        Raises:
            RunFolderError: another process is, or the folder cannot be written.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RunFolderError(f"{self._folder}: cannot be written: {error.strerror}") from None
        for wait in (0.1, 0.2, 0.4, 0.8, 1.6, None):  # a worker that is just being killed needs a moment to be gone
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if wait is None:
                    os.close(descriptor)
                    raise RunFolderError(
                        f"{self._folder}: another process is writing this run. Wait until it ends, or stop it"
                    ) from None
                time.sleep(wait)
            else:
                self._descriptor = descriptor
                _release_in_children(self)
                return

    def release(self) -> None:
        """Stop being the writer."""
        assert self._descriptor is not None, "only the holder of the lock gives it up"
        os.close(self._descriptor)
        self._descriptor = None

    def held_by_another(self) -> bool:
        """Whether some process is writing this run now."""
        with suppress(OSError):
            descriptor = os.open(self._path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
            finally:
                os.close(descriptor)
        return False


def _release_in_children(lock: WriterLock) -> None:
    """A forked process, such as a data loader's, would hold the lock for as long as it outlives the writer."""
    there = weakref.ref(lock)

    def release() -> None:
        found = there()
        if found is not None and found.held:
            found.release()

    os.register_at_fork(after_in_child=release)
