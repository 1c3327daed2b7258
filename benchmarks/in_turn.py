"""A worker's part in a measurement: each step twice, recorded and not, in an order that changes. For `recording.py`."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unrecorded import Unrecorded

from glassrun import config
from glassrun.record.run_folder import RunFolder
from glassrun.train import writer
from glassrun.train.journal import Silent, Writing
from glassrun.train.loop import Trainer
from glassrun.train.state import load_data, prepare, set_numerics
from glassrun.train.workers import Workers

WARM_UP = 5


def run(job: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Returns the medians over rank 0's steps of its processor time and of the time on the clock, and the differences.

    Both kinds of step wait for the other worker, so on a busy machine the clock tells little; waiting takes no
    processor time.
    """
    del tell
    recipe = config.validate(job["config"], "recipe")
    set_numerics(recipe.numerics)
    state = prepare(recipe, load_data(recipe))
    workers = Workers.join(job["rank"], job["world_size"], job["store"])
    recorded, unrecorded = Trainer(state, workers), Unrecorded(state, workers)
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as scratch:
        journal: Silent | Writing = Silent()
        if not job["rank"]:
            folder = RunFolder.create(Path(scratch) / "run", recipe, [])
            start = writer._begin(folder, state, {"world_size": workers.world_size}, lambda _: None)
            journal = Writing(folder, recorded.ledger_names, start, lambda _: None)
        steps = range(1, job["steps"] + 2)
        batches = {on: trainer.batches.each(steps, 0) for on, trainer in ((True, recorded), (False, unrecorded))}
        coming = {on: next(made) for on, made in batches.items()}
        for step in steps[:-1]:
            for on in (step % 2 == 0, step % 2 == 1):
                begun = time.process_time(), time.perf_counter()
                slices, coming[on] = coming[on], next(batches[on])
                outcome = (recorded if on else unrecorded).train_step(slices, coming[on])
                if on:
                    journal.step(outcome)
                found[on].append((time.process_time() - begun[0], time.perf_counter() - begun[1]))
        if isinstance(journal, Writing):
            journal.close()
    workers.leave()
    result = {}
    for place, name in enumerate(("processor", "clock")):
        on, off = ([step[place] for step in found[kind][WARM_UP:]] for kind in (True, False))
        own, rest = statistics.median(a - b for a, b in zip(on, off, strict=True)), statistics.median(off)
        result[name] = {
            "recording_ms": round(1000 * own, 2),
            "step_without_ms": round(1000 * rest, 2),
            "percent": round(100 * own / rest, 2),
        }
    return result
