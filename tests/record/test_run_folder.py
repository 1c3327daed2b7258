"""The run folder from outside: never over something else, never two writers, never a changed file unseen."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from glassrun import config
from glassrun.config import Recipe
from glassrun.digest import canonical_json, digest_bytes
from glassrun.errors import RunFolderError
from glassrun.record import ledger, lock, run_json
from glassrun.record.ledger import Line, Step, link
from glassrun.record.run_folder import COMPLETE, RUNNING, RunFolder, identity, what_occupies

PROPERTY = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RECIPE = {"name": "test", "task": "classify", "data": {"source": "digits"}, "model": {"kind": "cnn"}}

HOLDER = """
import sys
from glassrun.record.run_folder import RunFolder
folder = RunFolder.open(sys.argv[1])
folder.lock()
print("locked", flush=True)
sys.stdin.read()
"""


def recipe(**changes: Any) -> Recipe:
    return config.load(RECIPE | changes)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[RunFolder]:
    """A run's folder whose writer is this process."""
    folder = RunFolder.create(tmp_path / "run", recipe(), ["/somewhere"])
    yield folder
    release(folder)


def release(folder: RunFolder) -> None:
    """What the operating system does when a writer ends."""
    if folder._lock.held:
        folder.unlock()


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock.time, "sleep", lambda _: None)


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "locked\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def header_file(path: Path, values: dict[str, Any]) -> None:
    """Write `run.json` with a checksum that holds, as documented."""
    checksum = digest_bytes(canonical_json(values).encode())
    (path / "run.json").write_text(json.dumps(values | {"checksum": checksum}), encoding="utf-8")


# --- making ----------------------------------------------------------------------------------------------------------


def test_create_and_open(made: RunFolder) -> None:
    assert sorted(p.name for p in made.path.iterdir()) == [".lock", "config.yaml", "run.json"]
    opened = RunFolder.open(made.path)
    assert opened.header == made.header
    assert opened.recipe == recipe()
    assert opened.header["config_digest"] == recipe().digest()
    assert opened.header["import_path"] == ["/somewhere"]
    assert not opened.began
    assert opened.lines() == []
    assert opened.metrics() == []


def test_create_makes_the_folders_above(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "a" / "b" / "run", recipe(), [])
    assert RunFolder.open(tmp_path / "a" / "b" / "run").recipe == folder.recipe
    release(folder)


def test_create_chooses_a_free_place_under_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [RunFolder.create(None, recipe(), []) for _ in range(3)]
    assert len({folder.path for folder in folders}) == 3
    for folder in folders:
        assert folder.path.parent == tmp_path / "runs"
        assert folder.path.name.startswith("test-2")
        release(folder)


def test_create_takes_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    folder = RunFolder.create(tmp_path / "run", recipe(), [])
    assert RunFolder.open(tmp_path / "run").recipe == recipe()
    release(folder)


def occupied_by_a_file(path: Path) -> None:
    path.write_text("mine")


def occupied_by_a_folder(path: Path) -> None:
    path.mkdir()
    (path / "mine").write_text("mine")


def occupied_by_a_hidden_file(path: Path) -> None:
    path.mkdir()
    (path / ".mine").write_text("mine")


