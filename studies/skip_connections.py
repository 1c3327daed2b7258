"""Deep networks with and without skip connections: does more depth train worse?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from endings import final_loss, held_out
from leads import ahead, all_above, by_seed, differences, minus, told, up
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study

from glassrun.run import Run

CLAIM = Claim(
    name="skip_connections",
    exhibit="cnn-architecture",
    text="Without skip connections a deeper network reaches a worse training loss; with them depth costs less, and "
    "the deepest network trains better than without.",
    source='He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2 and figure 6',
)
SKIPS = {"skip connections": True, "none": False}
DEPTHS = (8, 20, 56)
SKIP, DEPTH = "beside two convolutions", "layers"
LOSS, HELD_LOSS, ACCURACY = "training loss at the end", "held-out loss", "held-out accuracy"


def trial(skip: str, depth: int) -> Trial:
    blocks = (depth - 2) // 6  # in each of three stages: two layers a block, a stem, a classifier
    model = {
        "import": "image_variants:resnet",
        "skips": SKIPS[skip],
        "stem_channels": 8,
        "channels": [8, 16, 32],
        "blocks": [blocks] * 3,
    }
    overrides = {
        "model": model,
        "optimizer": {"kind": "sgd", "lr": 0.1},
        "schedule.warmup_steps": 20,
        "batch.shards": 1,
        "train.steps": 200,
    }
    return Trial({SKIP: skip, DEPTH: depth}, "digits-cnn", overrides)


def measure(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:  # noqa: ARG001
    assert run is not None, "every trial trains"
    yield {}, {LOSS: final_loss(run), HELD_LOSS: held_out(run, "loss"), ACCURACY: held_out(run, "accuracy")}


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """Supported where three things hold in every seed, of the training loss over the last 20 steps.

    Without skip connections the deepest network's is higher than the shallowest's; this cost of depth is larger than
    with skip connections; and of the two deepest networks the one with them has the lower loss. That of a run
    that diverged is infinite.
    """
    depths = sorted({float(found.setting[DEPTH]) for found in measurements})
    (with_skips, without), (low, high) = SKIPS, (depths[0], depths[-1])
    cost = {
        skip: differences(measurements, LOSS, {SKIP: skip, DEPTH: high}, {SKIP: skip, DEPTH: low}, missing=inf)
        for skip in SKIPS
    }
    less = [minus(a, b) for a, b in zip(cost[without], cost[with_skips], strict=True)]
    deepest = differences(
        measurements, LOSS, {SKIP: without, DEPTH: high}, {SKIP: with_skips, DEPTH: high}, missing=inf
    )
    accuracies = (
        list(by_seed(measurements, ACCURACY, {SKIP: skip, DEPTH: high}).values()) for skip in (with_skips, without)
    )
    words = " and ".join(f"{told(values, scale=100)} %" for values in accuracies)
    return Verdict(
        all_above(cost[without]) and all_above(less) and all_above(deepest),
        f"from {low:g} to {high:g} layers the training loss rises by {ahead(cost[without])} without skip connections "
        f"and by {told(cost[with_skips], rounded=up)} with them (below zero, it falls); at {high:g} layers it "
        f"is higher by {ahead(deepest)} without; held-out accuracy there: {words}, with and without",
    )


if __name__ == "__main__":
    run_study(
        CLAIM,
        [trial(skip, depth) for depth in DEPTHS for skip in SKIPS],
        measure,
        judge,
        [
            Panel(LOSS, DEPTH, SKIP, log_y=True),
            Panel(ACCURACY, DEPTH, SKIP, percent=True),
        ],
        trained="Residual networks with 8, 16 and 32 maps and batch norm, and the same without the shortcuts, on the "
        "digits, 200 steps of SGD",
    )
