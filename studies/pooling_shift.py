"""Predictions for an image and for the image shifted by a few pixels, with poolings and with strides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from leads import ahead, all_above, by_seed, minus, told
from seeing import held_out_images, logits
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study
from torch import Tensor

from glassrun.look.sharing_study import moved
from glassrun.look.stored import select
from glassrun.run import Run

CLAIM = Claim(
    name="pooling_shift",
    exhibit="feature-map",
    text="A network that pools keeps its prediction more often when an image is shifted by one to three pixels, and is "
    "right more often then, than one that makes its maps smaller by strides.",
    source="Goodfellow et al. 2016, section 9.3; doubted by Azulay & Weiss 2019, and for what poolings skip by Zhang "
    "2019, section 3",
)
WAYS = ("max pooling", "average pooling", "stride")
DISTANCES = (1, 2, 3)
WAY, DISTANCE = "maps become smaller by", "pixels of shift"
AGREEMENT, ACCURACY = "same prediction", "accuracy"


def trial(way: str) -> Trial:
    # A margin as wide as the farthest shift: no part of an image is lost, and background comes in.
    model = {"import": "image_variants:shrinking_cnn", "shrink": way, "channels": [8, 16], "margin": max(DISTANCES)}
    return Trial({WAY: way}, "digits-cnn", {"model": model, "train.steps": 300, "batch.shards": 1})


def measure(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:  # noqa: ARG001
    assert run is not None, "every trial trains"
    if run.status != "complete":
        yield {DISTANCE: 0}, {ACCURACY: None}
        yield from (({DISTANCE: distance}, {AGREEMENT: None, ACCURACY: None}) for distance in DISTANCES)
        return
    images, labels = held_out_images(run)
    framed = run.model.framed(images)
    still = logits(run.model, framed, run.model.of_framed).argmax(-1)
    yield {DISTANCE: 0}, {ACCURACY: _share(still == labels)}
    for distance in DISTANCES:
        shifts = ((distance, 0), (-distance, 0), (0, distance), (0, -distance))
        found = torch.stack([logits(run.model, moved(framed, *by), run.model.of_framed).argmax(-1) for by in shifts])
        yield {DISTANCE: distance}, {AGREEMENT: _share(found == still), ACCURACY: _share(found == labels)}


def _share(right: Tensor) -> float:
    return float(right.double().mean())


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """Supported where with every seed both poolings agree more, and are more accurate, on shifted images than the
    stride, in the mean over the three distances.

    The second is asked for because a network that is always wrong in the same way agrees with itself.
    """
    agreements = {way: _over_distances(measurements, way, AGREEMENT) for way in WAYS}
    shifted = {way: _over_distances(measurements, way, ACCURACY) for way in WAYS}
    leads, accurate = (
        {
            way: [minus(a, b) for a, b in zip(values, found["stride"], strict=True)]
            for way, values in found.items()
            if way != "stride"
        }
        for found in (agreements, shifted)
    )
    stays = ", ".join(f"{told(values, scale=100)} % with {way}" for way, values in agreements.items())
    words, more = (
        ", ".join(f"{ahead(values, scale=100)} with {way}" for way, values in found.items())
        for found in (leads, accurate)
    )
    accuracies = ", ".join(
        f"{told(select(measurements, ACCURACY, {WAY: way, DISTANCE: 0}), scale=100)} %" for way in WAYS
    )
    return Verdict(
        all(all_above(values) for values in [*leads.values(), *accurate.values()]),
        f"over all shifts the prediction stays for {stays}; points more than with the stride of the same seed: "
        f"{words}, and points of accuracy on shifted images {more}; accuracy without a shift {accuracies} in this "
        "order",
    )


def _over_distances(measurements: Sequence[Measurement], way: str, value: str) -> list[float | None]:
    """Of each seed the mean over the distances; None where one is missing."""
    found = [by_seed(measurements, value, {WAY: way, DISTANCE: distance}) for distance in DISTANCES]
    means: list[float | None] = []
    for seed in found[0]:
        values = [value for at in found if (value := at[seed]) is not None]
        means.append(sum(values) / len(values) if len(values) == len(found) else None)
    return means


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
