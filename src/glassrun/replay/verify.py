"""A worker's part in a replay: say what differs beforehand, run again, compare as it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glassrun import config
from glassrun.data.recorded import of_run
from glassrun.data.source import Dataset
from glassrun.errors import NotFinite, RunFolderError
from glassrun.record.checkpoint_files import Checkpoint, path_of, read
from glassrun.record.differences import code_notes, numerics_notes
from glassrun.record.fingerprint import Fingerprinter
from glassrun.record.run_folder import STOPPED, RunFolder
from glassrun.train.checkpoint import restore
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
        for note in numerics_notes(folder):
            tell({"event": "note", "text": note})
    dataset = load_data(recipe, of_run(folder.header, str(folder.path)))
    if not job["rank"]:
        for note in _data_notes(folder, dataset):
            tell({"event": "note", "text": note})
    state = prepare(recipe, dataset)
    workers = Workers.join(job["rank"], job["world_size"], job["store"])
    start = _start(folder, state, first, workers)
    if not job["rank"]:
        for note in [*code_notes(folder), *(_initial_notes(folder, state) if start is None else [])]:
            tell({"event": "note", "text": note})
    trainer = Trainer(state, workers)
    journal = Silent() if job["rank"] else Comparing(folder, start, tell, first=first, last=last)
    if not job["rank"]:
        tell({"event": "begin", "step": state.step, "steps": last})
    try:
        trainer.run(journal, last)
    except NotFinite:
        if folder.header["status"] != STOPPED or state.step != len(folder.lines()):
            raise
    if isinstance(journal, Silent):
        return {}
    journal.finish()
    return {
        "identical": journal.identical,
        "evaluations": journal.metrics_identical,
        "checkpoint": start.step if start else 0,
        "chain": journal.chain,
    }


def _start(folder: RunFolder, state: State, first: int, workers: Workers) -> Checkpoint | None:
    """Restore the newest checkpoint before step `first`; rank 0 chooses it, for a run that goes on removes old ones."""
    found = folder.checkpoint(at_most=first - 1) if workers.rank == 0 else None
    step = workers.gather([found.step if found else 0])[0][0]
    if not step:
        return None
    start = found or read(path_of(folder.path, step))
    restore(state, start)
    return start


def _data_notes(folder: RunFolder, dataset: Dataset) -> list[str]:
    try:
        check_data(folder, dataset)
    except RunFolderError as error:
        return [str(error)]
    return []


def _initial_notes(folder: RunFolder, state: State) -> list[str]:
    here, recorded = initial_fingerprints(state, Fingerprinter()), folder.header["initial"]
    found = [what for what in recorded if recorded[what] != here[what]]
    return [f"the run differs before its first step already: initial {' and '.join(found)}"] if found else []
