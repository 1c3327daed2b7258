"""The command line from outside: help, JSON, exit codes, one clear message for bad input."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import glassrun as api
from glassrun import config
from support import Command, Made, glassrun

COMMANDS = (
    "train",
    "resume",
    "replay",
    "diff",
    "pack",
    "export",
    "predict",
    "report",
    "exhibit",
    "show",
    "doctor",
    "recipes",
    "track",
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, command: Command) -> None:
    done = command(name, "--help")
    assert done.code == 0
    assert "Example" in done.out
    assert f"glassrun {name}" in done.out


def test_help_and_listing_do_not_import_torch() -> None:
    """What takes seconds is not loaded for them; a time would depend on the machine, the modules do not."""
    for arguments in (["--help"], ["recipes"], ["train", "--help"]):
        script = (
            f"import sys; sys.argv[1:] = {arguments!r}\nfrom glassrun.cli import main\ntry: main()\n"
            "except SystemExit: pass\n"
            "heavy = {'torch', 'numpy', 'sklearn', 'matplotlib'} & set(sys.modules); assert not heavy, heavy"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    light = (
        "import sys, glassrun.cli; assert 'pydantic' not in sys.modules; assert 'glassrun.config' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", light]).returncode == 0


def test_recipes_are_listed_and_printed(command: Command) -> None:
    listed = command("recipes").out
    found = command("recipes", "--json").json
    assert set(found) == set(config.shipped_recipes())
    assert {"digits-cnn", "dates-transformer", "fashion-cnn", "translate"} <= set(found)
    assert all(name in listed for name in found)
    assert "source: digits" in command("recipes", "digits-cnn").out


@pytest.fixture(scope="module")
def trained(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("cli") / "run"
    done = glassrun(
        "train", made.file("odd-pairs"), "--out", run, "--workers", 1, "--set", "train.steps=4", report=True
    )
    assert done.code == 0, done.err
    assert "report" in done.out
    assert (run / "report.html").stat().st_size > 10_000
    # Off a terminal the progress is plain lines: step, loss, learning rate, examples a second, time left.
    line = next(line for line in done.err.splitlines() if line.startswith("step 4/4"))
    for part in ("loss ", "lr ", "examples/s", "s left"):
        assert part in line
    assert "\x1b" not in done.err + done.out
    return run


def test_show_as_json_has_what_scripts_rely_on(trained: Path, command: Command) -> None:
    found = glassrun("show", trained, "--json").json
    assert found["status"] == "complete"
    assert found["steps"] == 4
    assert found["loss"] > 0
    assert found["metrics"]["validation"]["exact_match"] >= 0
    assert len(found["params_fingerprint"]) == 16
    assert len(found["chain"]) == len(found["config_digest"]) == 32
    assert found["params_fingerprint"] in command("show", trained).out


def test_show_of_a_recipe_draws_its_schedule(made: Made, trained: Path, command: Command) -> None:
    found = command("show", "digits-cnn", "--set", "schedule.kind=linear", "--json").json
    assert found["schedule"]["kind"] == "linear"
    assert found["schedule"]["rates"][-1] == [600, 0.0]
    assert "schedule    warmup-cosine" in command("show", made.file("odd-lm")).out
    refused = command("show", trained, "--set", "schedule.kind=linear")
    assert refused.code == 2
    assert refused.err.strip() == f"error: {trained}: --set: only for a recipe; a run is what it was"


def test_config_yaml_is_the_same_run(trained: Path, command: Command, tmp_path: Path) -> None:
    assert command("train", trained / "config.yaml", "--out", tmp_path / "again", "--workers", 2).code == 0
    shown = [command("show", run, "--json").json for run in (trained, tmp_path / "again")]
    assert shown[0]["chain"] == shown[1]["chain"]
    assert shown[0]["config_digest"] == shown[1]["config_digest"]


def test_resume_of_a_complete_run_says_so(trained: Path, command: Command) -> None:
    done = command("resume", trained)
    assert done.code == 0
    assert "complete" in done.out


def test_predict_writes_the_target(trained: Path, command: Command) -> None:
    done = glassrun("predict", trained, "--text", "glass run", "--json")
    assert done.code == 0, done.err
    assert set(done.json) == {"source", "target", "decoding"}
    assert command("predict", trained, "--text", "glass run").out.strip() == done.json["target"].strip()


def bad_inputs(made: Made, run: Path, here: Path) -> list[tuple[str, list[object], list[str]]]:
    """A name, a command, and what its message must say."""
    text = made.folder / "text.txt"
    latin = here / "latin.txt"
    latin.write_bytes(b"gl\xe4ss " * 100)
    empty = here / "empty.txt"
    empty.write_bytes(b"")
    cut = here / "cut.txt.gz"
    cut.write_bytes(gzip.compress(text.read_bytes())[:-20])
    short = here / "short.txt"
    short.write_text("one line\n")
    broken = here / "broken.yaml"
    broken.write_text("name: [")
    listed = here / "list.yaml"
    listed.write_text("- 1\n- 2\n")
    picture = here / "no-picture.png"
    picture.write_text("this is no picture")
    occupied = here / "occupied"
    occupied.mkdir()
    (occupied / "thesis.tex").write_text("mine")
    lm = ["train", "shakespeare-char", "--out", here / "new"]
    digits = ["train", "digits-cnn", "--out", here / "new", "--set"]
    return [
        ("unknown recipe", ["train", "digit-cnn"], ["digit-cnn", "digits-cnn"]),
        ("recipe file missing", ["train", "mine.yaml"], ["mine.yaml"]),
        ("recipe no YAML", ["train", broken], ["broken.yaml", "line"]),
        ("recipe a list", ["train", listed], ["list.yaml", "sections"]),
        ("unknown key", [*digits, "optimizer.learning_rate=1"], ["learning_rate", "lr"]),
        ("unknown section", [*digits, "optimiser.lr=1"], ["optimiser", "optimizer"]),
        ("wrong type", [*digits, "train.steps=many"], ["train.steps", "many"]),
        ("fraction for a count", [*digits, "train.steps=1.5"], ["train.steps", "1.5"]),
        ("negative", [*digits, "optimizer.lr=-1"], ["optimizer.lr", "-1"]),
        ("no value", [*digits, "train.steps"], ["train.steps", "section.key=value"]),
        ("unknown kind", [*digits, "optimizer.kind=adamv"], ["adamv", "adam"]),
        ("heads", ["train", "dates-transformer", "--set", "model.num_heads=5"], ["num_heads", "5", "64"]),
        ("shards", [*digits, "batch.size=63"], ["63", "shards", "4"]),
        ("shards no power of two", [*digits, "batch.shards=3"], ["shards", "3", "power of two"]),
        ("workers no power of two", ["train", "digits-cnn", "--workers", 3], ["3", "power of two"]),
        ("more workers than shards", ["train", "digits-cnn", "--workers", 8], ["8", "4"]),
        ("task and data", [*digits, "task=translate"], ["translate", "digits"]),
        ("no path", lm, ["data.path"]),
        ("data missing", [*lm, "--set", "data.path=nowhere.txt"], ["nowhere.txt"]),
        ("data a folder", [*lm, "--set", f"data.path={here}"], [str(here), "folder"]),
        ("data empty", [*lm, "--set", f"data.path={empty}"], ["empty.txt"]),
        ("data short", [*lm, "--set", f"data.path={short}"], ["short.txt", "too short"]),
        ("data no UTF-8", [*lm, "--set", f"data.path={latin}"], ["latin.txt", "UTF-8", "offset 2"]),
        ("data cut off", [*lm, "--set", f"data.path={cut}"], ["cut.txt.gz", "cut off"]),
        ("path that is not used", [*digits, f"data.path={text}"], ["path"]),
        ("occupied by a run", ["train", "digits-cnn", "--out", run], [str(run), "another run"]),
        ("occupied by files", ["train", "digits-cnn", "--out", occupied], ["occupied", "nothing is overwritten"]),
        ("model that cannot be imported", [*digits, 'model={import: "nowhere:model"}'], ["nowhere"]),
        ("no run", ["replay", here / "nothing"], ["nothing"]),
        ("a folder that is no run", ["show", occupied], ["occupied", "run.json"]),
        ("segment outside", ["replay", run, "--from", 3, "--to", 9], ["9", "4"]),
        ("predict with nothing", ["predict", run], ["--text", "--image", "--prompt"]),
        ("predict of another kind", ["predict", run, "--prompt", "a"], ["--text"]),
        ("predict with nothing in it", ["predict", run, "--text", ""], ["1 to"]),
        ("predict too long", ["predict", run, "--text", "glass " * 100], ["tokens"]),
        ("predict a file of another kind", ["predict", run, "--image", picture], ["--text"]),
    ]


def test_bad_input_is_one_clear_message_and_damages_nothing(
    made: Made, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    cases = bad_inputs(made, trained, tmp_path)
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    wrong = []
    for name, words, expected in cases:
        done = command(*words)
        errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
        fine = done.code == 2 and errors and "Traceback" not in done.err and len(errors) <= 2
        if not fine or not all(part in done.err for part in expected):
            wrong.append(f"{name}: exit code {done.code}: {done.err[-400:]}")
        if (tmp_path / "new").exists() or (tmp_path / "runs").exists():
            wrong.append(f"{name}: it left a folder behind")
    assert not wrong, "\n\n".join(wrong)
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before
    assert (tmp_path / "occupied" / "thesis.tex").read_text() == "mine"


def test_usage_errors_have_exit_code_2(command: Command) -> None:
    for arguments in (["tain"], ["train"], ["show", "a", "b"], ["train", "digits-cnn", "--workers", "two"]):
        done = command(*arguments)
        assert done.code == 2
        assert "Traceback" not in done.err


def test_the_public_names_hold_still() -> None:
    assert sorted(api.__all__) == [
        "Captured",
        "GlassrunError",
        "Recipe",
        "Recorder",
        "Replay",
        "Run",
        "Seeded",
        "Verdict",
        "__version__",
        "capture",
        "diff",
        "load",
        "pretrained",
        "record",
        "report",
        "resume",
        "seed",
        "train",
        "view",
    ]
    assert all(getattr(api, name) is not None for name in api.__all__)
    # The function and the package of one name: loading modules of the package must not take the function away.
    script = "import glassrun; f = glassrun.train; from glassrun.train import schedule; assert glassrun.train is f"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_a_recipe_as_json_and_overrides_that_look_like_other_types(made: Made) -> None:
    recipe = api.Recipe.model_validate_json(json.dumps(made.recipe("odd-lm", name="no")))
    assert recipe.name == "no"


def test_a_path_that_is_no_text_is_shown_in_escapes(tmp_path: Path) -> None:
    done = glassrun("show", os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    assert done.code == 2
    assert "caf\\udce9: no such run folder" in done.err
    assert "Traceback" not in done.err
