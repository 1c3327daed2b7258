"""A worker's part in training a run: open or make the folder, begin or go on, write it down."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassrun import config
from glassrun.digest import digest_bytes
from glassrun.errors import BadInput, NotFinite, RunFolderError
from glassrun.record.run_folder import COMPLETE, RUNNING, STOPPED, RunFolder, identity

if TYPE_CHECKING:
    from glassrun.train.checkpoint import Checkpoint
    from glassrun.train.state import State
    from glassrun.train.workers import Workers

Tell = Callable[[dict[str, Any]], None]


def run(job: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Train: on rank 0 with the folder, elsewhere only the arithmetic."""
    recipe = config.validate(job["config"], "recipe")
    if job["rank"]:
        return _train(None, recipe, job, tell)
    folder = _folder(job, recipe)
    tell({"event": "folder", "path": str(folder.path)})
    try:
        return _train(folder, recipe, job, tell)
    except BadInput:
        if job["new"] and not folder.began:
            with suppress(BadInput):  # the first error is the one to tell
                folder.discard()
        raise


def _folder(job: dict[str, Any], recipe: config.Recipe) -> RunFolder:
    if job["new"]:
        return RunFolder.create(job["out"] and Path(job["out"]), recipe, job["import_path"])
    folder = RunFolder.open(job["out"])
    folder.lock()
    folder.header = RunFolder.open(job["out"]).header  # what it was before the lock may be old
    return folder


def _train(folder: RunFolder | None, recipe: config.Recipe, job: dict[str, Any], tell: Tell) -> dict[str, Any]:
    from glassrun.train.loop import Trainer
    from glassrun.train.state import load_data, prepare, set_numerics
    from glassrun.train.workers import Workers

    set_numerics(recipe.numerics)
    state = prepare(recipe, load_data(recipe))
    workers = Workers.join(job["rank"], job["world_size"], job["store"])
    start = _begin(folder, state, job, tell) if folder else None
    _agree_on_start(state, start, job, workers)
    trainer = Trainer(state, workers)
    if folder is None:
        from glassrun.train.journal import Silent

        trainer.run(Silent(), recipe.train.steps)
        return {}
    return _write(folder, trainer, start, tell)


def _write(folder: RunFolder, trainer: Any, start: Checkpoint | None, tell: Tell) -> dict[str, Any]:
    from glassrun.train.journal import Writing

    journal = Writing(folder, trainer.ledger_names, start, tell)
    tell({"event": "begin", "step": trainer.state.step, "steps": folder.recipe.train.steps})
    reason = None
    try:
        trainer.run(journal, folder.recipe.train.steps)
    except NotFinite as error:
        reason = str(error)
    journal.close()
    _keep_code(folder)
    lines = folder.lines()
    last = lines[-1]
    folder.update(
        status=STOPPED if reason else COMPLETE,
        reason=reason,
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


def _begin(folder: RunFolder, state: State, job: dict[str, Any], tell: Tell) -> Checkpoint | None:
    """Write down what the run is, or, when it goes on, see that it is still the same; the checkpoint to start from."""
    from glassrun.data.manifest import manifest_digest
    from glassrun.record.differences import code_notes, numerics_notes
    from glassrun.train import checkpoint

    for note in [*numerics_notes(folder), *code_notes(folder)] if folder.began else []:
        tell({"event": "note", "text": note})
    session = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "workers": job["world_size"]}
    found = manifest_digest(state.dataset.manifest)
    if folder.began:
        check_data(folder, state.dataset.manifest)
        start = checkpoint.latest(folder.path)
        session |= {"after_step": start.step if start else 0} | _environment_now(folder)
        folder.update(status=RUNNING, sessions=[*folder.header["sessions"], session])
        return start
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
    from glassrun.digest import digest_value
    from glassrun.record import environment
    from glassrun.record.files import write_atomic
    from glassrun.record.fingerprint import Fingerprinter
    from glassrun.train.loop import initial_fingerprints

    for path in (folder.ledger_path, folder.metrics_path):
        write_atomic(path, b"")
    sources, surroundings = _write_code(folder), environment.collect()
    digests = {"numerics": digest_value(surroundings["numerics"]), "code": sources["digest"]}
    folder.update(
        status=RUNNING,
        identity=name,
        initial=initial_fingerprints(state, Fingerprinter()),
        data=state.dataset.manifest,
        data_digest=data_digest,
        facts=dict(state.dataset.facts),
        encoding=state.dataset.encoding.to_plain(),
        code=sources,
        environment=surroundings,
        sessions=[session | digests],
    )


def _write_code(folder: RunFolder) -> dict[str, Any]:
    """Write `code.zip` with the sources that are imported now; what `run.json` says about them."""
    from glassrun.record import code
    from glassrun.record.files import write_atomic

    sources = code.collect()
    write_atomic(folder.path / "code.zip", sources.archive())
    return sources.record()


def _keep_code(folder: RunFolder) -> None:
    """Add what was imported after the start, by the user's forward for instance; a changed file is not replaced."""
    from glassrun.record import code

    found, recorded = code.collect(), folder.header["code"]
    if found.digests.keys() > recorded["files"].keys() and not code.differences(recorded, found):
        kept = _write_code(folder)
        sessions = [
            session | {"code": kept["digest"]} if session["code"] == recorded["digest"] else session
            for session in folder.header["sessions"]
        ]
        folder.update(code=kept, sessions=sessions)


def check_data(folder: RunFolder, manifest: dict[str, Any]) -> None:
    """The data must be what the run began with.

    Raises:
        RunFolderError: it is not; the message says what differs.
    """
    from glassrun.data.manifest import differences, manifest_digest

    if manifest_digest(manifest) != folder.header["data_digest"]:
        raise RunFolderError(
            f"{folder.path}: the data are not those that the run began with: "
            f"{'; '.join(differences(folder.header['data'], manifest)[:5])}. Put the same data in place "
            "(they may lie elsewhere: --data-path), or train anew"
        )


def _agree_on_start(state: State, start: Checkpoint | None, job: dict[str, Any], workers: Workers) -> None:
    """Rank 0 chooses the step to start from; every worker restores that checkpoint and meets the others there."""
    from glassrun.train import checkpoint

    step = workers.gather([start.step if start else 0])[0][0]
    if not step:
        return
    if start is None:
        start = checkpoint.read(checkpoint.path_of(Path(job["out"]), step))
    checkpoint.restore(state, start)
