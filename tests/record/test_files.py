"""Files that are whole or absent, and what a full disk looks like."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from glassrun.errors import RunFolderError
from glassrun.record import files
from glassrun.record.files import Appender, remove_folder, sync_folder, write_atomic, write_folder_atomic


def no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As late as a full disk can be noticed: at the flush."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        yield


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- one file --------------------------------------------------------------------------------------------------------


def test_write_atomic_writes_and_replaces(tmp_path: Path) -> None:
    for data in (b"old", b"new and longer", b""):
        write_atomic(tmp_path / "f", data)
        assert (tmp_path / "f").read_bytes() == data
    assert names(tmp_path) == ["f"]


def test_write_atomic_on_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "f", b"old")
    with full_disk(monkeypatch), pytest.raises(RunFolderError) as caught:
        write_atomic(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert names(tmp_path) == ["f"]
    message = str(caught.value)
    assert str(tmp_path / "f") in message
    assert "the disk is full" in message
    assert "glassrun resume" in message
    assert "\n" not in message


def test_write_atomic_leaves_the_old_file_when_the_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "f", b"old")

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        for name in ("rename", "replace"):
            patch.setattr(Path, name, fails)
            patch.setattr(os, name, fails)
        with pytest.raises(RunFolderError, match=r"Input/output error$"):
            write_atomic(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def test_write_atomic_flushes_before_it_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "f", b"old")
    seen = []
    real = os.fsync

    def watch(descriptor: int) -> None:
        seen.append((tmp_path / "f").read_bytes())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    write_atomic(tmp_path / "f", b"new")
    assert seen == [b"old", b"new"]  # the file before, the folder after


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_all_kinds_of_full_are_told_alike(tmp_path: Path, number: int) -> None:
    with pytest.raises(RunFolderError, match=r"the disk is full\. Free some space"), files.writing(tmp_path):
        raise OSError(number, os.strerror(number))


def test_other_errors_are_told_by_their_name(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"cannot be written: Permission denied$"), files.writing(tmp_path):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def test_write_atomic_where_no_folder_is(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="cannot be written"):
        write_atomic(tmp_path / "absent" / "f", b"x")
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(RunFolderError, match="cannot be written"):
        write_atomic(tmp_path / "file" / "f", b"x")
    assert (tmp_path / "file").read_bytes() == b"mine"


# --- a folder --------------------------------------------------------------------------------------------------------


def test_write_folder_atomic(tmp_path: Path) -> None:
    write_folder_atomic(tmp_path / "a" / "b", {"x": b"1", "y": b"22"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "a" / "b").iterdir()} == {"x": b"1", "y": b"22"}
    assert names(tmp_path / "a") == ["b"]


def test_write_folder_atomic_on_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with full_disk(monkeypatch), pytest.raises(RunFolderError, match="the disk is full"):
        write_folder_atomic(tmp_path / "a", {"x": b"1"})
    assert names(tmp_path) == []


def test_write_folder_atomic_takes_an_empty_folder_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_folder_atomic(tmp_path / "empty", {"x": b"1"})
    assert names(tmp_path / "empty") == ["x"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_bytes(b"mine")
    with pytest.raises(RunFolderError, match="cannot be written"):
        write_folder_atomic(tmp_path / "full", {"x": b"1"})
    assert names(tmp_path / "full") == ["mine"]
    assert names(tmp_path) == ["empty", "full"]


def test_what_a_kill_left_behind_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(_: int) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", kill)
        for write in (
            lambda: write_folder_atomic(tmp_path / "a", {"x": b"1"}),
            lambda: write_atomic(tmp_path / "f", b"1"),
        ):
            with pytest.raises(Killed):
                write()
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "f").exists()
    write_folder_atomic(tmp_path / "a", {"y": b"2"})
    write_atomic(tmp_path / "f", b"2")
    assert names(tmp_path / "a") == ["y"]
    assert names(tmp_path) == ["a", "f"]


def test_remove_folder_is_whole_until_it_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder_atomic(tmp_path / "a", {"x": b"1", "y": b"2"})
    with monkeypatch.context() as patch:
        patch.setattr(files.shutil, "rmtree", lambda *_, **__: None)  # killed before anything is deleted
        remove_folder(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    write_folder_atomic(tmp_path / "a", {"z": b"3"})
    remove_folder(tmp_path / "a")
    assert names(tmp_path) == []
    with pytest.raises(RunFolderError):
        remove_folder(tmp_path / "a")


def test_sync_folder_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        sync_folder(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# --- appending -------------------------------------------------------------------------------------------------------


def test_appender_cuts_off_what_stands_behind_its_start(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntorn")
    appender = Appender(path, 4)
    assert path.read_bytes() == b"one\n"
    appender.append(b"two\n")
    appender.append(b"three\n")
    appender.sync()
    appender.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"


def test_appender_makes_a_new_file(tmp_path: Path) -> None:
    appender = Appender(tmp_path / "log", 0)
    appender.append(b"x")
    appender.close()
    assert (tmp_path / "log").read_bytes() == b"x"


def test_appender_writes_at_once(tmp_path: Path) -> None:
    appender = Appender(tmp_path / "log", 0)
    appender.append(b"x\n")
    assert (tmp_path / "log").read_bytes() == b"x\n"
    appender.close()


@pytest.mark.parametrize("taken", [0, 3])
def test_appender_on_a_full_disk_keeps_what_was_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """Whether the disk takes nothing or a part of a line."""
    appender = Appender(tmp_path / "log", 0)
    appender.append(b"one\n")
    real = os.pwrite

    def short(descriptor: int, data: bytes, offset: int) -> int:
        return real(descriptor, data[:taken], offset) if taken else no_space()

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", short)
        with pytest.raises(RunFolderError, match=r"log: cannot be written: the disk is full"):
            appender.append(b"twotwo\n")
    assert (tmp_path / "log").read_bytes() == b"one\n"
    appender.append(b"two\n")
    appender.close()
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


def test_appender_sync_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    appender = Appender(tmp_path / "log", 0)
    with full_disk(monkeypatch), pytest.raises(RunFolderError, match="the disk is full"):
        appender.sync()
    appender.close()


def test_a_device_that_is_always_full() -> None:
    """/dev/full is a real ENOSPC, if not a file that can be cut: one clear error either way."""
    with pytest.raises(RunFolderError, match="/dev/full: cannot be written"):
        Appender(Path("/dev/full"), 0).append(b"x")


def test_the_real_full_device_says_that_the_disk_is_full() -> None:
    with pytest.raises(RunFolderError, match="the disk is full"), files.writing(Path("/dev/full")):
        Path("/dev/full").write_bytes(b"x")


def test_appender_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="No such file"):
        Appender(tmp_path / "absent" / "log", 0)
