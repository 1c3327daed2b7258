"""Up to which learning rate a network trains, with and without batch norm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from endings import final_loss
from image_variants import loss_of_guessing
from seeing import shares
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study

from glassrun.look.stored import spread
from glassrun.run import Run

CLAIM = Claim(
    name="batch_norm_rate",
    exhibit="cnn-architecture",
    text="With batch norm a network trains at higher learning rates than without.",
    source='Ioffe & Szegedy 2015, section 3.3; Santurkar et al. 2018, "How Does Batch Normalization Help '
    'Optimization?", section 3',
)
NORMS = {"batch norm": True, "no norm": False}
RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
NORM, RATE = "norm", "learning rate"
END, GUESS, SHARE = "training loss at the end", "loss of guessing", "loss as a share of guessing"
BOUND = 0.9  # of the loss of guessing


def trial(norm: str, rate: float) -> Trial:
    model = {
        "import": "image_variants:plain_cnn",
        "batch_norm": NORMS[norm],
        "channels": [16, 16, 32, 32],
        "strides": [1, 1, 2, 1],
    }
    overrides = {
        "model": model,
        "optimizer": {"kind": "sgd", "lr": rate},
        "schedule": {"kind": "constant"},
        "batch.shards": 1,
        "train.steps": 100,
    }
    return Trial({NORM: norm, RATE: rate}, "digits-cnn", overrides)


def measure(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:  # noqa: ARG001
    assert run is not None, "every trial trains"
    end, guess = final_loss(run), loss_of_guessing(shares(run))
    yield {}, {SHARE: None if end is None else end / guess, END: end, GUESS: guess}


def highest_stable(found: Sequence[tuple[float, float | None]]) -> float | None:
    """The last rate before the first that is not stable, counted from the lowest that is; None where none is.

    A run is stable if it stayed finite and its loss over the last 20 steps is under 0.9 of that of guessing
    by the shares of the classes. (A network whose units have all died guesses.) Rates so low that the steps were too
    few to get there come before the lowest stable one.

    >>> highest_stable([(0.01, 0.95), (0.1, 0.2), (1.0, 0.3), (10.0, None), (100.0, 0.8)])
    1.0

    Arguments:
        found: learning rate, and loss as a share of the loss of guessing.
    """
    highest = None
    for rate, share in sorted(found, key=lambda pair: pair[0]):
        if share is not None and share < BOUND:
            highest = rate
        elif highest is not None:
            break
    return highest


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """Supported where the highest stable rate (see `highest_stable`) is higher with batch norm in every seed."""
    seeds = list(dict.fromkeys(found.seed for found in measurements))
    rates = sorted({float(found.setting[RATE]) for found in measurements})
    top = rates[-1]
    highest: dict[str, list[float | None]] = {
        norm: [
            highest_stable(
                [
                    (float(found.setting[RATE]), found.values[SHARE])
                    for found in measurements
                    if found.seed == seed and found.setting[NORM] == norm
                ]
            )
            for seed in seeds
        ]
        for norm in NORMS
    }
    pairs = list(zip(highest["batch norm"], highest["no norm"], strict=True))
    higher = [a is not None and (b is None or a > b) for a, b in pairs]
    words = ", ".join(_told(norm, values, top) for norm, values in highest.items())
    return Verdict(
        all(higher),
        f"of {len(rates)} rates from {rates[0]:g} to {top:g}, the highest stable one, at which the training loss ends "
        f"under {BOUND:g} of that of guessing, is {words}; it is higher with batch norm in {sum(higher)} of "
        f"{len(seeds)} seeds",
    )


def _told(norm: str, values: Sequence[float | None], top: float) -> str:
    over = spread(values)
    reached = sum(value == top for value in values)
    if over is None:
        return f"none of those tried with {norm}"
    more = f", where {reached} of {len(values)} seeds end because no higher one was tried" if reached else ""
    without = sum(value is None for value in values)
    lost = f", {without} of {len(values)} seeds stable at none" if without else ""
    least, greatest = f"{over.least:g}", f"{over.greatest:g}"
    return (least if least == greatest else f"{least} to {greatest}") + f" with {norm}{more}{lost}"


if __name__ == "__main__":
    run_study(
        CLAIM,
        [trial(norm, rate) for norm in NORMS for rate in RATES],
        measure,
        judge,
        [Panel(SHARE, RATE, NORM, log_x=True, log_y=True)],
        trained="Four convolutions of 16 to 32 maps and a linear classifier, on the digits, 100 steps of SGD with "
        "momentum 0.9 at a constant rate",
    )
