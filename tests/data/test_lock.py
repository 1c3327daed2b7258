"""Data locks: what they hold, what is told of other data, and that nothing is trained on those."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glassrun import config
from glassrun.data import lock
from glassrun.data.lock import Check
from glassrun.digest import digest_value
from glassrun.errors import ConfigError, DataError
from support import Command, Made, glassrun, kill, start, wait_for

PROPERTY = settings(max_examples=150, deadline=None, database=None, derandomize=True)


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Made:
    """The small data, to be changed."""
    for name in ("text.txt", "source.txt", "target.txt", "images", "labels"):
        shutil.copy(made.folder / name, tmp_path / name)
    return Made(tmp_path)


def edit(path: Path, change: Any) -> None:
    """Change a file's lines."""
    lines = path.read_text().split("\n")
    change(lines)
    path.write_text("\n".join(lines))


def told(check: Check) -> list[tuple[str, str, int]]:
    return [(finding.split, finding.kind, finding.count) for finding in check.findings]


def checked(made: Made, name: str, change: Any, **overrides: Any) -> Check:
    """Lock, write and read the lock, change the data, check."""
    recipe = config.load(made.recipe(name))
    path = made.folder / "lock.json"
    path.write_bytes(lock.lock(recipe).encode())
    change()
    return lock.check(config.load(made.recipe(name, **overrides)), lock.read(path))


@pytest.mark.parametrize("name", ["odd-cnn", "odd-lm", "odd-pairs"])
def test_what_was_locked_is_what_is_there(name: str, copied: Made) -> None:
    found = checked(copied, name, lambda: None)
    assert found
    assert found.lines == ()


@pytest.mark.parametrize("name", ["digits-cnn", "python-lm"])
def test_the_data_of_the_shipped_recipes_can_be_locked(name: str) -> None:
    recipe = config.load(name)
    assert lock.check(recipe, lock.lock(recipe))


def test_a_lock_depends_neither_on_the_place_nor_on_what_is_free(copied: Made, tmp_path: Path) -> None:
    before = lock.lock(config.load(copied.recipe("odd-lm"))).encode()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.copy(copied.folder / "text.txt", moved / "text.txt")
    recipe = copied.recipe("odd-lm", **{"data.path": str(moved / "text.txt"), "data.workers": 2, "train.steps": 9})
    assert lock.lock(config.load(recipe)).encode() == before


def test_a_changed_pixel_is_one_example(copied: Made) -> None:
    path = copied.folder / "images"

    def change() -> None:
        data = bytearray(path.read_bytes())
        data[16 + 5 * 64] ^= 1
        path.write_bytes(data)

    found = checked(copied, "odd-cnn", change)
    counts = {kind: sum(n for _, k, n in told(found) if k == kind) for kind in ("changed", "missing", "added")}
    # Its split follows from its content: it may have another one now.
    assert counts in ({"changed": 1, "missing": 0, "added": 0}, {"changed": 0, "missing": 1, "added": 1})


def test_swapped_images_are_reordered(copied: Made) -> None:
    recipe = config.load(copied.recipe("odd-cnn"))
    train = lock.lock(recipe).keys["train"]
    images, labels = copied.folder / "images", copied.folder / "labels"

    def change() -> None:
        pixels, classes = bytearray(images.read_bytes()), bytearray(labels.read_bytes())
        for data, head, size in ((pixels, 16, 64), (classes, 8, 1)):
            a, b = (slice(head + place * size, head + (place + 1) * size) for place in (3, 390))
            data[a], data[b] = data[b], data[a]
        images.write_bytes(pixels)
        labels.write_bytes(classes)

    found = checked(copied, "odd-cnn", change)
    moved = {place.key for finding in found.findings for place in finding.places}
    assert {finding.kind for finding in found.findings} == {"reordered"}
    assert moved
    assert moved <= {key.hex() for own in lock.lock(recipe).keys.values() for key in own}
    assert sorted(train) == sorted(lock.lock(recipe).keys["train"])