def occupied_by_a_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def occupied_by_a_link_to_a_folder(path: Path) -> None:
    occupied_by_a_folder(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def occupied_by_a_link_to_a_file(path: Path) -> None:
    path.with_name("elsewhere").write_text("mine")
    path.symlink_to(path.with_name("elsewhere"))


def occupied_by_a_link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def occupied_by_a_pipe(path: Path) -> None:
    os.mkfifo(path)


def occupied_above(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("mine")


def snapshot(folder: Path) -> dict[str, Any]:
    """Everything below a folder: links as where they point, files as their bytes."""
    found: dict[str, Any] = {}
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(parent, name)
            key = str(path.relative_to(folder))
            if path.is_symlink():
                found[key] = str(path.readlink())
            else:
                found[key] = path.read_bytes() if path.is_file() else path.stat().st_mode
    return found


@pytest.mark.parametrize(
    "occupy",
    [
        occupied_by_a_file,
        occupied_by_a_folder,
        occupied_by_a_hidden_file,
        occupied_by_a_dangling_link,
        occupied_by_a_link_to_a_folder,
        occupied_by_a_link_to_a_file,
        occupied_by_a_link_to_itself,
        occupied_by_a_pipe,
        occupied_above,
    ],
    ids=lambda function: function.__name__.removeprefix("occupied_").replace("_", "-"),
)
def test_create_never_overwrites(tmp_path: Path, occupy: Callable[[Path], None]) -> None:
    path = tmp_path / "parent" / "run"
    path.parent.mkdir()
    occupy(path)
    before = snapshot(tmp_path)
    with pytest.raises(RunFolderError) as caught:
        RunFolder.create(path, recipe(), [])
    assert str(tmp_path) in str(caught.value)
    assert snapshot(tmp_path) == before


def test_create_refuses_another_run_and_says_how_to_go_on(made: RunFolder) -> None:
    before = snapshot(made.path)
    with pytest.raises(RunFolderError, match=r"holds another run.*--out.*glassrun resume"):
        RunFolder.create(made.path, recipe(), [])
    assert snapshot(made.path) == before
    assert what_occupies(made.path) != ""
    assert what_occupies(made.path.with_name("free")) == ""


def test_create_on_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFolderError, match="the disk is full"):
        RunFolder.create(tmp_path / "run", recipe(), [])
    assert list(tmp_path.iterdir()) == []


def test_discard_removes_a_run_that_never_began(made: RunFolder) -> None:
    made.discard()
    assert not made.path.exists()
    assert list(made.path.parent.iterdir()) == []


# --- opening ---------------------------------------------------------------------------------------------------------


def test_open_where_nothing_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunFolderError, match=r"no such run folder.*glassrun train"):
        RunFolder.open(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="no such run folder"):
        RunFolder.open(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match=r"no run folder: it has no run\.json"):
        RunFolder.open(tmp_path / "empty")


def test_open_names_the_newest_run_beside(made: RunFolder) -> None:
    with pytest.raises(RunFolderError, match=f"newest run here: {made.path}"):
        RunFolder.open(made.path.with_name("rnu"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"3",
        b"[]",
        b"{}",
        b'"checksum"',
        b'["checksum"]',
        b'{"checksum": null}',
        b'{"checksum": "0", "format": NaN}',
        b'{"checksum": "0", "name": "\\ud800"}',
        b'{"checksum": "0", "format": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=lambda data: data[:40].decode("latin-1"),
)
def test_open_on_garbage(made: RunFolder, data: bytes) -> None:
    (made.path / "run.json").write_bytes(data)
    with pytest.raises(RunFolderError, match=r"run\.json"):
        RunFolder.open(made.path)


def test_open_where_run_json_is_a_folder(made: RunFolder) -> None:
    (made.path / "run.json").unlink()
    (made.path / "run.json").mkdir()
    with pytest.raises(RunFolderError, match="cannot be read"):
        RunFolder.open(made.path)


@PROPERTY
@given(st.data())
def test_any_changed_byte_of_run_json_is_found_or_changes_nothing(made: RunFolder, data: st.DataObject) -> None:
    """White space between the values is not content; all else is."""
    whole = run_json.encode(made.header)
    at, value = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    assume(value != whole[at])
    (made.path / "run.json").write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
    try:
        opened = RunFolder.open(made.path)
    except RunFolderError:
        return
    assert chr(whole[at]).isspace()
    assert opened.header == made.header


@pytest.mark.parametrize("name", ["format", "name", "status", "config", "config_digest", "import_path"])
def test_a_changed_field_of_run_json_is_found(made: RunFolder, name: str) -> None:
    values = json.loads((made.path / "run.json").read_bytes())
    values[name] = [values[name]]
    (made.path / "run.json").write_text(json.dumps(values))
    with pytest.raises(RunFolderError, match="checksum does not match"):
        RunFolder.open(made.path)


def test_a_run_of_another_format_is_told(made: RunFolder) -> None:
    header_file(made.path, made.header | {"format": 2})
    with pytest.raises(RunFolderError, match="format 2; this glassrun reads format 1"):
        RunFolder.open(made.path)


def test_a_recipe_that_this_version_does_not_know_is_told(made: RunFolder) -> None:
    header_file(made.path, made.header | {"config": made.header["config"] | {"novelty": 1}})
    with pytest.raises(RunFolderError, match="recorded by another version of glassrun"):
        RunFolder.open(made.path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seed: 1", "seed: 2"),
        ("lr: 0.001", "lr: 0.002"),
        ("eval_every: 100", "eval_every: 50"),
        ("shards: 4", "shards: 2"),
    ],
)
def test_config_yaml_edited_by_hand_is_noticed(made: RunFolder, old: str, new: str) -> None:
    text = (made.path / "config.yaml").read_text()
    assert old in text
    (made.path / "config.yaml").write_text(text.replace(old, new))
    with pytest.raises(RunFolderError, match=r"config\.yaml: it is not the recipe that this run began with"):
        RunFolder.open(made.path)


