"""A worker's part in a replay: say what differs beforehand, run again, compare as it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glassrun import config
from glassrun.errors import NotFinite, RunFolderError
from glassrun.record import code, environment
from glassrun.record.fingerprint import Fingerprinter
from glassrun.record.run_folder import STOPPED, RunFolder
from glassrun.train import checkpoint as checkpoints
from glassrun.train.journal import Comparing, Silent
from glassrun.train.loop import Trainer, initial_fingerprints
from glassrun.train.state import State, load_data, prepare, set_numerics
from glassrun.train.workers import Workers
from glassrun.train.writer import check_data

Tell = Callable[[dict[str, Any]], None]


def run(job: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Replay steps `first` to `last` of a run.

    Returns:
        How many steps and evaluations were identical.

    Raises:
        Diverged: a step or an evaluation that is not; the message names step and phase.
    """
    folder = RunFolder.open(job["path"])
    recipe = config.validate(job["config"], "recipe")
    set_numerics(recipe.numerics)
    first, last = job["first"], job["last"]
    if not job["rank"]:
        lines = folder.lines()
        for note in _numerics_notes(folder):
            tell({"event": "note", "text": note})
    dataset = load_data(recipe)
    if not job["rank"]:
        for note in _data_notes(folder, dataset.manifest):
            tell({"event": "note", "text": note})
    state = prepare(recipe, dataset)
    start = checkpoints.latest(folder.path, at_most=first - 1)
    if start:
        checkpoints.restore(state, start)
    elif not job["rank"]:
        for note in [*_code_notes(folder), *_initial_notes(folder, state)]:
            tell({"event": "note", "text": note})
    workers = Workers.join(job["rank"], job["world_size"], job["store"])
    trainer = Trainer(state, workers)
    if job["rank"]:
        trainer.run(Silent(), last)
        return {}
    tell({"event": "begin", "step": state.step, "steps": last})
    journal = Comparing(folder, start, tell, first=first, last=last)
    try:
        trainer.run(journal, last)
    except NotFinite:
        if folder.header["status"] != STOPPED or state.step != len(lines):
            raise
    journal.finish()
    return {
        "identical": journal.identical,
        "evaluations": journal.metrics_identical,
        "checkpoint": start.step if start else 0,
        "chain": journal.chain,
    }


def _numerics_notes(folder: RunFolder) -> list[str]:
    found = environment.differences(folder.header["environment"]["numerics"], environment.numerics())
    if not found:
        return []
    return [
        "not promised here: equal bits are promised on the recorded numerics only, and here these differ: "
        + "; ".join(found)
    ]


def _data_notes(folder: RunFolder, manifest: dict[str, Any]) -> list[str]:
    try:
        check_data(folder, manifest)
    except RunFolderError as error:
        return [str(error)]
    return []


def _code_notes(folder: RunFolder) -> list[str]:
    found = code.differences(folder.header["code"], code.collect())
    return [f"the code is not the recorded one (that is in code.zip): {'; '.join(found[:5])}"] if found else []


def _initial_notes(folder: RunFolder, state: State) -> list[str]:
    here, recorded = initial_fingerprints(state, Fingerprinter()), folder.header["initial"]
    found = [what for what in recorded if recorded[what] != here[what]]
    return [f"the run differs before its first step already: initial {' and '.join(found)}"] if found else []
