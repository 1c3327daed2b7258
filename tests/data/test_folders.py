"""Folders that cannot be listed are an error, also when they lie inside another."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from glassrun import config
from glassrun.data import registry
from glassrun.data.folders import entries, files_below
from glassrun.errors import DataError


def test_files_are_found_at_any_depth_in_one_order(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a/deep/3.png", "c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [str(path.relative_to(tmp_path)) for path in files_below(tmp_path)] == [
        "a/deep/3.png",
        "b/1.png",
        "b/2.png",
        "c.png",
    ]
    assert [path.name for path in entries(tmp_path)] == ["a", "b", "c.png"]


def forbidden(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Listing the folder fails as it does without the permission; root, who may run this, has every permission."""
    scandir, listdir = os.scandir, os.listdir

    def refuse(listing: Any) -> Any:
        def listed(path: Any = ".") -> Any:
            if Path(path) == folder:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return listing(path)

        return listed

    monkeypatch.setattr(os, "scandir", refuse(scandir))
    monkeypatch.setattr(os, "listdir", refuse(listdir))


@pytest.mark.parametrize("which", ["", "b", "b/deep"])
def test_a_folder_that_cannot_be_listed_is_named(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b/deep"):
        (tmp_path / "images" / name).mkdir(parents=True)
    wrong = tmp_path / "images" / which
    forbidden(monkeypatch, wrong)
    section = config.load(
        {
            "name": "t",
            "task": "classify",
            "data": {"source": "images", "path": str(tmp_path / "images")},
            "model": {"kind": "cnn"},
        }
    ).data
    (tmp_path / "images" / "a" / "1.png").write_bytes(b"x")
    with pytest.raises(DataError, match=f"{wrong}: this folder cannot be listed: Permission denied"):
        registry.load(section, 1)
