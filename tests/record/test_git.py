"""What is recorded of git repositories: commits, changed and untracked sources, submodules, and no secrets."""

import json
import subprocess
from pathlib import Path

import pytest

from glassrun.digest import digest_bytes
from glassrun.record.git import repositories, repository


@pytest.fixture(autouse=True)
def _only_these_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))


def run_git(folder: Path, *arguments: str) -> str:
    options = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    options += ["-c", "protocol.file.allow=always", "-c", "init.defaultBranch=trunk"]
    done = subprocess.run(["git", "-C", str(folder), *options, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def made(folder: Path) -> Path:
    """A repository with one commit of two files."""
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "a.py").write_text("1\n")
    (folder / "notes.txt").write_text("1\n")
    run_git(folder, "init", "-q")
    run_git(folder, "add", ".")
    run_git(folder, "commit", "-q", "-m", "one")
    return folder


def test_a_clean_repository(tmp_path: Path) -> None:
    folder = made(tmp_path / "mine")
    commit = run_git(folder, "rev-parse", "HEAD")
    assert repository(folder / "package") == {
        "repository": "mine",
        "commit": commit,
        "branch": "trunk",
        "description": commit[:7],
        "changed": False,
        "changed_files": {},
        "untracked_files": {},
        "files_left_out": 0,
        "submodules": {},
    }


def test_changed_and_untracked_sources_are_named_with_their_digests(tmp_path: Path) -> None:
    folder = made(tmp_path / "mine")
    (folder / "package" / "a.py").write_text("2\n")
    (folder / "package" / "grün new.py").write_text("3\n", encoding="utf-8")
    (folder / "package" / "data.bin").write_bytes(b"x")
    (folder / ".gitignore").write_text("ignored.py\n")
    (folder / "ignored.py").write_text("4\n")
    found = repository(folder)
    assert found is not None
    assert found["changed"] is True
    assert found["changed_files"] == {"package/a.py": digest_bytes(b"2\n")}
    assert found["untracked_files"] == {"package/grün new.py": digest_bytes(b"3\n")}
    run_git(folder, "add", "package/a.py")  # staged is changed too
    assert repository(folder)["changed_files"] == {"package/a.py": digest_bytes(b"2\n")}  # type: ignore[index]


def test_a_source_that_is_gone_or_renamed(tmp_path: Path) -> None:
    folder = made(tmp_path / "mine")
    run_git(folder, "mv", "package/a.py", "package/b.py")
    found = repository(folder)
    assert found is not None
    assert found["changed_files"] == {"package/a.py": None, "package/b.py": digest_bytes(b"1\n")}


def test_a_changed_file_that_is_no_source_counts_and_is_not_named(tmp_path: Path) -> None:
    folder = made(tmp_path / "mine")
    (folder / "notes.txt").write_text("2\n")
    found = repository(folder)
    assert found is not None
    assert found["changed"] is True
    assert found["changed_files"] == {}


def test_tag_and_detached_head(tmp_path: Path) -> None:
    folder = made(tmp_path / "mine")
    run_git(folder, "tag", "v1")
    run_git(folder, "checkout", "-q", "--detach")
    found = repository(folder)
    assert found is not None
    assert (found["branch"], found["description"]) == (None, "v1")


def test_submodules_and_their_state(tmp_path: Path) -> None:
    inner, outer = made(tmp_path / "inner"), made(tmp_path / "outer")
    run_git(outer, "submodule", "--quiet", "add", str(inner), "libs/one")
    run_git(outer, "submodule", "--quiet", "add", str(inner), "libs/two")
    run_git(outer, "commit", "-q", "-m", "two")
    run_git(outer, "submodule", "--quiet", "deinit", "libs/two")
    (outer / "libs" / "one" / "package" / "a.py").write_text("5\n")
    found = repository(outer)
    assert found is not None
    assert list(found["submodules"]) == ["libs/one", "libs/two"]
    assert found["submodules"]["libs/two"] is None
    one = found["submodules"]["libs/one"]
    assert one["commit"] == run_git(inner, "rev-parse", "HEAD")
    assert one["changed_files"] == {"package/a.py": digest_bytes(b"5\n")}


def test_several_folders_of_one_repository_count_once(tmp_path: Path) -> None:
    one, two = made(tmp_path / "one"), made(tmp_path / "two")
    found = repositories([one, one / "package", two, tmp_path / "absent"])
    assert [entry["repository"] for entry in found] == ["one", "two"]


def test_no_address_of_a_remote_is_recorded(tmp_path: Path) -> None:
    folder = made(tmp_path / "mine")
    run_git(folder, "remote", "add", "origin", "https://me:hunter2@example.org/mine.git")
    assert "hunter2" not in json.dumps(repository(folder))


def test_inside_a_hook_the_folder_still_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = made(tmp_path / "one"), made(tmp_path / "two")
    (two / "package" / "a.py").write_text("2\n")
    monkeypatch.setenv("GIT_DIR", str(two / ".git"))
    found = repository(one)
    assert found is not None
    assert (found["repository"], found["changed"]) == ("one", False)


def test_looking_writes_nothing(tmp_path: Path) -> None:
    folder = made(tmp_path / "mine")
    (folder / "package" / "a.py").touch()  # a reason for git to refresh its index
    before = (folder / ".git" / "index").read_bytes()
    repository(folder)
    assert (folder / ".git" / "index").read_bytes() == before


def test_no_commit_no_repository_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_git(tmp_path, "init", "-q")
    assert repository(tmp_path) is None
    assert repository(tmp_path / "absent") is None
    folder = made(tmp_path / "mine")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert repository(folder) is None
