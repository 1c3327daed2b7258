"""What every study shares: its trainings with several seeds, the table of what they gave, and its file.

    python studies/NAME.py [--seeds 1,2,3] [--set section.key=value]… [--out FILE] [--keep DIR] [--at-once N]

`--set` goes into every training, so a study runs on other data or with other steps: its verdict then follows from
those numbers. With other seeds or settings than its own it writes NAME.json here, in place of the result that glassrun
shows. `--keep` is a folder for the runs; those that are complete there are not trained again, unless a model
of the studies has changed since, and one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import glassrun
from glassrun import config
from glassrun.config import Recipe
from glassrun.digest import digest_bytes, digest_value
from glassrun.errors import BadInput, ConfigError, GlassrunError, NotFinite
from glassrun.look import sharing_study
from glassrun.look.stored import (
    Claim,
    Measurement,
    Panel,
    Setting,
    Stored,
    Verdict,
    folder,
    select,
    settings,
    spread,
)
from glassrun.record.environment import cpu_model
from glassrun.run import Run

SEEDS = (1, 2, 3)
FEWEST_SEEDS = 3
# Measuring loads models, which is not for several threads at once; trainings are processes of their own.
_measuring = threading.Lock()
# Where the studies' own models and data are made: a run of such as have changed since is not used again.
_HERE = Path(__file__).parent
_MADE = [*sorted(_HERE.glob("*variants.py")), _HERE / "copying.py", _HERE / "seeing.py", Path(sharing_study.__file__)]
_CODE = [digest_bytes(path.read_bytes()) for path in _MADE]
Values = Mapping[str, float | None]


@dataclass(frozen=True)
class Trial:
    """One setting, and what is trained for it with every seed.

    Arguments:
        setting: factor to level.
        recipe: a shipped recipe's name or a mapping; None where nothing is trained.
        overrides: of the recipe, dotted key to value. The study's seeds and `--set` come after them.
        workers: that train it.
        copy: which of several runs of one recipe, for studies that train the same again.
        prepare: of a recipe with all its settings, the one that is trained: for a trial that makes data from the
            recipe's own. It is given a folder for them.
    """

    setting: Setting
    recipe: str | Mapping[str, Any] | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 1
    copy: int = 1
    prepare: Callable[[Recipe, Path], Recipe] | None = None


# Of a run (None where nothing is trained), its trial and its seed: for further factors, if any, the values by name.
Measure = Callable[[Run | None, Trial, int], Iterable[tuple[Setting, Values]]]
Judge = Callable[[Sequence[Measurement]], Verdict]


def run_study(
    claim: Claim,
    trials: Sequence[Trial],
    measure: Measure,
    judge: Judge,
    panels: Sequence[Panel],
    *,
    trained: str,
    seeds: Sequence[int] = SEEDS,
    arguments: Sequence[str] | None = None,
) -> Stored:
    """Train every trial with every seed, measure, print, judge, and write the result.

    A run that stops because its loss is not finite is measured too: its `status` is "stopped".

    Arguments:
        claim, panels, trained: see `glassrun.look.stored`.
        trials, measure: what is trained, and what is taken from each run.
        judge: what the measurements say; it must follow from them alone.
        seeds: at least three, unless the caller gives others.
        arguments: of the command line.
    """
    # Lines of a study that goes on for an hour should be seen as they come.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    given = _parse(claim, seeds, arguments)
    try:
        overrides = dict(config.parse_override(text) for text in given.set)
        if overrides and all(trial.recipe is None for trial in trials):
            raise ConfigError("nothing is trained here, so --set would be ignored")
        jobs = [(trial, seed, _recipe(trial, seed, overrides)) for trial in trials for seed in given.seeds]
        _check_different(jobs, overrides)
        print(f"{claim.name}: {claim.text}\n{len(jobs)} trainings of {len(trials)} settings, seeds {given.seeds}\n")
        with TemporaryDirectory() as scratch, ThreadPoolExecutor(given.at_once) as pool:
            runs = Path(given.keep or scratch) / claim.name
            found = list(pool.map(lambda job: _measured(*job, runs, measure), jobs))
    except GlassrunError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, BadInput) else 1)
    measurements = [measurement for part, _ in found for measurement in part]
    verdict = judge(measurements)
    if len(given.seeds) < FEWEST_SEEDS:
        verdict = Verdict(False, f"fewer than {FEWEST_SEEDS} seeds decide nothing; {verdict.text}")
    own = given.seeds == list(seeds) and not given.set
    out = given.out or (folder() / f"{claim.name}.json" if own else Path(f"{claim.name}.json"))
    result = Stored(
        claim=claim,
        measurements=measurements,
        panels=panels,
        verdict=verdict,
        command=" ".join(["python", f"studies/{claim.name}.py", *_repeated(given, seeds)]),
        seeds=given.seeds,
        trained=trained + ("; changed: " + ", ".join(given.set) if given.set else ""),
        machine={"cpu": cpu_model(), "cores": len(os.sched_getaffinity(0)), "torch": _torch_version()},
        seconds=round(sum(seconds for _, seconds in found), 1),
        date=date.today().isoformat(),
    )
    _print(result)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(result.encode(), encoding="utf-8")
    print(f"\nwritten: {out}")
    return result


def _parse(claim: Claim, seeds: Sequence[int], arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=claim.text)
    parser.add_argument("--seeds", type=_numbers, default=list(seeds), metavar="A,B,C")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value")
    parser.add_argument("--out", type=Path, metavar="FILE")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the runs there; complete ones are used again")
    parser.add_argument("--at-once", type=int, default=len(os.sched_getaffinity(0)), metavar="N")
    return parser.parse_args(arguments)


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text} names a seed twice")
    return numbers


def _check_different(jobs: Sequence[tuple[Trial, int, Recipe | None]], overrides: Mapping[str, Any]) -> None:
    """Refuse what would make trainings alike that are to be compared.

    Raises:
        ConfigError: the overrides do.
    """
    if "seed" in overrides:
        raise ConfigError("--set seed would give every training the same one; expected --seeds A,B,C")
    names = [_folder_name(trial, seed, recipe) for trial, seed, recipe in jobs if recipe is not None]
    if len(set(names)) < len(names):
        raise ConfigError(f"--set {', '.join(overrides)} makes settings alike that this study compares")


def _repeated(given: argparse.Namespace, seeds: Sequence[int]) -> list[str]:
    """The arguments that change the numbers."""
    other = [] if given.seeds == list(seeds) else ["--seeds", ",".join(map(str, given.seeds))]
    return other + [part for text in given.set for part in ("--set", text)]


def _recipe(trial: Trial, seed: int, overrides: Mapping[str, Any]) -> Recipe | None:
    if trial.recipe is None:
        return None
    values = {"train.checkpoint_every": 1_000_000, "train.eval_every": 1_000_000, "train.keep_checkpoints": 1}
    return config.load(trial.recipe, values | {"seed": seed} | dict(trial.overrides) | dict(overrides))


def _measured(
    trial: Trial, seed: int, recipe: Recipe | None, runs: Path, measure: Measure
) -> tuple[list[Measurement], float]:
    """What a training gave, and the seconds that its steps took."""
    import torch

    torch.set_num_threads(1)  # of this thread: what is measured beside it has the other cores
    begin = time.monotonic()
    run = None
    if recipe is not None:
        out = runs / _folder_name(trial, seed, recipe)
        chosen = trial.prepare(recipe, out.with_name(f"{out.name}-data")) if trial.prepare else recipe
        run = _train(chosen, out, trial.workers)
    with _measuring:
        rows = [
            Measurement(
                dict(trial.setting) | dict(more), seed, dict(values), run.ledger[-1].chain if run and run.ledger else ""
            )
            for more, values in measure(run, trial, seed)
        ]
    words = ", ".join(f"{name} {level}" for name, level in trial.setting.items())
    first = ", ".join(f"{name} {_number(value)}" for row in rows[:1] for name, value in row.values.items())
    print(f"{words}, seed {seed}: {first} ({time.monotonic() - begin:.0f} s)")
    return rows, sum(line.seconds for line in run.ledger) if run else 0.0


def _folder_name(trial: Trial, seed: int, recipe: Recipe) -> str:
    """A run's own: by all of its recipe, for the contract's digest leaves out where data lie, and so which they are."""
    prepared = dict(trial.setting) if trial.prepare else {}
    return f"{digest_value([recipe.plain(), prepared, _CODE])[:16]}-{trial.workers}-{seed}-{trial.copy}"


def _train(recipe: Recipe, out: Path, workers: int) -> Run:
    """The run there if it is complete or stopped; one that was interrupted goes on."""
    try:
        if not out.exists():
            return glassrun.train(recipe, out=out, workers=workers)
        run = glassrun.load(out)
        return run if run.status == "stopped" else glassrun.resume(out, workers=workers)
    except NotFinite:
        return glassrun.load(out)


def _torch_version() -> str:
    import torch

    return str(torch.__version__)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _print(result: Stored) -> None:
    """Of every setting the mean of each value, and between what the seeds lie."""
    print()
    for setting in settings(result.measurements):
        words = ", ".join(f"{name} {level}" for name, level in setting.items())
        found = [m for m in result.measurements if m.setting == setting]
        for name in dict.fromkeys(name for measurement in found for name in measurement.values):
            values = select(found, name, {})
            over = spread(values)
            lost = sum(value is None for value in values)
            text = "none" if over is None else f"{over.mean:.4g} ({over.least:.4g} to {over.greatest:.4g})"
            print(f"  {words}: {name} {text}" + (f", {lost} of {len(values)} without" if lost else ""))
    print(f"\n{'supported' if result.verdict.supported else 'NOT supported'}: {result.verdict.text}")
