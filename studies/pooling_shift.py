"""Predictions for an image and for the image shifted by a few pixels, with poolings and with strides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paired import all_above, differences, told
from seeing import held_out_images, logits
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study

from glassrun.look.sharing_study import moved
from glassrun.look.stored import select
from glassrun.run import Run

CLAIM = Claim(
    name="pooling_shift",
    exhibit="feature-map",
    text="A network that pools keeps its prediction more often when an image is shifted by one to three pixels than "
    "one that makes its maps smaller by strides.",
    source="Goodfellow et al. 2016, section 9.3; doubted by Azulay & Weiss 2019, and for what poolings skip by Zhang "
    "2019, section 3",
)
WAYS = ("max pooling", "average pooling", "stride")
DISTANCES = (1, 2, 3)
WAY, DISTANCE = "maps become smaller by", "pixels of shift"
AGREEMENT, ACCURACY = "same prediction", "accuracy"
ANY = "any"


def trial(way: str) -> Trial:
    # A margin as wide as the farthest shift: no part of an image is lost, and background comes in.
    model = {"import": "image_variants:shrinking_cnn", "shrink": way, "channels": [8, 16], "margin": max(DISTANCES)}
    return Trial({WAY: way}, "digits-cnn", {"model": model, "train.steps": 300, "batch.shards": 1})


def measure(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:  # noqa: ARG001
    assert run is not None, "every trial trains"
    if run.status != "complete":
        yield {DISTANCE: ANY}, {AGREEMENT: None, ACCURACY: None}
        return
    images, labels = held_out_images(run)
    framed = run.model.framed(images)
    still = logits(run.model, framed, run.model.of_framed).argmax(-1)
    agreements = []
    for distance in DISTANCES:
        shifts = ((distance, 0), (-distance, 0), (0, distance), (0, -distance))
        found = [logits(run.model, moved(framed, *shift), run.model.of_framed).argmax(-1) for shift in shifts]
        agreements.append(sum(float((after == still).double().mean()) for after in found) / len(found))
        right = sum(float((after == labels).double().mean()) for after in found) / len(found)
        yield {DISTANCE: distance}, {AGREEMENT: agreements[-1], ACCURACY: right}
    accuracy = float((still == labels).double().mean())
    yield {DISTANCE: 0}, {ACCURACY: accuracy}
    yield {DISTANCE: ANY}, {AGREEMENT: sum(agreements) / len(agreements), ACCURACY: accuracy}


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """Supported where both poolings agree more than the stride in every seed, over all shifts together.

    Accuracies decide nothing: a network that is always wrong in the same way agrees with itself.
    """
    stride = {WAY: "stride", DISTANCE: ANY}
    leads = {
        way: differences(measurements, AGREEMENT, {WAY: way, DISTANCE: ANY}, stride) for way in WAYS if way != "stride"
    }
    words = ", ".join(f"{told(values, scale=100)} with {way}" for way, values in leads.items())
    agreements = ", ".join(
        f"{told(select(measurements, AGREEMENT, {WAY: way, DISTANCE: ANY}), scale=100)} % with {way}" for way in WAYS
    )
    accuracies = ", ".join(
        f"{told(select(measurements, ACCURACY, {WAY: way, DISTANCE: ANY}), scale=100)} %" for way in WAYS
    )
    return Verdict(
        all(all_above(values) for values in leads.values()),
        f"over all shifts the prediction stays for {agreements}; points more than with the stride of the same seed: "
        f"{words}; accuracy without a shift {accuracies} in this order",
    )


if __name__ == "__main__":
    run_study(
        CLAIM,
        [trial(way) for way in WAYS],
        measure,
        judge,
        [Panel(AGREEMENT, DISTANCE, WAY, percent=True), Panel(ACCURACY, DISTANCE, WAY, percent=True)],
        trained="Two blocks of two convolutions, 8 and 16 maps, and a linear classifier, on the digits with a margin "
        "of 3 pixels, 300 steps; with a stride the second convolution of a block has it; all have as many parameters",
    )