def test_a_missing_and_an_added_pair_are_told_by_key(copied: Made) -> None:
    before = lock.lock(config.load(copied.recipe("odd-pairs"))).keys

    def change() -> None:
        for side in ("source.txt", "target.txt"):
            edit(copied.folder / side, lambda lines: (lines.pop(7), lines.append("glass glass kiln")))

    found = checked(copied, "odd-pairs", change)
    after = lock.lock(config.load(copied.recipe("odd-pairs"))).keys
    kinds = {kind: [f for f in found.findings if f.kind == kind] for kind in ("missing", "added")}
    assert sum(f.count for f in found.findings) == 2
    ((missing,), (added,)) = (kinds["missing"], kinds["added"])
    assert bytes.fromhex(str(missing.places[0].key)) == before[missing.split][missing.places[0].index or 0]
    assert bytes.fromhex(str(added.places[0].found_key)) == after[added.split][added.places[0].found_index or 0]


def test_a_changed_word_of_a_text_is_told_by_line_and_characters(copied: Made) -> None:
    lines = (copied.folder / "text.txt").read_text().splitlines(keepends=True)
    begin = len("".join(lines[:41]))

    def change(lines: list[str]) -> None:
        lines[41] = lines[41][::-1]  # of the same length and letters, so that nothing else moves

    found = checked(copied, "odd-lm", lambda: edit(copied.folder / "text.txt", change))
    assert told(found) == [("train", "changed", 1)]
    end = begin + len(lines[41])
    assert found.lines[0].startswith("train: 1 of 540 lines changed: line 42 (key ")
    assert found.lines[1] == f"train: the first difference is in line 42, characters {begin:,} to {end:,}"
    assert len(found.lines) == 2


def test_a_cut_text_is_told_by_where_it_ends(copied: Made) -> None:
    (copied.folder / "valid.txt").write_text("glass run step\n" * 9)
    official = {"data.validation": str(copied.folder / "valid.txt")}
    path = copied.folder / "text.txt"
    recipe = config.load(copied.recipe("odd-lm", **official))
    locked = lock.lock(recipe)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:500]))
    found = lock.check(recipe, locked)
    assert told(found) == [("train", "missing", 100)]
    size = len(path.read_text())
    assert found.lines[1] == f"train: the first difference is in line 501, characters {size:,} to {size:,}"


def test_a_cut_text_of_merged_bytes_is_told_by_where_it_ends_in_bytes(copied: Made) -> None:
    (copied.folder / "valid.txt").write_text("glass run step\n" * 9)
    official = {"data.validation": str(copied.folder / "valid.txt")}
    tokenizer = {"data.tokenizer": {"kind": "bpe", "vocabulary_size": 260}}
    path = copied.folder / "text.txt"
    recipe = config.load(copied.recipe("odd-lm", **official, **tokenizer))
    locked = lock.lock(recipe)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:500]))
    found = lock.check(recipe, locked)
    size = len(path.read_bytes())
    assert found.lines[1] == f"train: the first difference is in line 501, bytes {size:,} to {size:,}"


def test_another_way_to_read_the_same_files_is_told(copied: Made) -> None:
    found = checked(copied, "odd-lm", lambda: None, **{"data.context": 11})
    assert not found
    assert found.findings == ()
    assert "data.context: recorded 13, here 11" in found.lines


@pytest.mark.parametrize("name", ["dates", "sentences"])
def test_examples_made_from_another_seed_are_told(name: str) -> None:
    recipe, overrides = f"{name}-transformer", {"data.examples": 200}
    locked = lock.lock(config.load(recipe, overrides))
    found = lock.check(config.load(recipe, overrides | {"seed": 8}), locked)
    assert "seed: recorded 1, here 8" in found.lines
    with pytest.raises(ConfigError, match=f"seed: random would make other {name}"):
        lock.lock(config.load(recipe, overrides | {"seed": "random"}))


def test_data_that_do_not_depend_on_the_seed_are_locked_for_all(made: Made) -> None:
    locked = lock.lock(config.load(made.recipe("odd-pairs", seed="random")))
    assert lock.check(config.load(made.recipe("odd-pairs", seed=3)), locked)


def test_a_lock_of_another_source_is_refused(made: Made) -> None:
    locked = lock.lock(config.load(made.recipe("odd-pairs")))
    with pytest.raises(ConfigError, match=r"source text, but the lock .* source pairs"):
        lock.check(config.load(made.recipe("odd-lm")), locked)


# --- the file --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(made: Made) -> bytes:
    recipe = made.recipe("odd-pairs")
    return lock.lock(config.load(recipe)).encode()


