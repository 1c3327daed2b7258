"""A CNN with its batch and its rate 16 times as large, with and without warmup, after as many examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf, isfinite

from endings import final_loss, held_out
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study

from glassrun.look.stored import select, spread
from glassrun.run import Run
from glassrun.show import metric_text

CLAIM = Claim(
    name="warmup_batch",
    exhibit="learning-rate-warmup",
    text="With a rate that is scaled with the batch, a large batch needs warmup more than a small one does.",
    source='Goyal et al. 2017, "Accurate, Large Minibatch SGD", sections 2.1 and 2.2',
)
BATCH, START = "batch", "start"
WARMUP, WITHOUT = "warmup", "no warmup"
LOSS, HELD_OUT_LOSS, ACCURACY, EXAMPLES = "final training loss", "held-out loss", "accuracy", "examples"
SMALL, TIMES = 16, 16
RATE = 0.02  # of the small batch
STEPS = 68  # of the large batch
SHARE = 3  # a third of the steps warms up


def trial(batch: int, start: str) -> Trial:
    times = batch // SMALL
    steps = STEPS * TIMES // times
    overrides = {
        "model": {"kind": "cnn", "channels": [16, 32], "convolutions": 2, "hidden": 64, "dropout": 0.0},
        "optimizer": {"kind": "sgd", "lr": RATE * times, "momentum": 0.9},
        "schedule": {"kind": "warmup-cosine", "warmup_steps": steps // SHARE if start == WARMUP else 0},
        # Batch norm is over a slice: of so many examples in the large batch, too (Goyal et al., section 2.3).
        "batch": {"size": batch, "shards": times},
        "train.steps": steps,
        "record.update_norm": True,
    }
    return Trial({BATCH: batch, START: start}, "digits-cnn", overrides)


def measure(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:  # noqa: ARG001
    assert run is not None, "every trial trains"
    moves = [line.update_norm for line in run.ledger if line.update_norm is not None and isfinite(line.update_norm)]
    yield (
        {},
        {
            LOSS: final_loss(run),
            HELD_OUT_LOSS: held_out(run, "loss"),
            ACCURACY: held_out(run, "accuracy"),
            EXAMPLES: float(run.recipe.train.steps * run.recipe.batch.size),
            "longest update": max(moves, default=None),
        },
    )


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """At the large batch every seed has a lower held-out loss with warmup, and gains more by it than at the small one.

    Both batches must have seen as many examples. A run that stopped, as its loss was not finite, is worse than any that
    did not.
    """
    batches = sorted({int(found.setting[BATCH]) for found in measurements})
    small, large = batches[0], batches[-1]
    seen = sorted({int(found) for found in select(measurements, EXAMPLES, {}) if found is not None})
    if len(seen) != 1:
        return Verdict(False, f"the runs cannot be compared: they saw {' or '.join(map(str, seen))} examples")
    gains = {batch: _gains(measurements, batch) for batch in batches}
    every = all(gain > 0 for gain in gains[large])
    more = all(at_large > at_small for at_large, at_small in zip(gains[large], gains[small], strict=True))
    better = {batch: f"{sum(gain > 0 for gain in found)} of {len(found)} seeds" for batch, found in gains.items()}
    ends = "; ".join(
        f"batch {batch} {_end(measurements, batch, WITHOUT)}, with warmup {_end(measurements, batch, WARMUP)}"
        for batch in batches
    )
    return Verdict(
        every and more,
        f"warmup lowers the held-out loss of {better[large]} at a batch of {large}, of {better[small]} at {small}, and "
        f"{'always' if more else 'not always'} by more at {large}. Held-out loss after {seen[0]} examples: {ends}",
    )


def _gains(measurements: Sequence[Measurement], batch: int) -> list[float]:
    """By how much warmup lowers each seed's held-out loss; zero where neither run has one."""
    without, warm = (select(measurements, HELD_OUT_LOSS, {BATCH: batch, START: start}) for start in (WITHOUT, WARMUP))
    pairs = [(inf if a is None else a, inf if b is None else b) for a, b in zip(without, warm, strict=True)]
    return [0.0 if a == b else a - b for a, b in pairs]


def _end(measurements: Sequence[Measurement], batch: int, start: str) -> str:
    values = select(measurements, HELD_OUT_LOSS, {BATCH: batch, START: start})
    found, stopped = spread(values), sum(value is None for value in values)
    parts = [f"{found.mean:.3g} ({found.least:.3g} to {found.greatest:.3g})"] if found else []
    accuracy = spread(select(measurements, ACCURACY, {BATCH: batch, START: start}))
    if accuracy:
        least, greatest = (metric_text("accuracy", value) for value in (accuracy.least, accuracy.greatest))
        parts.append(f"accuracy {least} to {greatest}")
    return ", ".join(parts + ([f"{stopped} of {len(values)} stopped"] if stopped else []))


if __name__ == "__main__":
    run_study(
        CLAIM,
        [trial(batch, start) for batch in (SMALL, SMALL * TIMES) for start in (WITHOUT, WARMUP)],
        measure,
        judge,
        [
            Panel(HELD_OUT_LOSS, BATCH, START, log_x=True, log_y=True),
            Panel(ACCURACY, BATCH, START, log_x=True, percent=True),
            Panel(LOSS, BATCH, START, log_x=True, log_y=True),
        ],
        seeds=(1, 2, 3, 4, 5),
        trained=f"A CNN with batch norm on the handwritten digits, {STEPS * TIMES * SMALL:,} examples by SGD with "
        f"momentum 0.9: batches of {SMALL} at a rate of {RATE:g}, and of {SMALL * TIMES} at {RATE * TIMES:g}",
    )
