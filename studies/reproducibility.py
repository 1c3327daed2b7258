"""Runs that draw their seed beside runs of one seed: whose histories are equal to the bit, and how far they part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import isfinite
from statistics import fmean

from endings import final_loss, held_out
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study

from glassrun.look.stored import select, spread
from glassrun.run import Run

CLAIM = Claim(
    name="reproducibility",
    exhibit="reproducibility",
    text="Runs of one seed have one history, to the bit, on one, two or four workers; runs that draw a seed all part, "
    "and the seed alone moves the result.",
    source='Bouthillier et al. 2021, "Accounting for Variance in Machine Learning Benchmarks", sections 2 and 3',
)
RUNS, WORKERS, STEP = "runs", "workers", "step"
DRAWN, DRAWN_SEED, OF_RUN = "seed drawn", "the drawn seed", "accuracy with it"
COPIES = 5
STEPS = 200
LOSS, HELD_OUT_LOSS, ACCURACY, CURVE = "final training loss", "held-out loss", "accuracy", "training loss"
_POINTS = 8  # of a curve


def drawn(copy: int) -> Trial:
    return Trial({WORKERS: 1}, "digits-cnn", {"train.steps": STEPS, "seed": "random"}, copy=copy)


def seeded(copy: int, workers: int) -> Trial:
    return Trial({WORKERS: workers}, "digits-cnn", {"train.steps": STEPS}, workers, copy)


def measure(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:
    assert run is not None, "every trial trains"
    level = {RUNS: DRAWN if trial.overrides.get("seed") == "random" else f"seed {seed}"}
    losses = [line.step.loss for line in run.ledger]
    yield level, {LOSS: final_loss(run), HELD_OUT_LOSS: held_out(run, "loss"), ACCURACY: held_out(run, "accuracy")}
    if level[RUNS] == DRAWN:
        yield {**level, DRAWN_SEED: str(run.recipe.seed)}, {OF_RUN: held_out(run, "accuracy")}
    ends = [len(losses) * point // _POINTS for point in range(_POINTS + 1)]
    for start, end in pairwise(sorted(set(ends))):
        mean = fmean(losses[start:end])
        yield {**level, STEP: end}, {CURVE: mean if isfinite(mean) else None}


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """All runs of a seed, on every number of workers, end with one chain, for every seed; and what was learned differs
    between seeds, also drawn ones: no two of them have one training loss at the end.

    Chains would tell nothing there: they start from the recipe, and so from the seed.
    """
    runs = [found for found in measurements if LOSS in found.values]
    names = list(dict.fromkeys(found.setting[RUNS] for found in runs))
    chains = {name: [found.chain for found in runs if found.setting[RUNS] == name] for name in names}
    of_seeds = {name: found for name, found in chains.items() if name != DRAWN}
    one = sum(len(set(found)) == 1 and "" not in found for found in of_seeds.values())
    unseeded = select(runs, LOSS, {RUNS: DRAWN})
    seeded_ends = [select(runs, LOSS, {RUNS: name})[0] for name in of_seeds]
    ends = [*unseeded, *seeded_ends]
    apart = None not in ends and len(set(ends)) == len(ends)
    workers = sorted({int(found.setting[WORKERS]) for found in runs if found.setting[RUNS] != DRAWN})
    copies = sorted({len(found) for found in of_seeds.values()})
    return Verdict(
        one == len(of_seeds) > 0 and apart,
        f"{one} of {len(of_seeds)} seeds gave one chain in all their {_words(copies)} runs, on {_words(workers)} "
        f"workers; {len(unseeded)} runs that drew their seed and one of each other seed end with "
        f"{len(set(ends))} different training losses. {_moved(runs)}",
    )


def _words(numbers: Sequence[int]) -> str:
    return " and ".join(", ".join(map(str, numbers)).rsplit(", ", 1))


def _moved(runs: Sequence[Measurement]) -> str:
    """By how much the results of the runs that drew their seed lie apart."""
    parts = []
    for name, scale, unit in ((ACCURACY, 100, " %"), (HELD_OUT_LOSS, 1, ""), (LOSS, 1, "")):
        found = spread(select(runs, name, {RUNS: DRAWN}))
        if found is not None:
            least, greatest = scale * found.least, scale * found.greatest
            parts.append(f"{name} {scale * found.mean:.4g}{unit} ({least:.4g} to {greatest:.4g})")
    return f"Those that drew it end with {', '.join(parts)}" if parts else "None that drew it has a result"


if __name__ == "__main__":
    run_study(
        CLAIM,
        [
            *(drawn(copy) for copy in range(1, COPIES + 1)),
            *(seeded(copy, 1) for copy in range(1, COPIES + 1)),
            seeded(1, 2),
            seeded(1, 4),
        ],
        measure,
        judge,
        [
            Panel(CURVE, STEP, RUNS, log_y=True),
            Panel(ACCURACY, RUNS, percent=True),
            Panel(HELD_OUT_LOSS, RUNS),
        ],
        trained=f"A CNN on the handwritten digits, {STEPS} steps; for each seed five runs of it on one worker, one on "
        "two and one on four, and five runs that drew a seed of their own",
    )