@PROPERTY
@given(data=st.data())
def test_a_changed_byte_of_a_lock_is_one_clear_error(
    data: st.DataObject, whole: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.json"
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    try:
        same = json.loads(changed) == json.loads(whole)  # white space between values says nothing
    except ValueError:
        same = False
    if same:
        assert lock.read(path).encode() == whole
        return
    with pytest.raises(DataError, match=r"fuzzed\.json: "):
        lock.read(path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=4), inner, min_size=1),
    max_leaves=6,
)
KINDS = {"keys": dict, "data": dict, "manifest": dict, "seed": int, "recipe": str, "format": int}


@PROPERTY
@given(name=st.sampled_from(sorted(KINDS)), value=VALUES)
@example(name="keys", value={"train": ["00"]})
@example(name="keys", value={"train": [7]})
@example(name="data", value={"source": 7})
@example(name="format", value=True)
@example(name="seed", value=True)
def test_values_of_another_type_are_one_clear_error_though_the_checksum_is_right(
    name: str, value: Any, whole: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    values = {key: value for key, value in json.loads(whole).items() if key != "checksum"} | {name: value}
    path = tmp_path_factory.getbasetemp() / "other.json"
    path.write_text(json.dumps(values | {"checksum": digest_value(values)}))
    try:
        found = lock.read(path)
    except DataError as error:
        assert re.match(r".*/other\.json: ", str(error))  # noqa: PT017
    else:
        assert type(getattr(found, name)) is KINDS[name]


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{}", b"\xff\xfe", b"[" * 10**5, b'{"format": 2}'])
def test_what_is_no_lock_is_one_clear_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "no-lock.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"no-lock\.json: "):
        lock.read(path)


# --- the commands ----------------------------------------------------------------------------------------------------


def test_the_commands(copied: Made, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = copied.file("odd-lm", name="mine")
    done = command("data", "lock", recipe)
    assert done.code == 0, done.err
    assert "mine.data.json" in done.out
    assert command("data", "check", recipe).code == 0
    edit(copied.folder / "text.txt", lambda lines: lines.insert(3, lines[9]))
    done = glassrun("data", "check", recipe, cwd=tmp_path)
    assert (done.code, done.err) == (1, "")
    assert "train: 1 added to 540 lines: line 4 (key " in done.out
    found = command("data", "check", recipe, "--lock", "mine.data.json", "--json").json
    assert found["identical"] is False
    assert [(f["kind"], f["count"]) for f in found["findings"] if f["split"] == "train"][-1] == ("added", 1)
    for arguments in (
        ["check", recipe, "--lock", "nowhere"],
        ["check", "nothing"],
        ["lock", recipe, "--set", "data.x=1"],
    ):
        done = command("data", *arguments)
        assert done.code == 2
        assert done.err.startswith("error: ")
        assert "Traceback" not in done.err


def test_train_refuses_other_data_than_the_locked_ones(copied: Made, command: Command, tmp_path: Path) -> None:
    assert command("data", "lock", copied.file("odd-pairs"), "--out", tmp_path / "lock").code == 0
    recipe = copied.file("odd-pairs", **{"data.lock": str(tmp_path / "lock"), "train.steps": 2})
    done = command("train", recipe, "--out", tmp_path / "run", "--workers", 1)
    assert done.code == 0, done.err
    assert config.load(recipe).digest() == config.load(copied.recipe("odd-pairs", **{"train.steps": 2})).digest()
    for side in ("source.txt", "target.txt"):
        edit(copied.folder / side, lambda lines: lines.pop(7))
    done = command("train", recipe, "--out", tmp_path / "other", "--workers", 2)
    assert done.code == 2
    assert "1 of " in done.err
    assert "missing: index" in done.err
    assert not (tmp_path / "other").exists()


@pytest.mark.long
def test_resume_on_changed_data_names_them_and_is_refused(copied: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start("train", copied.file("odd-pairs", **{"train.steps": 5000}), "--out", run, "--workers", 1)
    wait_for(lambda: (run / "ledger.jsonl").exists() and (run / "ledger.jsonl").stat().st_size > 5000, "some steps")
    kill(process.pid)
    process.communicate()
    before = (run / "run.json").read_bytes()
    for side in ("source.txt", "target.txt"):
        edit(copied.folder / side, lambda lines: lines.pop(7))
    done = glassrun("resume", run)
    assert done.code == 2
    assert "1 of " in done.err
    assert " examples missing: index " in done.err
    assert (run / "run.json").read_bytes() == before
    done = glassrun("replay", run, "--to", 1)
    assert " examples missing: index " in done.err  # a note: a replay compares in any case
