"""The file of a bundle: what is in it, that damage is found, and that nothing a stranger writes gets out of hand."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import glassrun as api
from bundles import entries_of, forged, manifest_for, seal, write
from glassrun.errors import BundleError
from glassrun.record import bundle as bundles
from glassrun.record.bundle import open_bundle
from support import Made
from warm_workers import Server, warm

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def run(made: Made, worker_server: Server, tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    """By a worker: the code that a run keeps is what its process has imported, and this one's would be all tests'."""
    folder = tmp_path_factory.mktemp("bundle")
    recipe = made.recipe("odd-pairs", **{"train.steps": 3})
    with warm(worker_server):
        return api.train(recipe, out=folder / "run", workers=1)


@pytest.fixture(scope="module")
def packed(run: api.Run) -> Path:
    return run.pack(with_data=True, with_checkpoints=True)


def read(path: Path, folder: Path) -> None:
    """All that a replay does before it runs anything."""
    open_bundle(path).unpack(folder / "unpacked")


def refused(path: Path, folder: Path) -> str:
    """It must be a BundleError that names the file; beside the folder it was unpacked to, nothing may be written."""
    before = set(folder.iterdir())
    with pytest.raises(BundleError) as caught:
        read(path, folder)
    assert set(folder.iterdir()) - before <= {folder / "unpacked"}
    assert str(path) in str(caught.value)
    return str(caught.value)


# --- what is in it ---------------------------------------------------------------------------------------------------


def test_the_run_its_data_and_its_checkpoints_are_in_it(run: api.Run, packed: Path, made: Made) -> None:
    found = entries_of(packed)
    for name in ("run.json", "config.yaml", "ledger.jsonl", "ledger.tensors", "metrics.jsonl", "code.zip"):
        assert found[name] == (run.path / name).read_bytes()
    assert found["data/path/0/source.txt"] == (made.folder / "source.txt").read_bytes()
    assert found["data/path/1/target.txt"] == (made.folder / "target.txt").read_bytes()
    for file in (run.path / "checkpoints").rglob("*.*"):
        assert found[str(file.relative_to(run.path))] == file.read_bytes()
    assert {"requirements.txt", "environment.yml", "Dockerfile"} <= set(found)
    assert packed.name == "run.glassrun"


def test_any_zip_reader_and_eleven_lines_check_it(packed: Path) -> None:
    """As docs/formats.md says it is made, with nothing of ours."""
    data = packed.read_bytes()
    assert data[-50:] == b"glassrun bundle 1 " + hashlib.blake2b(data[:-32], digest_size=16).hexdigest().encode()
    with zipfile.ZipFile(packed) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        names = archive.namelist()
        for name, entry in manifest["entries"].items():
            content = archive.read(name)
            assert len(content) == entry["bytes"]
            assert hashlib.blake2b(content, digest_size=16).hexdigest() == entry["digest"]
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert names == sorted([*manifest["entries"], "manifest.json"])
    assert manifest["format"] == 1
    assert manifest["glassrun"] == api.__version__
    assert manifest["data"] == {"path": ["data/path/0/source.txt", "data/path/1/target.txt"]}


def test_the_same_run_gives_the_same_bytes(run: api.Run, packed: Path, tmp_path: Path) -> None:
    again = run.pack(tmp_path / "again.glassrun", with_data=True, with_checkpoints=True)
    assert again.read_bytes() == packed.read_bytes()


def test_without_data_and_checkpoints_it_has_none(run: api.Run, tmp_path: Path) -> None:
    bundle = open_bundle(run.pack(tmp_path / "small.glassrun"))
    assert not [name for name in bundle.entries if name.startswith(("data/", "checkpoints/"))]
    assert bundle.data == {}


def test_unpacked_it_is_the_run_folder_again(run: api.Run, packed: Path, tmp_path: Path) -> None:
    open_bundle(packed).unpack(tmp_path / "unpacked")
    assert api.load(tmp_path / "unpacked").ledger == run.ledger
    assert api.load(tmp_path / "unpacked").model is not None
    modes = {file.stat().st_mode & 0o7111 for file in (tmp_path / "unpacked").rglob("*.*") if file.is_file()}
    assert modes == {0}  # nothing is executable, whatever an entry's attributes say


def test_nothing_is_overwritten(run: api.Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BundleError, match="nothing is overwritten"):
        run.pack(tmp_path / "mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_folders_of_data_are_walked_and_links_followed(made: Made, run: api.Run, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    (folder / "cats").mkdir(parents=True)
    (folder / "cats" / "grün 1.txt").write_text("1", encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2.txt").write_text("2")
    (folder / "dogs").symlink_to(tmp_path / "elsewhere")
    moved = run.folder
    moved._recipe = api.Recipe.model_validate(made.recipe("odd-cnn", **{"data.path": str(folder)}))
    bundles.pack(moved, tmp_path / "b.glassrun", with_data=True)
    bundle = open_bundle(tmp_path / "b.glassrun")
    assert [name for name in bundle.entries if name.startswith("data/")] == [
        "data/path/0/pictures/cats/grün 1.txt",
        "data/path/0/pictures/dogs/2.txt",
    ]
    assert bundle.data == {"path": ["data/path/0/pictures"]}


def test_data_that_are_gone_or_too_large_are_said(
    run: api.Run, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run.folder
    folder._recipe = api.Recipe.model_validate(made.recipe("odd-lm", **{"data.path": str(tmp_path / "gone.txt")}))
    with pytest.raises(BundleError, match=r"gone\.txt: expected a file or a folder"):
        bundles.pack(folder, tmp_path / "b.glassrun", with_data=True)
    monkeypatch.setattr(bundles, "MOST_BYTES", 1_000_000)
    folder._recipe = run.recipe
    bundles.pack(folder, tmp_path / "fits.glassrun")
    (tmp_path / "large.txt").write_bytes(bytes(1_000_000))
    folder._recipe = api.Recipe.model_validate(made.recipe("odd-lm", **{"data.path": str(tmp_path / "large.txt")}))
    with pytest.raises(BundleError, match=r"more than 1,000,000 bytes.*--data-path"):
        bundles.pack(folder, tmp_path / "b.glassrun", with_data=True)
    assert not (tmp_path / "b.glassrun").exists()


def test_a_name_that_no_bundle_can_hold_is_said(run: api.Run, made: Made, tmp_path: Path) -> None:
    odd = tmp_path / "back\\slash.txt"
    odd.write_text("1")
    folder = run.folder
    folder._recipe = api.Recipe.model_validate(made.recipe("odd-lm", **{"data.path": str(odd)}))
    with pytest.raises(BundleError, match="rename it"):
        bundles.pack(folder, tmp_path / "b.glassrun", with_data=True)


def test_a_file_that_changes_while_it_is_packed(run: api.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = bundles._described

    def and_then_changed(files: Any) -> Any:
        found = described(files)
        found["ledger.jsonl"]["digest"] = "0" * 32
        return found

    monkeypatch.setattr(bundles, "_described", and_then_changed)
    with pytest.raises(BundleError, match=r"ledger\.jsonl: it changed while it was packed"):
        run.pack(tmp_path / "b.glassrun")
    assert list(tmp_path.iterdir()) == []


# --- damage ----------------------------------------------------------------------------------------------------------


@FUZZ
@given(data=st.data())
def test_a_changed_byte_anywhere_is_found(data: st.DataObject, packed: Path, tmp_path_factory: Any) -> None:
    original = packed.read_bytes()
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(original) - 1))] ^= data.draw(st.integers(1, 255))
    if bytes(changed) == original:
        return
    folder = tmp_path_factory.mktemp("changed")
    (folder / "b.glassrun").write_bytes(changed)
    refused(folder / "b.glassrun", folder)


@FUZZ
@given(data=st.data())
def test_a_bundle_that_is_cut_off_or_goes_on_is_found(data: st.DataObject, packed: Path, tmp_path_factory: Any) -> None:
    original = packed.read_bytes()
    cut = original[: data.draw(st.integers(0, len(original) - 1))]
    longer = original + data.draw(st.binary(min_size=1, max_size=60))
    folder = tmp_path_factory.mktemp("cut")
    (folder / "b.glassrun").write_bytes(data.draw(st.sampled_from([cut, longer])))
    refused(folder / "b.glassrun", folder)


@FUZZ
@given(data=st.data())
def test_a_changed_byte_under_a_seal_that_fits_is_no_other_content(
    data: st.DataObject, packed: Path, tmp_path_factory: Any
) -> None:
    """Somebody who can make a seal can change what the zip's headers say about time and system, and nothing else."""
    original = packed.read_bytes()
    changed = bytearray(original)
    changed[data.draw(st.integers(0, len(original) - 51))] ^= data.draw(st.integers(1, 255))
    folder = tmp_path_factory.mktemp("resealed")
    (folder / "b.glassrun").write_bytes(changed)
    seal(folder / "b.glassrun")
    try:
        read(folder / "b.glassrun", folder)
    except BundleError:
        return
    contents = {name: (folder / "unpacked" / name).read_bytes() for name in entries_of(packed)}
    assert contents == entries_of(packed)


