"""The code of a run: the user's sources are in it, installed packages and data are not."""

import importlib
import io
import subprocess
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import glassrun
from glassrun.digest import digest_bytes
from glassrun.record import code
from glassrun.record.code import Code, collect, differences, git


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the user's with modules and data, importable; what it imports is forgotten again."""
    folder = tmp_path / "project"
    package = folder / "users_package"
    (package / "deeper").mkdir(parents=True)
    (package / "__init__.py").write_text("from users_package import layers\n")
    (package / "layers.py").write_text("WIDTH = 3\n")
    (package / "deeper" / "__init__.py").write_text("")
    (package / "deeper" / "model.py").write_text("import users_package.layers\n")
    (package / "never_imported.py").write_text("1 / 0\n")
    (package / "weights.bin").write_bytes(bytes(100))
    (package / "secrets.env").write_text("TOKEN=1\n")
    (folder / "users_module.py").write_text("# grüße\nX = 1\n", encoding="utf-8")
    (folder / "data.csv").write_text("1,2\n")
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


def users(found: Code) -> set[str]:
    return {name for name in found.files if name.startswith("users_")}


def test_the_users_files_are_in_it_as_they_are(project: Path) -> None:
    importlib.import_module("users_package.deeper.model")
    importlib.import_module("users_module")
    found = collect()
    assert users(found) == {
        "users_module.py",
        "users_package/__init__.py",
        "users_package/layers.py",
        "users_package/deeper/__init__.py",
        "users_package/deeper/model.py",
    }
    for name in users(found):
        assert found.files[name] == (project / name).read_bytes()
    assert project in found.roots


def test_only_imported_sources_are_in_it(project: Path) -> None:
    importlib.import_module("users_package")
    found = collect()
    assert all(name.endswith(".py") for name in found.files)
    assert not any("never_imported" in name for name in found.files)
    for name in ("users_package/weights.bin", "users_package/secrets.env", "data.csv"):
        assert (project / name).read_bytes() not in found.files.values()


def test_our_own_files_are_in_it_and_installed_ones_are_not() -> None:
    found = collect()
    own = Path(glassrun.__file__).parent
    assert found.files["glassrun/record/code.py"] == (own / "record" / "code.py").read_bytes()
    assert found.files["glassrun/__init__.py"] == (own / "__init__.py").read_bytes()
    tops = {name.partition("/")[0].removesuffix(".py") for name in found.files}
    assert not tops & {"torch", "numpy", "pytest", "pydantic", "json", "zipfile", "encodings", "__main__"}


def test_the_archive_holds_the_files(project: Path) -> None:
    importlib.import_module("users_package")
    found = collect()
    with zipfile.ZipFile(io.BytesIO(found.archive())) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == found.files
    assert (project / "users_package" / "layers.py").read_bytes() in found.files.values()


@pytest.mark.usefixtures("project")
def test_the_archive_has_the_same_bytes_for_the_same_files() -> None:
    importlib.import_module("users_package")
    first, second = collect(), collect()
    assert first.archive() == second.archive()
    assert first.record()["digest"] == second.record()["digest"]


def test_a_file_over_the_limit_is_left_out_and_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("users_package")
    importlib.import_module("users_module")
    monkeypatch.setattr(code, "FILE_LIMIT", 20)
    (project / "users_module.py").write_bytes(b"#" * 20)
    (project / "users_package" / "layers.py").write_bytes(b"#" * 21)
    found = collect()
    assert "users_module.py" in found.files
    assert "users_package/layers.py" in found.left_out
    assert "users_package/layers.py" not in found.files
    assert "users_package/layers.py" in found.record()["left_out"]


@pytest.mark.usefixtures("project")
def test_all_files_together_stay_under_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("users_package")
    whole = sum(map(len, collect().files.values()))
    monkeypatch.setattr(code, "TOTAL_LIMIT", whole - 1)
    found = collect()
    assert sum(map(len, found.files.values())) <= whole - 1
    assert found.left_out


def test_a_real_source_file_of_data_is_left_out(project: Path) -> None:
    (project / "users_table.py").write_text(f"ROWS = '{'7' * 2**20}'\n")
    importlib.import_module("users_table")
    found = collect()
    assert "users_table.py" in found.left_out
    assert len(found.archive()) < code.TOTAL_LIMIT


def test_odd_modules_are_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = types.ModuleType("users_gone")
    gone.__file__ = str(tmp_path / "gone.py")
    binary = types.ModuleType("users_binary")
    binary.__file__ = str(tmp_path / "binary.so")
    (tmp_path / "binary.so").write_bytes(b"x")
    namespace = types.ModuleType("users_namespace")
    namespace.__file__ = None
    for module in (gone, binary, namespace):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, "users_none", None)  # type: ignore[arg-type]
    assert users(collect()) == set()


def test_a_module_whose_name_is_deeper_than_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Loaded from a file under a name that the loader made up, as plug-in systems do."""
    name = "users_plugins." + ".".join("abcdefghijklmnopqrstuvwxyz")
    module = types.ModuleType(name)
    (tmp_path / "plugin.py").write_text("X = 1\n")
    module.__file__ = str(tmp_path / "plugin.py")
    monkeypatch.setitem(sys.modules, name, module)
    assert b"X = 1\n" in collect().files.values()


# --- what differs, and git -------------------------------------------------------------------------------------------


def test_a_changed_file_is_a_difference(project: Path) -> None:
    importlib.import_module("users_package")
    recorded = collect().record()
    assert differences(recorded, collect()) == []
    (project / "users_package" / "layers.py").write_text("WIDTH = 5\n")
    assert differences(recorded, collect()) == ["code: users_package/layers.py was changed since"]
    assert collect().record()["digest"] != recorded["digest"]


def test_files_that_only_one_side_imported_do_not_count() -> None:
    recorded = {"files": {"a.py": digest_bytes(b"1"), "b.py": digest_bytes(b"2")}}
    assert differences(recorded, Code({"b.py": b"2", "c.py": b"3"}, (), ())) == []
    assert differences({}, Code({"b.py": b"2"}, (), ())) == []


def run_git(folder: Path, *arguments: str) -> str:
    options = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *options, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_git_gives_the_commit_and_whether_files_differ(tmp_path: Path) -> None:
    run_git(tmp_path, "init", "-q")
    assert git(tmp_path) is None  # no commit yet
    (tmp_path / "a.py").write_text("1\n")
    run_git(tmp_path, "add", "a.py")
    run_git(tmp_path, "commit", "-q", "-m", "one")
    commit = run_git(tmp_path, "rev-parse", "HEAD")
    assert git(tmp_path) == {"commit": commit, "changed": False}
    (tmp_path / "a.py").write_text("2\n")
    assert git(tmp_path) == {"commit": commit, "changed": True}


def test_git_outside_a_repository_or_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git(tmp_path) is None
    assert git(tmp_path / "absent") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git(tmp_path) is None