def test_a_comment_in_config_yaml_changes_nothing(made: RunFolder) -> None:
    with (made.path / "config.yaml").open("a") as file:
        file.write("# a good run\n")
    assert RunFolder.open(made.path).recipe == recipe()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe\xff",
        b"[",
        b"- 1",
        b"null",
        b"seed: [",
        b"seed: {}",
        b"? [a, b]\n: c\n",
        b"a: &a [*a]",
        b"[" * 5000,
    ],
    ids=lambda data: data[:20].decode("latin-1"),
)
def test_garbage_in_config_yaml_is_told(made: RunFolder, data: bytes) -> None:
    (made.path / "config.yaml").write_bytes(data)
    with pytest.raises(RunFolderError, match=r"config\.yaml"):
        RunFolder.open(made.path)


def test_a_missing_config_yaml_is_told(made: RunFolder) -> None:
    (made.path / "config.yaml").unlink()
    with pytest.raises(RunFolderError, match=r"config\.yaml: missing"):
        RunFolder.open(made.path)


# --- updating and status ---------------------------------------------------------------------------------------------


def test_update_is_read_back_and_keeps_the_rest(made: RunFolder) -> None:
    before = made.header
    made.update(status=RUNNING, reason="ü ∑", steps=3)
    assert RunFolder.open(made.path).header == before | {"status": RUNNING, "reason": "ü ∑", "steps": 3}


def test_update_needs_the_lock(made: RunFolder) -> None:
    with pytest.raises(AssertionError):
        RunFolder.open(made.path).update(status=COMPLETE)


@pytest.mark.parametrize("status", ["preparing", "running"])
def test_a_run_that_nobody_writes_was_interrupted(made: RunFolder, status: str) -> None:
    made.update(status=status)
    assert RunFolder.open(made.path).status == status
    assert made.status == status
    release(made)
    assert RunFolder.open(made.path).status == "interrupted"


@pytest.mark.parametrize("status", ["complete", "stopped"])
def test_a_run_that_ended_stays_ended(made: RunFolder, status: str) -> None:
    made.update(status=status)
    release(made)
    assert RunFolder.open(made.path).status == status


# --- the lock --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_waiting")
def test_a_second_process_cannot_lock_and_a_killed_one_frees_the_lock(made: RunFolder) -> None:
    release(made)
    opened = RunFolder.open(made.path)
    with holder(made.path) as process:
        assert opened.locked_by_another()
        with pytest.raises(RunFolderError, match="another process is writing this run"):
            opened.lock()
        process.kill()
        process.wait()
        assert not opened.locked_by_another()
        opened.lock()
    opened.update(status=RUNNING)
    release(opened)