@FUZZ
@given(data=st.data())
def test_entries_that_are_missing_repeated_out_of_order_or_too_many(
    data: st.DataObject, packed: Path, tmp_path_factory: Any
) -> None:
    with zipfile.ZipFile(packed) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    place = data.draw(st.integers(0, len(entries) - 1))
    what = data.draw(st.sampled_from(["missing", "repeated", "swapped", "added", "renamed"]))
    if what == "missing":
        del entries[place]
    elif what == "repeated":
        entries.insert(place, entries[place])
    elif what == "swapped":
        entries = data.draw(st.permutations(entries).filter(lambda other: other != entries))
    elif what == "added":
        entries = sorted([*entries, ("data/path/0/more.txt", b"more")])
    else:
        entries[place] = (f"{entries[place][0]}x", entries[place][1])
        entries.sort()
    folder = tmp_path_factory.mktemp("entries")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of repeated names
        write(folder / "b.glassrun", entries)
    refused(folder / "b.glassrun", folder)


# --- malice ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../outside.txt",
        "/outside.txt",
        "data/path/0/../../../../outside.txt",
        "data/path/0/a/../../../../b",
        "data/path/0/./a",
        "data/path/0//a",
        "data/path/0/a/",
        "data/path/0/a\\..\\b",
        "data/path/0/C:a",
        "data/path/0/a\x1b[2J",
        "data/path/0/" + "a" * 300,
        "data/path/00/a",
        "data/elsewhere/0/a",
        "checkpoints/step-000001/evil.py",
        "checkpoints/../evil",
        "glassrun/__init__.py",
        ".lock",
        "code",
    ],
)
def test_names_that_lead_elsewhere_or_are_none_of_a_bundle(name: str, packed: Path, tmp_path: Path) -> None:
    entries = entries_of(packed) | {name: b"evil"}
    assert "is no entry of a bundle" in refused(forged(tmp_path / "b.glassrun", entries), tmp_path)


