"""The code of a run: the user's sources are in it, installed packages and data are not."""

import importlib
import io
import json
import subprocess
import sys
import types
import zipfile
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import glassrun
from glassrun.digest import digest_bytes
from glassrun.record import code
from glassrun.record.code import Code, collect, differences, now


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
    named = {name: reason for name, reason in found.left_out.items() if name.startswith("users_")}
    assert named == {"users_package/weights.bin": "no source", "users_package/secrets.env": "no source"}


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


def test_a_compiled_extension_is_named_as_left_out(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    library = project / "users_package" / f"fast{EXTENSION_SUFFIXES[0]}"
    library.write_bytes(b"\x7fELF")
    module = types.ModuleType("users_package.fast")
    module.__file__ = str(library)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert collect().left_out[f"users_package/{library.name}"] == "compiled"


def test_the_script_that_was_started_is_in_it(tmp_path: Path) -> None:
    """Of a loop of the user's own, it is the code that matters most."""
    script = tmp_path / "my_loop.py"
    script.write_text(
        "from glassrun.record.code import collect\nfound = collect()\nprint(sorted(found.files))\n"
        "assert found.files['__main__.py'] == open(__file__, 'rb').read()\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "__main__.py" in done.stdout


def test_packages_installed_in_editable_mode_and_by_path_files_are_the_users(tmp_path: Path) -> None:
    """They are known to the installer, and yet their source can change at any moment."""
    for folder, name in (("checkout/src", "editable_package"), ("elsewhere", "pathed_module")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"{name}.py").write_text("X = 1\n")
    site = tmp_path / "site-packages"
    information = site / "editable_package-2.5.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: Editable_Package\nVersion: 2.5\n")
    url = (tmp_path / "checkout").as_uri()
    (information / "direct_url.json").write_text(json.dumps({"url": url, "dir_info": {"editable": True}}))
    (site / "__editable__.editable_package-2.5.pth").write_text(f"{tmp_path / 'checkout' / 'src'}\n")
    (site / "more.pth").write_text(f"{tmp_path / 'elsewhere'}\n")
    (site / "installed_module.py").write_text("X = 1\n")
    script = (
        f"import json, site; site.addsitedir({str(site)!r})\n"
        "import editable_package, pathed_module, installed_module\n"
        "from glassrun.record import code, distributions\n"
        "origin = distributions.origins()['editable-package']\n"
        "print(json.dumps([sorted(code.collect().files), distributions.versions()['editable-package'], origin]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files, version, origin = json.loads(done.stdout)
    assert {"editable_package.py", "pathed_module.py"} <= set(files)
    assert "installed_module.py" not in files
    assert version == "2.5"
    assert origin == {"folder": str(tmp_path / "checkout"), "editable": True, "git": None}


def test_a_module_whose_name_is_deeper_than_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Loaded from a file under a name that the loader made up, as plug-in systems do."""
    name = "users_plugins." + ".".join("abcdefghijklmnopqrstuvwxyz")
    module = types.ModuleType(name)
    (tmp_path / "plugin.py").write_text("X = 1\n")
    module.__file__ = str(tmp_path / "plugin.py")
    monkeypatch.setitem(sys.modules, name, module)
    assert b"X = 1\n" in collect().files.values()


# --- what differs -------------------------------------------------------------------------------------------


def test_a_changed_file_is_a_difference(project: Path) -> None:
    importlib.import_module("users_package")
    recorded = collect().record()
    assert differences(recorded, collect()) == []
    (project / "users_package" / "layers.py").write_text("WIDTH = 5\n")
    assert differences(recorded, collect()) == ["code: users_package/layers.py was changed since"]
    assert collect().record()["digest"] != recorded["digest"]


def test_files_that_only_one_side_imported_do_not_count() -> None:
    recorded = {"files": {"a.py": digest_bytes(b"1"), "b.py": digest_bytes(b"2")}}
    assert differences(recorded, Code({"b.py": b"2", "c.py": b"3"}, {}, ())) == []
    assert differences({}, Code({"b.py": b"2"}, {}, ())) == []


def test_what_a_run_that_goes_on_computes_with(project: Path) -> None:
    importlib.import_module("users_package")
    recorded = collect().record()
    assert now(recorded, collect()) == {"digest": recorded["digest"], "changed": {}}
    assert now(recorded, Code({}, {}, ()))["digest"] == recorded["digest"]  # not imported yet: not changed
    (project / "users_package" / "layers.py").write_text("WIDTH = 5\n")
    found = now(recorded, collect())
    assert found["changed"] == {"users_package/layers.py": digest_bytes(b"WIDTH = 5\n")}
    assert found["digest"] != recorded["digest"]
