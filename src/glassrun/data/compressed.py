"""Files that may be compressed with gzip, read with a bound, so that a small file cannot fill the memory."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from glassrun.errors import DataError

MOST_BYTES = 4 * 2**30
# A gzip file may unpack to so many times its size, as no text and no set of images does; or to so many bytes anyhow.
_RATIO, _ALWAYS = 100, 2**26


def read(path: Path, most: int = MOST_BYTES) -> bytes:
    """A file's bytes, decompressed if it is a gzip file, whatever it is called.

    Raises:
        DataError: it is missing, no file, cannot be read, damaged, or longer than `most`.
    """
    if (found := what_is_at(path)) != "a file":
        raise DataError(f"{path}: expected a file, found {found}; a relative path starts at the working folder")
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            most = min(most, max(_ALWAYS, _RATIO * path.stat().st_size)) if packed else most
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            data: bytes = stream.read(most + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: its compression is damaged or cut off ({error}); fetch the file again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(data) > most:
        raise DataError(
            f"{path}: expected at most {most:,} bytes once unpacked, found more"
            + (
                f"; a gzip file may hold {_RATIO} times its own size: unpack it yourself if it is right"
                if packed
                else ""
            )
        )
    return data


def what_is_at(path: Path) -> str:
    """ "a file", "a folder" or "nothing", which is also what a name that cannot be one leads to."""
    try:
        return "a folder" if path.is_dir() else "a file" if path.is_file() else "nothing"
    except (OSError, ValueError):
        return "nothing"