@pytest.mark.usefixtures("no_waiting")
def test_this_process_keeps_others_out(made: RunFolder) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            HOLDER.replace("folder.lock()", "print(folder.locked_by_another(), folder.status)"),
            made.path,
        ],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout.splitlines()[0] == "True preparing"


def test_lock_waits_for_one_that_is_just_ending(made: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def ends_while_we_wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            release(made)

    monkeypatch.setattr(lock.time, "sleep", ends_while_we_wait)
    opened = RunFolder.open(made.path)
    opened.lock()
    assert len(waits) == 2
    release(opened)


@pytest.mark.usefixtures("no_waiting")
def test_a_refused_lock_leaves_no_descriptor_open(made: RunFolder) -> None:
    opened = RunFolder.open(made.path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(RunFolderError):
            opened.lock()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_place_where_nothing_can_be_written_is_told(made: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run on a disk that is mounted for reading only."""
    opened = RunFolder.open(made.path)

    def read_only(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        with pytest.raises(RunFolderError, match="Read-only file system"):
            opened.lock()


# --- the ledger in the folder ----------------------------------------------------------------------------------------


def fill(folder: RunFolder, steps: int) -> None:
    """A ledger and two evaluations, as a run leaves them."""
    name = identity(folder.recipe, "0" * 32)
    chain, data = name, b""
    for number in range(1, steps + 1):
        step = Step(number, 1, 64, 0, 1.0, 1e-3, 1.0, "b" * 16, "c" * 16, "a" * 16, "d" * 16)
        chain = link(chain, step)
        data += Line(step, chain, 0.5).encode()
    folder.ledger_path.write_bytes(data)
    evaluations = [{"step": n, "split": "test", "examples": 3, "loss": 0.5} for n in (1, 2)]
    folder.metrics_path.write_bytes(b"".join(map(ledger.with_checksum, evaluations)))
    folder.update(identity=name, chain=chain, steps=steps, status=COMPLETE)


def test_lines_and_metrics(made: RunFolder) -> None:
    fill(made, 3)
    opened = RunFolder.open(made.path)
    assert [line.step.step for line in opened.lines()] == [1, 2, 3]
    assert [values["step"] for values in opened.metrics()] == [1, 2]


def test_lines_that_are_missing_at_the_end_of_a_finished_run(made: RunFolder) -> None:
    fill(made, 3)
    whole = made.ledger_path.read_bytes().splitlines(keepends=True)
    for kept in (whole[:2], [*whole[:2], whole[2][:-1]], []):
        made.ledger_path.write_bytes(b"".join(kept))
        with pytest.raises(RunFolderError, match="lines are missing"):
            RunFolder.open(made.path).lines()


def test_a_changed_evaluation_is_found(made: RunFolder) -> None:
    fill(made, 3)
    made.metrics_path.write_bytes(made.metrics_path.read_bytes().replace(b"0.5", b"0.4", 1))
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl, line 1"):
        RunFolder.open(made.path).metrics()


def test_missing_files_of_a_run_that_began(made: RunFolder) -> None:
    fill(made, 3)
    made.ledger_path.unlink()
    made.metrics_path.unlink()
    for read in (made.lines, made.metrics):
        with pytest.raises(RunFolderError, match="not a whole run"):
            read()


def test_the_identity_is_the_contract_and_the_data() -> None:
    assert identity(recipe(), "a") == identity(recipe(name="other", record={"every": 7}), "a")
    assert identity(recipe(), "a") != identity(recipe(), "b")
    assert identity(recipe(), "a") != identity(recipe(seed=2), "a")


def test_a_path_that_is_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"UTF-8.*/home/caf\\+udce9"):
        RunFolder.create(tmp_path / "run", config.load(RECIPE), ["/home/caf\udce9"])
    assert not (tmp_path / "run").exists()
