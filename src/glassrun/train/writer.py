"""A worker's part in training a run: open or make the folder, begin or go on, write it down."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassrun import config
from glassrun.digest import digest_bytes
from glassrun.errors import BadInput, NotFinite, RunFolderError, WorkersDisagree
from glassrun.record.run_folder import COMPLETE, RUNNING, STOPPED, RunFolder, identity
from glassrun.train.opening import RESUME, open_folder

if TYPE_CHECKING:
    from glassrun.data.recorded import Recorded
    from glassrun.data.source import Dataset
    from glassrun.record.checkpoint_files import Checkpoint
    from glassrun.train.loop import Trainer
    from glassrun.train.state import State
    from glassrun.train.workers import Workers

Tell = Callable[[dict[str, Any]], None]


def run(job: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Train: on rank 0 with the folder, elsewhere only the arithmetic."""
    recipe = config.validate(job["config"], "recipe")
    if job["rank"]:
        return compute(None, recipe, job, tell)
    return train(open_folder(job, recipe), recipe, job, tell)


def train(folder: RunFolder, recipe: config.Recipe, job: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Rank 0's part; a folder whose run could not begin is taken away again."""
    tell({"event": "folder", "path": str(folder.path)})
    try:
        return compute(folder, recipe, job, tell)
    except BadInput:
        if job["begin"] != RESUME and not folder.began:
            with suppress(BadInput):  # the first error is the one to tell
                folder.discard()
        raise


def compute(folder: RunFolder | None, recipe: config.Recipe, job: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """The arithmetic, alike on every worker; written down where there is a folder."""
    from glassrun.train.journal import Silent
    from glassrun.train.loop import Trainer
    from glassrun.train.state import load_data, prepare, set_numerics
    from glassrun.train.workers import Workers

    set_numerics(recipe.numerics)
    state = prepare(recipe, load_data(recipe, _recorded(folder, job)))
    workers = Workers.join(job["rank"], job["world_size"], job["store"])
    start = _begin(folder, state, job, tell) if folder else None
    _agree_on_start(state, start, folder, workers)
    trainer = Trainer(state, workers)
    try:
        if folder is not None:
            return _write(folder, trainer, start, tell)
        trainer.run(Silent(), recipe.train.steps)
        return {}
    except WorkersDisagree as error:
        raise _judged(error, folder, trainer) from None


def _recorded(folder: RunFolder | None, job: dict[str, Any]) -> Recorded | None:
    """What the run says of its data, if it has begun; workers without the folder read it where it lies."""
    from glassrun.data.recorded import of_run

    if folder is None and job["out"] and (Path(job["out"]) / "run.json").exists():
        folder = RunFolder.open(job["out"])
    return of_run(folder.header, str(folder.path)) if folder else None


def _write(folder: RunFolder, trainer: Trainer, start: Checkpoint | None, tell: Tell) -> dict[str, Any]:
    from glassrun.record import code
    from glassrun.train.journal import Writing

    journal = Writing(folder, trainer.ledger_names, start, tell)
    tell({"event": "begin", "step": trainer.state.step, "steps": folder.recipe.train.steps})
    reason = None
    try:
        trainer.run(journal, folder.recipe.train.steps)
    except NotFinite as error:
        reason = str(error)
    journal.close()
    last = folder.lines()[-1]
    recorded, kept = folder.header["code"], code.kept(folder.path, folder.header["code"])
    folder.update(
        status=STOPPED if reason else COMPLETE,
        reason=reason,
        code=kept,
        sessions=[
            session | {"code": kept["digest"]} if session["code"] == recorded["digest"] else session
            for session in folder.header["sessions"]
        ],
        steps=last.step.step,
        chain=last.chain,
        parameters=last.step.parameters,
        metrics_digest=digest_bytes(b"".join(line for line, _ in folder.metrics_lines())),
    )
    if reason:
        raise NotFinite(
            f"{reason}. The run stopped there; the step is recorded in {folder.path}. A smaller learning rate, a "
            "longer warmup or optimizer.clip_norm may help; they make another run"
        )
    return {"path": str(folder.path), "steps": last.step.step}


def _judged(error: WorkersDisagree, folder: RunFolder | None, trainer: Trainer) -> WorkersDisagree:
    """Of two workers that differ after an update, which is wrong; every worker does the same here."""
    from glassrun.train.disagreement import Evidence, who_follows
    from glassrun.train.loop import Trainer
    from glassrun.train.state import prepare

    evidence, workers = error.evidence, trainer.workers
    if not isinstance(evidence, Evidence) or workers.world_size != 2:
        return error
    state = prepare(trainer.state.recipe, trainer.state.dataset)
    _agree_on_start(state, folder.checkpoint() if folder else None, folder, workers)
    recorded = None
    if folder:
        before = evidence.step - 1
        recorded = folder.lines()[before - 1].step.parameters if before else folder.header["initial"]["parameters"]
    return evidence.judged(who_follows(evidence, Trainer(state, workers), recorded))


def _begin(folder: RunFolder, state: State, job: dict[str, Any], tell: Tell) -> Checkpoint | None:
    """Write down what the run is, or, when it goes on, see that it is still the same; the checkpoint to start from."""
    from glassrun.data.lock import refuse_others
    from glassrun.data.manifest import manifest_digest
    from glassrun.record.differences import code_notes, numerics_notes

    for note in [*numerics_notes(folder), *code_notes(folder)] if folder.began else []:
        tell({"event": "note", "text": note})
    session = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "workers": job["world_size"]}
    if "why" in job:
        session["why"] = job["why"]
    found = manifest_digest(state.dataset.manifest)
    if folder.began:
        check_data(folder, state.dataset)
        start = folder.checkpoint()
        session |= {"after_step": start.step if start else 0} | _environment_now(folder)
        folder.update(status=RUNNING, sessions=[*folder.header["sessions"], session])
        return start
    refuse_others(folder.recipe, state.dataset)
    _describe(folder, state, identity(folder.recipe, found), found, session | {"after_step": 0})
    return None


def _environment_now(folder: RunFolder) -> dict[str, Any]:
    """Digests of this session's numerics and code; where they are not those of the run's start, also what they are."""
    from glassrun.digest import digest_value
    from glassrun.record import code, environment

    numerics, sources = environment.numerics(), code.now(folder.header["code"], code.collect())
    found: dict[str, Any] = {"numerics": digest_value(numerics), "code": sources["digest"]}
    if numerics != folder.header["environment"]["numerics"]:
        found["environment"] = numerics
    if sources["changed"]:
        found["changed_code"] = sources["changed"]
    return found


def _describe(folder: RunFolder, state: State, name: str, data_digest: str, session: dict[str, Any]) -> None:
    from glassrun.data import keys
    from glassrun.digest import digest_value
    from glassrun.record import code, environment
    from glassrun.record.files import write_atomic
    from glassrun.record.fingerprint import Fingerprinter
    from glassrun.train.loop import initial_fingerprints

    for path in (folder.ledger_path, folder.metrics_path):
        write_atomic(path, b"")
    data_keys = keys.encode(keys.keys_of(state.dataset.splits))
    write_atomic(folder.keys_path, data_keys)
    sources, surroundings = code.store(folder.path), environment.collect()
    digests = {"numerics": digest_value(surroundings["numerics"]), "code": sources["digest"]}
    folder.update(
        status=RUNNING,
        identity=name,
        initial=initial_fingerprints(state, Fingerprinter()),
        data=state.dataset.manifest,
        data_digest=data_digest,
        data_keys=digest_bytes(data_keys),
        facts=state.facts,
        encoding=state.dataset.encoding.to_plain(),
        code=sources,
        environment=surroundings,
        sessions=[session | digests],
    )


def check_data(folder: RunFolder, dataset: Dataset) -> None:
    """The data must be what the run began with.

    Raises:
        RunFolderError: it is not; the message names the examples that differ, and what else does.
    """
    from glassrun.data import keys
    from glassrun.data.manifest import differences, manifest_digest

    if manifest_digest(dataset.manifest) == folder.header["data_digest"]:
        return
    recorded = folder.header["data"]
    findings = keys.compare(folder.data_keys(), keys.keys_of(dataset.splits))
    found = [*keys.describe(findings, recorded["source"]), *differences(recorded, dataset.manifest)]
    raise RunFolderError(
        f"{folder.path}: the data are not those that the run began with: {'; '.join(found[:5])}. "
        "Put the same data in place (they may lie elsewhere: --data-path), or train anew"
    )


def _agree_on_start(state: State, start: Checkpoint | None, folder: RunFolder | None, workers: Workers) -> None:
    """Rank 0 chooses the step to start from; every worker restores that checkpoint and meets the others there."""
    from glassrun.record.checkpoint_files import path_of, read
    from glassrun.train.checkpoint import restore

    own = os.fsencode(folder.path) if folder else b""
    step, length = workers.gather([start.step if start else 0, len(own)])[0]
    if not step:
        return
    path = Path(os.fsdecode(bytes(workers.gather([*own] or [0] * length)[0])))
    restore(state, start or read(path_of(path, step)))
