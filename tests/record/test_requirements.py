"""The recorded environment as people use it; what a stranger recorded is no option of an installer."""

from __future__ import annotations

import re
from typing import Any

import pytest

from glassrun.errors import BundleError
from glassrun.plain import parse_yaml
from glassrun.record.requirements import dockerfile, environment_yml, pinned, python_version, requirements_txt

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def environment(**packages: str) -> dict[str, Any]:
    return {
        "python": "CPython 3.12.4",
        "packages": {"glassrun": "0.1.0", "pip": "25.0", "torch": "2.13.0+cpu"} | packages,
        "origins": {
            "glassrun": {"folder": "/home/me/glassrun", "editable": True, "git": {"commit": COMMIT, "changed": True}},
            "mine": {"folder": "/home/me/mine", "editable": False, "git": None},
            "theirs": {"url": "git+https://example.org/theirs.git", "commit": COMMIT},
            "wheel": {"url": "https://example.org/wheel-1-py3-none-any.whl", "hash": "sha256=00"},
            "local": {"url": "file:///home/me/local.whl", "hash": None},
        },
    }


def test_exact_versions_commits_and_addresses() -> None:
    assert pinned(environment(numpy="2.4.6", mine="1", theirs="2", wheel="1", local="3")) == [
        "numpy==2.4.6",
        f"theirs @ git+https://example.org/theirs.git@{COMMIT}",
        "torch==2.13.0+cpu",
        "wheel @ https://example.org/wheel-1-py3-none-any.whl",
    ]


def test_what_an_installer_cannot_get_again_is_a_comment_with_its_commit() -> None:
    text = requirements_txt(environment(mine="1"))
    assert f"# glassrun 0.1.0 at commit {COMMIT} with changes: the files that ran are in code.zip\n" in text
    assert "# mine 1: installed from a folder" in text
    assert "/home/me" not in text
    assert [line for line in text.splitlines() if not line.startswith("#")] == ["torch==2.13.0+cpu"]


def test_the_conda_file_is_yaml_with_the_same_versions() -> None:
    found = parse_yaml(environment_yml(environment(numpy="2.4.6"), "no"), "environment.yml")
    assert found["name"] == "no"
    assert found["dependencies"] == ["python=3.12.4", "pip", {"pip": ["numpy==2.4.6", "torch==2.13.0+cpu"]}]


def test_the_dockerfile_starts_from_the_recorded_python() -> None:
    assert "\nFROM python:3.12.4-slim\n" in dockerfile(environment())
    assert python_version({"python": "CPython 3.13.0rc1"}) == "3.13.0"


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("--index-url", "1"),
        ("a", "1 --pre"),
        ("a", "1\n--index-url https://evil.example"),
        ("a\n-e .", "1"),
        ("a", ""),
        ("a", "1 ; python_version > '2'"),
        ("https://evil.example/a.whl", "1"),
    ],
)
def test_what_is_no_name_or_version_is_refused(name: str, version: str) -> None:
    with pytest.raises(BundleError, match="is no package and version"):
        pinned(environment(**{name: version}))


@pytest.mark.parametrize(
    "url",
    ["https://a b", "https://a\n--pre", "-e .", "file:///etc/passwd", "https://a#egg=b", "git+file:///a", "https://a'"],
)
def test_an_address_that_is_none_is_not_installed(url: str) -> None:
    values = environment(theirs="2")
    values["origins"]["theirs"]["url"] = url
    assert pinned(values) == ["torch==2.13.0+cpu"]


@pytest.mark.parametrize("python", ["", "3.12.4", "CPython 3.12", "CPython 3.12.4\nRUN evil", "C Python 3.12.4"])
def test_a_python_that_is_none_is_refused(python: str) -> None:
    with pytest.raises(BundleError, match=re.escape("environment.python")):
        python_version({"python": python})
