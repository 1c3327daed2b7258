"""A CNN with its batch and its rate 16 times as large, with and without warmup, after as many examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf, isfinite

from endings import final_loss, held_out
from image_variants import loss_of_guessing
from seeing import shares
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study

from glassrun.look.stored import select, spread
from glassrun.run import Run

CLAIM = Claim(
    name="warmup_batch",
    exhibit="learning-rate-warmup",
    text="There are rates, scaled with the batch, at which a large batch needs warmup more than a small one does.",
    source='Goyal et al. 2017, "Accurate, Large Minibatch SGD", sections 2.1 and 2.2',
)
BATCH, RATE, START = "batch", "rate of the small batch", "start"
WARMUP, WITHOUT = "warmup", "no warmup"
LOSS, HELD_OUT_LOSS, ACCURACY, EXAMPLES = "final training loss", "held-out loss", "accuracy", "examples"
GUESS, LONGEST = "loss of guessing", "longest update"
SMALL, TIMES = 16, 16
RATES = (0.005, 0.02, 0.08)  # of the small batch
SHOWN_RATE = 0.02
STEPS = 68  # of the large batch
SHARE = 3  # a third of the steps warms up


def trial(batch: int, rate: float, start: str) -> Trial:
    times = batch // SMALL
    steps = STEPS * TIMES // times
    overrides = {
        "model": {"kind": "cnn", "channels": [16, 32], "convolutions": 2, "hidden": 64, "dropout": 0.0},
        "optimizer": {"kind": "sgd", "lr": rate * times, "momentum": 0.9},
        "schedule": {"kind": "warmup-cosine", "warmup_steps": steps // SHARE if start == WARMUP else 0},
        # Batch norm is over a slice: of so many examples in the large batch, too (Goyal et al., section 2.3).
        "batch": {"size": batch, "shards": times},
        "train.steps": steps,
        "record.update_norm": True,
    }
    return Trial({BATCH: batch, RATE: rate, START: start}, "digits-cnn", overrides)


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
            GUESS: loss_of_guessing(shares(run)),
            LONGEST: max(moves, default=None),
        },
    )


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """At one of the rates every seed has a lower held-out loss with warmup at the large batch, and gains more by it
    there than at the small one.

    All runs must have seen as many examples. A run fails where it stops, as its loss was not finite, or where its final
    training loss is not below that of guessing; its held-out loss then counts as worse than any of a run that did not.
    """
    batches = sorted({int(found.setting[BATCH]) for found in measurements})
    rates = sorted({float(found.setting[RATE]) for found in measurements})
    small, large = batches[0], batches[-1]
    seen = sorted({int(found) for found in select(measurements, EXAMPLES, {}) if found is not None})
    if len(seen) != 1:
        return Verdict(False, f"the runs cannot be compared: they saw {' or '.join(map(str, seen))} examples")
    needed = []
    for rate in rates:
        at_small, at_large = (_gains(measurements, {BATCH: batch, RATE: rate}) for batch in (small, large))
        if all(gain > 0 for gain in at_large) and all(a > b for a, b in zip(at_large, at_small, strict=True)):
            needed.append(f"{rate * large / small:g}")
    ends = "; ".join(
        f"rate {rate * batch / small:g} at a batch of {batch}: {_end(measurements, batch, rate, WITHOUT)}, with warmup "
        f"{_end(measurements, batch, rate, WARMUP)}"
        for rate in rates
        for batch in batches
    )
    where = f"at the rates of {', '.join(needed)} warmup lowers" if needed else "at no rate does warmup lower"
    return Verdict(
        bool(needed),
        f"{where} the held-out loss at a batch of {large} with every seed, and by more than at {small}. Held-out "
        f"loss after {seen[0]} examples: {ends}",
    )


def _failed(measurements: Sequence[Measurement], levels: Setting) -> list[bool]:
    ends, guesses = (select(measurements, value, levels) for value in (LOSS, GUESS))
    return [end is None or guess is None or end >= guess for end, guess in zip(ends, guesses, strict=True)]


def _losses(measurements: Sequence[Measurement], levels: Setting) -> list[float]:
    """The held-out loss of each seed; infinite for a run that failed."""
    found = zip(select(measurements, HELD_OUT_LOSS, levels), _failed(measurements, levels), strict=True)
    return [inf if failed or loss is None else loss for loss, failed in found]


def _gains(measurements: Sequence[Measurement], levels: Setting) -> list[float]:
    """By how much warmup lowers each seed's held-out loss; zero where both runs failed."""
    without, warm = (_losses(measurements, {**levels, START: start}) for start in (WITHOUT, WARMUP))
    return [0.0 if a == b else a - b for a, b in zip(without, warm, strict=True)]


def _end(measurements: Sequence[Measurement], batch: int, rate: float, start: str) -> str:
    levels = {BATCH: batch, RATE: rate, START: start}
    values, failed = _losses(measurements, levels), sum(_failed(measurements, levels))
    found = spread([value for value in values if value < inf])
    parts = [f"{found.mean:.3g} ({found.least:.3g} to {found.greatest:.3g})"] if found else []
    return ", ".join(parts + ([f"{failed} of {len(values)} failed"] if failed else []))


if __name__ == "__main__":
    run_study(
        CLAIM,
        [
            trial(batch, rate, start)
            for rate in RATES
            for batch in (SMALL, SMALL * TIMES)
            for start in (WITHOUT, WARMUP)
        ],
        measure,
        judge,
        [
            *(
                Panel(HELD_OUT_LOSS, RATE, START, {BATCH: batch}, f"batch {batch}", log_x=True, log_y=True)
                for batch in (SMALL, SMALL * TIMES)
            ),
            Panel(ACCURACY, BATCH, START, {RATE: SHOWN_RATE}, f"rate {SHOWN_RATE:g}", log_x=True, percent=True),
            Panel(LONGEST, BATCH, START, {RATE: SHOWN_RATE}, f"rate {SHOWN_RATE:g}", log_x=True, log_y=True),
        ],
        seeds=(1, 2, 3, 4, 5),
        trained=f"A CNN with batch norm on the handwritten digits, {STEPS * TIMES * SMALL:,} examples by SGD with "
        f"momentum 0.9: batches of {SMALL} and of {SMALL * TIMES}, at rates of "
        f"{', '.join(f'{rate:g}' for rate in RATES)} and of {TIMES} times as much; warmup over a third of the steps or "
        f"none, then half a cosine; batch norm over slices of {SMALL}",
    )
