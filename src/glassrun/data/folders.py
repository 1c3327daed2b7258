"""What is in a folder of the user's, in a fixed order; a folder that cannot be listed is an error, not an empty one."""

from __future__ import annotations

import os
from pathlib import Path

from glassrun.errors import DataError


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted.

    Raises:
        DataError: it cannot be listed.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise _unlisted(error) from None


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and in those inside it, sorted.

    Raises:
        DataError: one of them cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise _unlisted(error) from None

    return sorted(Path(place, name) for place, _, names in os.walk(folder, onerror=fail) for name in names)


def _unlisted(error: OSError) -> DataError:
    return DataError(f"{error.filename}: this folder cannot be listed: {error.strerror}. Change its permissions")
