"""The studies' driver: what it trains, what it keeps, and that a verdict comes from the numbers alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import study as study_script
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study

import glassrun as api
from glassrun.look.stored import Stored, decode, select
from glassrun.run import Run

CLAIM = Claim("larger", "attention", "Twice a number is larger than the number.", "arithmetic")


def double(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:
    assert run is None
    yield {"part": "all"}, {"value": float(trial.setting["factor"]) * seed}


def larger(measurements: Sequence[Measurement]) -> Verdict:
    once, twice = ([m.values["value"] for m in measurements if m.setting["factor"] == factor] for factor in (1.0, 2.0))
    return Verdict(all(a < b for a, b in zip(once, twice, strict=True)), f"{twice} against {once}")


def study(tmp_path: Path | None, *arguments: str) -> Stored:
    """Written there, or where it is by itself."""
    out = ["--out", str(tmp_path / "new" / "larger.json")] if tmp_path else []
    return run_study(
        CLAIM,
        [Trial({"factor": 1.0}), Trial({"factor": 2.0})],
        double,
        larger,
        [Panel("value", "factor")],
        trained="Nothing",
        arguments=[*out, *arguments],
    )


def test_every_setting_with_every_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = study(tmp_path)
    assert [(m.setting["factor"], m.seed, m.values["value"]) for m in result.measurements] == [
        (factor, seed, factor * seed) for factor in (1.0, 2.0) for seed in (1, 2, 3)
    ]
    assert select(result.measurements, "value", {"factor": 2.0, "part": "all"}) == [2.0, 4.0, 6.0]
    assert result.command == "python studies/larger.py"
    assert decode((tmp_path / "new" / "larger.json").read_text()) == result
    said = capsys.readouterr().out
    assert "factor 2.0, part all: value 4 (2 to 6)" in said
    assert "\nsupported: [2.0, 4.0, 6.0] against [1.0, 2.0, 3.0]" in said


def test_other_seeds_are_in_the_command_and_may_turn_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = study(tmp_path, "--seeds", "0,5,6")
    assert result.command == "python studies/larger.py --seeds 0,5,6"
    assert not result.verdict.supported
    assert "NOT supported: [0.0, 10.0, 12.0] against [0.0, 5.0, 6.0]" in capsys.readouterr().out


def test_two_seeds_decide_nothing(tmp_path: Path) -> None:
    result = study(tmp_path, "--seeds", "1,2")
    assert not result.verdict.supported
    assert result.verdict.text.startswith("fewer than 3 seeds decide nothing; ")


def test_a_seed_given_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        study(tmp_path, "--seeds", "1,1,2")
    assert "1,1,2 names a seed twice" in capsys.readouterr().err


def test_only_the_own_seeds_and_settings_make_the_shown_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = tmp_path / "shown"
    monkeypatch.setattr(study_script, "folder", lambda: shown)
    monkeypatch.chdir(tmp_path)
    study(None)
    assert (shown / "larger.json").exists()
    before = (shown / "larger.json").read_bytes()
    study(None, "--seeds", "4,5,6")
    assert (shown / "larger.json").read_bytes() == before
    assert (tmp_path / "larger.json").exists()


# --- with trainings --------------------------------------------------------------------------------------------------


def last_loss(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:  # noqa: ARG001
    assert run is not None
    stopped = run.status == "stopped"
    yield {}, {"loss": None if stopped else run.ledger[-1].step.loss}


def finite(measurements: Sequence[Measurement]) -> Verdict:
    return Verdict(all(m.values["loss"] is not None for m in measurements), "no loss is missing")


def trainings(tmp_path: Path, *arguments: str) -> Stored:
    trials = [Trial({"rate": rate}, "digits-cnn", {"optimizer.lr": rate}) for rate in (1e-3, 1e30)]
    return run_study(
        CLAIM,
        trials,
        last_loss,
        finite,
        [],
        trained="A CNN",
        arguments=["--out", str(tmp_path / "x.json"), "--seeds", "7", "--set", "train.steps=3", *arguments],
    )


@pytest.mark.usefixtures("warm_workers")
def test_what_is_trained_is_what_the_command_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The chain is that of the same recipe by itself; a run that is no longer finite is measured, not lost; and with
    `--keep` nothing is trained twice."""
    kept = tmp_path / "kept"
    result = trainings(tmp_path, "--keep", str(kept))
    own = api.train("digits-cnn", {"train.steps": 3, "seed": 7, "optimizer.lr": 1e-3}, out=tmp_path / "own", workers=2)
    assert [m.chain == own.ledger[-1].chain for m in result.measurements] == [True, False]
    assert result.measurements[1].values == {"loss": None}
    assert not result.verdict.supported
    assert result.command == "python studies/larger.py --seeds 7 --set train.steps=3"
    assert "rate 1e+30: loss none, 1 of 1 without" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*") if path.is_file()}
    assert trainings(tmp_path, "--keep", str(kept)).measurements == result.measurements
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed=5", "--set seed would give every training the same one; expected --seeds A,B,C"),
        ("optimizer.lr=1e-3", "--set train.steps, optimizer.lr makes settings alike that this study compares"),
    ],
)
def test_what_the_study_varies_cannot_be_set(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        trainings(tmp_path, "--set", text)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"error: {said}\n"


def test_data_that_cannot_be_read_are_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        trainings(tmp_path, "--set", "data.source=images", "--set", f"data.path={tmp_path / 'nowhere'}")
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "nowhere" in line


@pytest.mark.parametrize("text", ["train.stepps=3", "train.steps", "train.steps=0"])
def test_a_wrong_setting_is_one_message(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        trainings(tmp_path, "--set", text)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "train" in line
