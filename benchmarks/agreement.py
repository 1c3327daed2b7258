"""What comparing the workers after every step costs, on shakespeare-char: `python benchmarks/agreement.py TEXT`.

Two workers take the steps with and without the comparison, two and two by turns. Compared is the processor time of a
worker's step, which other programs on the machine disturb less than the time on the clock.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glassrun import config
from glassrun.train.launch import launch

STEPS, WARMUP = 800, 40
QUANTILES = (0.05, 0.1, 0.25, 0.5)


def run(job: dict[str, Any], _tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """A worker's part."""
    from glassrun.train.loop import Trainer
    from glassrun.train.state import load_data, prepare, set_numerics
    from glassrun.train.workers import Workers

    recipe = config.validate(job["config"], "recipe")
    set_numerics(recipe.numerics)
    workers = Workers.join(job["rank"], job["world_size"], job["store"])
    trainer = Trainer(prepare(recipe, load_data(recipe)), workers)
    inside: list[float] = []

    def compared(buffers: str, held: Callable[[str], list[int]] = trainer._held) -> list[int]:
        started = time.thread_time()
        found = held(buffers)
        inside.append(time.thread_time() - started)
        return found

    held = {True: compared, False: lambda _buffers: []}
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for step in range(1, STEPS + 1):
        compare = step // 2 % 2 == 0
        trainer._held = held[compare]  # type: ignore[method-assign]
        slices = trainer.batches.slices(trainer.batches.examples(step))
        started = time.thread_time()
        trainer.train_step(slices)
        if step > WARMUP:
            seconds[compare].append(time.thread_time() - started)
    return {"with": sorted(seconds[True]), "without": sorted(seconds[False]), "inside": sorted(inside)}


def main() -> None:
    """Print the quantiles of both, and of the time that is spent in the sums themselves."""
    recipe = config.load("shakespeare-char", {"data.path": sys.argv[1]})
    job = {"do": "agreement", "config": recipe.plain(), "import_path": [str(Path(__file__).parent)]}
    found = launch(job, recipe.numerics, 2, lambda _event: None)
    for quantile in QUANTILES:
        a, b = (found[which][int(len(found[which]) * quantile)] * 1e3 for which in ("with", "without"))
        inside = found["inside"][int(len(found["inside"]) * quantile)] * 1e3
        print(f"quantile {quantile:4.2f}: with {a:6.2f} ms, without {b:6.2f} ms; the sums alone {inside:5.3f} ms")


if __name__ == "__main__":
    main()
