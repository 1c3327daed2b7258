"""Where installed distributions came from, and that no password gets into the record."""

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from glassrun.record.distributions import origins, versions, without_secrets


def install(site: Path, name: str, version: str, direct: Any = None) -> None:
    """What an installer leaves."""
    information = site / f"{name}-{version}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if direct is not None:
        text = direct if isinstance(direct, str) else json.dumps(direct)
        (information / "direct_url.json").write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site-packages")])
    return tmp_path / "site-packages"


def test_versions_by_normalised_name(site: Path) -> None:
    install(site, "Some.Long_Name", "1.2")
    install(site, "other", "3")
    assert versions() == {"other": "3", "some-long-name": "1.2"}
    assert origins() == {}


def test_of_two_of_one_name_the_one_that_is_imported(site: Path, tmp_path: Path) -> None:
    install(site, "one", "2")
    install(tmp_path / "later" / "site-packages", "one", "1")
    sys.path.append(str(tmp_path / "later" / "site-packages"))
    assert versions() == {"one": "2"}
    assert versions()["one"] == metadata.version("one")


def test_a_repository_has_its_commit_and_no_password(site: Path) -> None:
    url = "https://me:hunter2@example.org/one.git"
    install(site, "one", "1", {"url": url, "vcs_info": {"vcs": "git", "commit_id": "abc", "requested_revision": "v1"}})
    assert origins() == {"one": {"url": "git+https://example.org/one.git", "commit": "abc"}}


def test_a_file_has_its_hash_and_no_query(site: Path) -> None:
    url = "https://example.org/one-1-py3-none-any.whl?token=hunter2#sha256=ab"
    install(site, "one", "1", {"url": url, "archive_info": {"hash": "sha256=ab"}})
    assert origins() == {"one": {"url": "https://example.org/one-1-py3-none-any.whl", "hash": "sha256=ab"}}


def test_a_folder_is_told_apart_from_an_editable_one(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my checkout"
    install(site, "one", "1", {"url": folder.as_uri(), "dir_info": {}})
    install(site, "two", "1", {"url": folder.as_uri(), "dir_info": {"editable": True}})
    found = origins()
    assert found["one"] == {"folder": str(folder), "editable": False, "git": None}
    assert found["two"]["editable"] is True


def test_metadata_beside_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `setup.py develop` leaves them, and whatever is put on PYTHONPATH."""
    (tmp_path / "one.egg-info").mkdir()
    (tmp_path / "one.egg-info" / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: one\nVersion: 1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert origins() == {"one": {"folder": str(tmp_path), "editable": True, "git": None}}


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"url": 3}', '{"url": "http://[", "archive_info": 1}'])
def test_a_record_of_another_form_is_no_reason_to_fail(site: Path, text: str) -> None:
    install(site, "one", "1", text)
    assert set(origins()) <= {"one"}
    assert versions() == {"one": "1"}


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://user:hunter2@example.org/a", "https://example.org/a"),
        ("https://hunter2@example.org:8080/a", "https://example.org:8080/a"),
        ("https://example.org/a?key=hunter2", "https://example.org/a"),
        ("ssh://git@example.org/a", "ssh://git@example.org/a"),
        ("ssh://git:hunter2@example.org/a", "ssh://example.org/a"),
        ("hunter2@example.org:a.git", "example.org:a.git"),
        ("file:///home/me/a@b", "file:///home/me/a@b"),
        ("https://example.org/a@v1", "https://example.org/a@v1"),
    ],
)
def test_addresses_without_secrets(address: str, kept: str) -> None:
    assert without_secrets(address) == kept
