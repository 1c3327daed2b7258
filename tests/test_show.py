"""What `show` tells of a run, from a folder made with the record's own parts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glassrun import config
from glassrun.errors import RunFolderError
from glassrun.record import ledger
from glassrun.record.ledger import Line, Step, link
from glassrun.record.run_folder import RunFolder, identity
from glassrun.show import as_text, metric_text, planned, planned_as_text, summary
from glassrun.train.schedule import learning_rate

COSINE = "warmup-cosine ██████▇▇▇▇▆▆▆▅▅▅▄▄▄▃▃▃▂▂▂▂▁▁▁▁▁▁"
RECIPE = {"name": "shown", "task": "classify", "data": {"source": "digits"}, "model": {"kind": "cnn"}, "seed": 11}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[RunFolder]:
    folder = RunFolder.create(tmp_path / "run", config.load(RECIPE), [])
    yield folder
    if folder._lock.held:
        folder.unlock()


def fill(folder: RunFolder, losses: list[float], **header: Any) -> str:
    """A ledger with these losses and two evaluations of each split; returns the last chain value."""
    name = identity(folder.recipe, "0" * 32)
    chain, data = name, b""
    for number, loss in enumerate(losses, start=1):
        step = Step(number, 1, 64, 0, loss, 1e-3, 1.0, "b" * 16, "c" * 16, f"{number:016x}", "d" * 16)
        chain = link(chain, step)
        data += Line(step, chain, 0.5).encode()
    folder.ledger_path.write_bytes(data)
    lines = [
        {"step": step, "split": split, "examples": 150, "loss": loss, "loss_hex": loss.hex(), "accuracy": 0.98999}
        for step, loss in ((1, 0.75), (2, 0.5))
        for split in ("validation", "test")
    ]
    folder.metrics_path.write_bytes(b"".join(map(ledger.with_checksum, lines)))
    table = ledger.TensorTable(["parameter w float32 3"])
    rows = (table.encode(number, [number]) for number in range(1, len(losses) + 1))
    folder.tensors_path.write_bytes(table.header + b"".join(rows))
    sessions = [{"started": "now", "workers": 2, "after_step": 0}, {"started": "later", "workers": 4, "after_step": 1}]
    folder.update(**{"identity": name, "status": "running", "sessions": sessions, "code": {"digest": "x"}} | header)
    return chain


def test_a_run_that_has_not_begun(made: RunFolder) -> None:
    found = summary(made.path)
    assert (found["status"], found["steps"], found["steps_planned"]) == ("preparing", 0, 600)
    assert (found["loss"], found["chain"], found["params_fingerprint"], found["metrics"]) == (None, None, None, {})
    assert as_text(found).count("none yet") == 3
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_run_with_steps(made: RunFolder) -> None:
    chain = fill(made, [2.0, 1.0, 0.25])
    found = summary(made.path)
    assert (found["steps"], found["loss"], found["chain"], found["seed"], found["name"]) == (
        3,
        0.25,
        chain,
        11,
        "shown",
    )
    assert found["params_fingerprint"] == f"{3:016x}"
    assert found["seconds"] == 1.5
    assert found["config_digest"] == config.load(RECIPE).digest()
    newest = {"step": 2, "examples": 150, "loss": 0.5, "accuracy": 0.98999}
    assert found["metrics"] == {"validation": newest, "test": newest}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_text_names_every_number(made: RunFolder) -> None:
    chain = fill(made, [2.0, 1.0])
    text = as_text(summary(made.path)).splitlines()
    assert text == [
        f"run         {made.path}",
        "status      running",
        "steps       2 of 600, 1.0 s of training, workers 2 then 4",
        f"schedule    {COSINE} 0.001 at step 1, 0.0005262 at step 290, 0 at step 600",
        "loss        1.0000",
        "validation  loss 0.5000, accuracy 98.99 % (150 examples, step 2)",
        "test        loss 0.5000, accuracy 98.99 % (150 examples, step 2)",
        f"parameters  {2:016x}",
        f"chain       {chain}",
    ]


def test_a_run_that_stopped_says_why_and_shows_no_loss_that_is_none(made: RunFolder) -> None:
    fill(made, [2.0, float("nan")], status="stopped", reason="step 2: the loss is not finite")
    found = summary(made.path)
    assert found["loss"] is None
    text = as_text(found)
    assert "status      stopped: step 2: the loss is not finite" in text
    assert json.dumps(found, allow_nan=False)
    assert "none yet" not in text  # there is a loss: it is not finite


def test_a_damaged_run_is_not_shown(made: RunFolder) -> None:
    fill(made, [2.0, 1.0])
    made.metrics_path.write_bytes(made.metrics_path.read_bytes().replace(b"0.5", b"0.4", 1))
    with pytest.raises(RunFolderError, match="metrics"):
        summary(made.path)
    with pytest.raises(RunFolderError, match="no such run folder"):
        summary(made.path.with_name("absent"))


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("accuracy", 1.0, "100.00 %"),
        ("accuracy", 0.99999, "99.99 %"),
        ("exact_match", 0.0, "0.00 %"),
        ("token_accuracy", 0.5, "50.00 %"),
        ("accuracy", 0.29, "29.00 %"),
        ("accuracy", 0.57, "57.00 %"),
        ("accuracy", 0.5799, "57.99 %"),
        ("loss", 0.29, "0.2900"),
    ],
)
def test_shares_are_cut_not_rounded_up(name: str, value: float, text: str) -> None:
    assert metric_text(name, value) == text


# --- a recipe that has not run ---------------------------------------------------------------------------------------


def recipe(**schedule: Any) -> config.Recipe:
    return config.load(RECIPE | {"schedule": schedule, "train": {"steps": 90}})


@pytest.mark.parametrize(
    ("schedule", "warmup"),
    [
        ({"warmup_steps": 7}, 7),
        ({"kind": "one-cycle", "warmup_steps": 40, "initial_lr": 1e-4}, 40),
        ({"kind": "cosine-restarts", "cycle_steps": 30}, 0),
        ({"kind": "constant", "warmup_epochs": 2.0}, 44),  # 1,411 training digits are 22.05 steps of 64
    ],
)
def test_the_planned_rates_are_those_that_a_run_takes(schedule: dict[str, Any], warmup: int) -> None:
    found = planned(recipe(**schedule))
    rates = found["schedule"]["rates"]
    assert found["schedule"]["warmup_steps"] == warmup
    steps = [step for step, _ in rates]
    assert steps == sorted(set(steps))
    assert {1, 90} | ({warmup} if warmup else set()) <= set(steps)
    assert all(rate == learning_rate(recipe(**schedule), step, 1411) for step, rate in rates)
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("steps", [1, 2, 3, 31, 32, 33, 1000])
def test_a_schedule_of_any_length_has_its_first_and_last_step(steps: int) -> None:
    found = planned(config.load(RECIPE | {"train": {"steps": steps}}))["schedule"]["rates"]
    assert (found[0][0], found[-1][0]) == (1, steps)
    assert len(found) == min(steps, 32)


def test_a_plan_in_words() -> None:
    text = planned_as_text(planned(recipe(kind="linear", warmup_steps=10))).splitlines()
    assert text[:2] == ["recipe      shown", "steps       90"]
    assert text[2].startswith("schedule    linear ▂")
    assert text[2].endswith("0.0001 at step 1, 0.001 at step 10, 0.0005125 at step 49, 0 at step 90")


def test_a_rate_of_zero_has_a_form_too() -> None:
    flat = config.load(RECIPE | {"optimizer": {"lr": 0.0}, "train": {"steps": 3}})
    assert planned_as_text(planned(flat)).endswith("▁▁▁ 0 at step 1, 0 at step 2, 0 at step 3")


def test_a_run_that_does_not_know_its_epochs_yet_shows_no_schedule(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "epochs", recipe(warmup_epochs=1.0), [])
    try:
        assert summary(folder.path)["schedule"] is None
        assert "schedule" not in as_text(summary(folder.path))
    finally:
        folder.unlock()