def test_a_name_that_ends_at_a_zero_for_others(packed: Path, tmp_path: Path) -> None:
    """zipfile cuts a name at a zero byte: it must be refused for what stands in the file."""
    path = forged(tmp_path / "b.glassrun", entries_of(packed) | {"data/path/0/a_b": b"1"})
    path.write_bytes(path.read_bytes().replace(b"data/path/0/a_b", b"data/path/0/a\0b"))
    assert "b.glassrun" in refused(seal(path), tmp_path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFBLK])
def test_links_and_other_things_that_are_no_files(kind: int, packed: Path, tmp_path: Path) -> None:
    entries = entries_of(packed)
    whole = {**entries, "manifest.json": manifest_for(entries)}
    infos: list[tuple[str | zipfile.ZipInfo, bytes]] = []
    for name, data in sorted(whole.items()):
        info = zipfile.ZipInfo(name)
        info.external_attr = (kind if name == "metrics.jsonl" else stat.S_IFREG) << 16
        infos.append((info, data))
    assert "expected a plain file" in refused(write(tmp_path / "b.glassrun", infos), tmp_path)


def test_a_name_that_is_a_file_and_a_folder(packed: Path, tmp_path: Path) -> None:
    entries = entries_of(packed) | {"data/path/0/a": b"1", "data/path/0/a/b": b"2"}
    assert "a file and a folder" in refused(forged(tmp_path / "b.glassrun", entries), tmp_path)


def test_more_comes_out_than_the_manifest_says(packed: Path, tmp_path: Path) -> None:
    """A bomb: 200 MB of zeros in 200 kB, announced as small. Reading stops where the announcement ends."""
    entries = entries_of(packed)
    small = {**entries, "data/path/0/bomb": b"small"}
    whole = {**small, "manifest.json": manifest_for(small), "data/path/0/bomb": bytes(200 * 2**20)}
    assert "not what the bundle's manifest says" in refused(
        write(tmp_path / "b.glassrun", sorted(whole.items())), tmp_path
    )
    assert (tmp_path / "unpacked" / "data/path/0/bomb").stat().st_size <= 2**20


def test_other_content_of_the_same_size(packed: Path, tmp_path: Path) -> None:
    """With a checksum of the zip's own that fits."""
    entries = entries_of(packed)
    whole = {**entries, "manifest.json": manifest_for(entries), "metrics.jsonl": bytes(len(entries["metrics.jsonl"]))}
    told = refused(write(tmp_path / "b.glassrun", sorted(whole.items())), tmp_path)
    assert "metrics.jsonl: it is not what the bundle's manifest says" in told


