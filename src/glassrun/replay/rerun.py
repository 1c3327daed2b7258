"""A worker's part in finding a difference: one step of a run again, traced, perhaps with something changed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from torch import Tensor

from glassrun import config
from glassrun.data.manifest import manifest_digest
from glassrun.data.recorded import of_run
from glassrun.record.differences import numerics_notes
from glassrun.record.fingerprint import Fingerprinter, stored_name
from glassrun.record.ledger import without_checksum
from glassrun.record.run_folder import RunFolder
from glassrun.replay import operations
from glassrun.replay.trace import Trace
from glassrun.train import checkpoint as checkpoints
from glassrun.train.evaluate import evaluate
from glassrun.train.loading import Slices
from glassrun.train.loop import Trainer, initial_fingerprints
from glassrun.train.state import State, load_data, prepare, set_numerics
from glassrun.train.workers import Workers

Tell = Callable[[dict[str, Any]], None]


def run(job: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Do step `step` of a run again, from the checkpoint `start` or from the beginning.

    Arguments:
        job: `config` (the recipe, as it is to be run), `step`, `split` (None, or the split to evaluate after the step
            instead), `start` (a checkpoint's folder, or None), `lines` (the deterministic fields of each step that
            must come out before `step`, from the first that is repeated on), `save` (None, or a folder to put a
            checkpoint of the step before into), `trace` (None, or a file for the operations), `path` (the run itself).

    Returns:
        `fields` of the step, `evaluation` (its line's values), `initial` (fingerprints before the first step), `state`
        (the fingerprint of all that the step starts from), `examples` (epoch, index and key of each of the batch), and
        `left` (the first step before it that did not come out as in `lines`; then the others are not there), `data`
        (the digest of the data that were there) and `notes` (how this machine differs from the recorded one).
    """
    recipe = config.validate(job["config"], "recipe")
    set_numerics(recipe.numerics)
    traced = Tracing(job["trace"])
    folder = RunFolder.open(job["path"])
    # With the other run's data or tokenizer, what this one has recorded of its own is not meant.
    own = recipe.data == folder.recipe.data
    dataset = load_data(recipe, of_run(folder.header, str(folder.path)) if own else None)
    with traced.around(None, wanted=job["start"] is None and job["step"] == 1):
        state = prepare(recipe, dataset)
    about = {
        "initial": initial_fingerprints(state, Fingerprinter()),
        "data": manifest_digest(dataset.manifest),
        "notes": numerics_notes(folder),
    }
    if job["start"]:
        checkpoints.restore(state, checkpoints.read(Path(job["start"])))
    trainer = Trainer(state, Workers())
    left = _repeat(trainer, job, tell)
    if left is not None:
        return about | {"left": left}
    if job["save"] and state.step:
        checkpoints.save(Path(job["save"]), state, chain="", metrics_digest="")
    found = _evaluation(state, job["split"], traced) if job["split"] else _step(trainer, job["step"], traced)
    traced.write()
    return about | {"left": None} | found


class Tracing:
    """Traces of several stretches, one after the other in one file; or none, where there is no file to write."""

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.traces: list[Trace] = []

    def around(self, model: Any, *, wanted: bool = True) -> AbstractContextManager[Any]:
        """A stretch of operations, named by the modules of `model`."""
        if self.path is None or not wanted:
            return nullcontext()
        self.traces.append(Trace(model))
        return self.traces[-1]

    def leave_out_ours(self) -> None:
        """Keep of the newest stretch only what code of the user's has called."""
        if self.path is not None:
            newest = self.traces[-1].operations
            newest[:] = [operation for operation in newest if not operation.line.startswith("glassrun/")]

    def write(self) -> None:
        """Put the file there."""
        if self.path is not None:
            operations.write(Path(self.path), [found for trace in self.traces for found in trace.operations])


def _repeat(trainer: Trainer, job: dict[str, Any], tell: Tell) -> int | None:
    """Train up to the step before the one in question; the first step that is not as recorded, or None."""
    last = job["step"] if job["split"] else job["step"] - 1
    for step in range(trainer.state.step + 1, last + 1):
        outcome = trainer.train_step(trainer.batches.slices(trainer.batches.examples(step)))
        tell({"event": "rerun", "step": step, "of": last})
        expected = job["lines"].get(str(step))
        if expected is not None and outcome.step.fields() != expected:
            return step
    return None


def _step(trainer: Trainer, step: int, traced: Tracing) -> dict[str, Any]:
    """The step itself."""
    state, split = trainer.state, trainer.batches.split
    examples = trainer.batches.examples(step)
    with traced.around(None):
        slices = trainer.batches.slices(examples)
    traced.leave_out_ours()
    before = _state(state, slices)
    with traced.around(state.model):
        outcome = trainer.train_step(slices)
    chosen = trainer.batches.order.batch(step, trainer.batches.size)
    keys = [[int(epoch), int(index), split.key(int(index)).hex()] for epoch, index in chosen]
    return {"fields": outcome.step.fields(), "state": before, "examples": keys, "evaluation": None}


def _evaluation(state: State, split: str, traced: Tracing) -> dict[str, Any]:
    """The evaluation after the step."""
    before = _state(state, None)
    with traced.around(state.model):
        evaluation = evaluate(state, split, Workers())
    assert evaluation is not None, "the only worker is the first"
    line = without_checksum(evaluation.encode(), "the evaluation")
    return {"fields": None, "state": before, "examples": [], "evaluation": line}


def _state(state: State, slices: Slices | None) -> dict[str, str]:
    """The fingerprint of everything that is there before the step: parameters, buffers, optimizer, batch."""
    fingerprinter = Fingerprinter()
    tensors: dict[str, Tensor] = {f"parameter {name}": p for name, p in state.model.named_parameters()}
    tensors |= {f"buffer {name}": tensor for name, tensor in state.model.named_buffers()}
    tensors |= {f"optimizer state {name}": tensor for name, tensor in state.carried().items()}
    for place, batch in zip(slices.places, slices.batches, strict=True) if slices else ():
        tensors |= {f"batch slice {place}: {name}": tensor for name, tensor in sorted(batch.items())}
    return {stored_name(name, tensor): f"{fingerprinter(tensor):016x}" for name, tensor in tensors.items()}