def test_what_is_read_whole_is_announced_as_small(packed: Path, tmp_path: Path) -> None:
    entries = entries_of(packed)
    huge = json.loads(manifest_for(entries))
    huge["entries"]["run.json"]["bytes"] = 2**27
    whole = {**entries, "manifest.json": json.dumps(huge).encode()}
    told = refused(write(tmp_path / "b.glassrun", sorted(whole.items())), tmp_path)
    assert "run.json: 134217728 bytes" in told


def test_headers_that_lie_about_sizes(packed: Path, tmp_path: Path) -> None:
    """The central directory says 5 bytes where a megabyte comes out."""
    entries = entries_of(packed) | {"data/path/0/bomb": bytes(2**20)}
    path = forged(tmp_path / "b.glassrun", entries)
    data = path.read_bytes()
    directory = data.rindex(b"PK\x01\x02", 0, data.rindex(b"data/path/0/bomb"))
    path.write_bytes(data[: directory + 24] + struct.pack("<I", 5) + data[directory + 28 :])
    refused(seal(path), tmp_path)


def test_what_a_bundle_may_hold_at_most(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = forged(tmp_path / "b.glassrun", entries_of(packed))
    read(path, tmp_path / "fine")
    monkeypatch.setattr(bundles, "MOST_ENTRIES", 5)
    assert "expected at most 5 entries" in refused(path, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(bundles, "MOST_BYTES", 700_000)
    assert "expected at most 700,000" in refused(path, tmp_path)


def test_no_room_on_the_disk_is_said_before_anything_is_written(packed: Path, tmp_path: Path) -> None:
    entries = entries_of(packed)
    huge = json.loads(manifest_for(entries))
    huge["entries"]["metrics.jsonl"]["bytes"] = bundles.MOST_BYTES - sum(map(len, entries.values()))
    whole = {**entries, "manifest.json": json.dumps(huge).encode()}
    path = write(tmp_path / "b.glassrun", sorted(whole.items()))
    bundle = open_bundle(path)
    with pytest.raises(BundleError, match=r"has room for|not what the bundle's manifest says"):
        bundle.unpack(tmp_path / "unpacked")


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"format": 2}',
        b'{"format": 1}',
        b'{"format": 1, "glassrun": 3, "entries": {}, "data": {}}',
        b'{"format": 1, "glassrun": "", "entries": [], "data": {}}',
        b'{"format": 1, "glassrun": "", "entries": {"a": 1}, "data": {}}',
        b'{"format": 1, "glassrun": "", "entries": {"a": {"bytes": -1, "digest": ""}}, "data": {}}',
        b'{"format": 1, "glassrun": "", "entries": {"a": {"bytes": true, "digest": ""}}, "data": {}}',
        b'{"format": 1, "glassrun": "", "entries": {"a": {"bytes": 1e999, "digest": ""}}, "data": {}}',
        b'{"format": 1, "glassrun": "", "entries": {"run.json": {"bytes": 99999999999, "digest": ""}}, "data": {}}',
        b'{"format": 1, "glassrun": "", "entries": {}, "data": {"path": 3}}',
        b'{"format": 1, "glassrun": "", "entries": {}, "data": {"path": ["data/path/0/.."]}}',
        b'{"format": 1, "glassrun": "", "entries": {}, "data": {"code": ["data/code/0/a"]}}',
        b'{"format": 1, "glassrun": "", "entries": {}, "data": {"path": ["data/path/0/a"]}}',
        b'{"format": 1, "glassrun": "", "entries": {}, "data": {}}' + b" " * 2**26,
    ],
    ids=lambda manifest: str(manifest[:70]),
)
def test_manifests_of_another_form(manifest: bytes, packed: Path, tmp_path: Path) -> None:
    whole = {**entries_of(packed), "manifest.json": manifest}
    refused(write(tmp_path / "b.glassrun", sorted(whole.items())), tmp_path)


def test_what_is_no_bundle_at_all(tmp_path: Path) -> None:
    for name, content in (("empty", b""), ("text", b"hello"), ("seal", b"glassrun bundle 1 " + b"0" * 32)):
        (tmp_path / name).write_bytes(content)
        assert re.search("no bundle|damaged", refused(tmp_path / name, tmp_path))
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "1")
    assert "no bundle" in refused(tmp_path / "other.zip", tmp_path)
    assert "no such file" in refused(tmp_path / "absent", tmp_path)
