"""The verdicts of the studies of image networks: they follow from the numbers, and say no where these do not carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import batch_norm_rate
import batch_norm_slices
import dropout_gap
import parameter_sharing
import pooling_shift
import pytest
import skip_connections
from study import Judge

from glassrun.look.stored import Measurement, Setting

Row = tuple[Setting, Mapping[str, Sequence[float | None]]]


def measured(rows: Sequence[Row]) -> list[Measurement]:
    """Of each setting and value a number for every seed, from 1 on."""
    return [
        Measurement(setting, seed + 1, {name: numbers[seed] for name, numbers in values.items()})
        for setting, values in rows
        for seed in range(len(next(iter(values.values()))))
    ]


def shifts(constant: str | None = None, **agreements: Sequence[float | None]) -> list[Measurement]:
    """Agreements in the mean over the distances: that of the shortest is a tenth higher, of the longest lower.

    They are accuracies as well, but of a network that says the same of every image.
    """
    m = pooling_shift
    rows: list[Row] = []
    for name, values in agreements.items():
        way = name.replace("_", " ")
        rows.append(({m.WAY: way, m.DISTANCE: 0}, {m.ACCURACY: [0.9] * len(values)}))
        for distance, more in zip(m.DISTANCES, (0.1, 0.0, -0.1), strict=True):
            found = [None if value is None else value + more for value in values]
            right = [0.1] * len(values) if way == constant else found
            rows.append(({m.WAY: way, m.DISTANCE: distance}, {m.AGREEMENT: found, m.ACCURACY: right}))
    return measured(rows)


def gaps(
    none: Sequence[float | None],
    half: Sequence[float | None],
    accuracy: Sequence[float | None],
    loss: Sequence[float | None] = (0.1, 0.1),
) -> list[Measurement]:
    """Gaps in loss without dropout and with a half; with a half, gaps in accuracy and held-out losses, where without it
    both are 0.1."""
    m = dropout_gap
    same = [0.1] * len(none)
    return measured(
        [
            ({m.SHARE: 0.0}, {m.LOSS_GAP: none, m.ACCURACY_GAP: same, m.LOSS: same}),
            ({m.SHARE: 0.5}, {m.LOSS_GAP: half, m.ACCURACY_GAP: accuracy, m.LOSS: loss}),
        ]
    )


def rates(with_norm: Sequence[Sequence[float | None]], without: Sequence[Sequence[float | None]]) -> list[Measurement]:
    """Of each seed its losses as shares of guessing, at the rates 0.1, 1 and 10."""
    m = batch_norm_rate
    return measured(
        [
            ({m.NORM: norm, m.RATE: rate}, {m.SHARE: [seed[place] for seed in seeds]})
            for norm, seeds in (("batch norm", with_norm), ("no norm", without))
            for place, rate in enumerate((0.1, 1.0, 10.0))
        ]
    )


def slices(small: Sequence[float | None], control: Sequence[float | None]) -> list[Measurement]:
    """Held-out losses with 2 examples in a slice, of batch norm and group norm; with 64 they are 0.1."""
    m = batch_norm_slices
    large = [0.1] * len(small)
    return measured(
        [
            ({m.NORM: norm, m.SLICE: size}, {m.LOSS: values, m.ACCURACY: large})
            for norm, found in (("batch norm", small), ("group norm", control))
            for size, values in ((2, found), (64, large))
        ]
    )


def depths(
    skips: tuple[Sequence[float | None], Sequence[float | None]],
    none: tuple[Sequence[float | None], Sequence[float | None]],
) -> list[Measurement]:
    """Training losses of 8 and of 56 layers."""
    m = skip_connections
    return measured(
        [
            ({m.SKIP: skip, m.DEPTH: depth}, {m.LOSS: values, m.ACCURACY: values})
            for skip, pair in (("skip connections", skips), ("none", none))
            for depth, values in zip((8, 56), pair, strict=True)
        ]
    )


def sharing(few: Sequence[Sequence[float | None]], many: Sequence[Sequence[float | None]]) -> list[Measurement]:
    """Accuracies of the three kinds of layers with 100 and with 1,000 images."""
    m = parameter_sharing
    return measured(
        [
            ({m.LAYERS: kind, m.SIZE: size}, {m.ACCURACY: values, m.MOVED: values, m.GAP: values})
            for size, kinds in ((100, few), (1000, many))
            for kind, values in zip(m.KINDS, kinds, strict=True)
        ]
    )


CASES: Mapping[str, tuple[Judge, Callable[[], list[Measurement]], bool, str]] = {
    "both poolings lead": (
        pooling_shift.judge,
        lambda: shifts(max_pooling=[0.7, 0.8], average_pooling=[0.75, 0.7], stride=[0.5, 0.6]),
        True,
        "20 (20 to 20) with max pooling, 17.5 (10 to 25) with average pooling",
    ),
    "one pooling is behind with one seed": (
        pooling_shift.judge,
        lambda: shifts(max_pooling=[0.7, 0.59], average_pooling=[0.75, 0.7], stride=[0.5, 0.6]),
        False,
        "9.5 (-1 to 20) with max pooling",
    ),
    "a pooling says the same of all": (
        pooling_shift.judge,
        lambda: shifts("max pooling", max_pooling=[1.0, 1.0], average_pooling=[0.75, 0.7], stride=[0.5, 0.6]),
        False,
        "points of accuracy on shifted images -45 (-50 to -40) with max pooling",
    ),
    "a pooling diverged": (
        pooling_shift.judge,
        lambda: shifts(max_pooling=[0.7, None], average_pooling=[0.75, 0.7], stride=[0.5, 0.6]),
        False,
        "1 of 2 seeds without a number",
    ),
    "dropout narrows": (
        dropout_gap.judge,
        lambda: gaps([0.3, 0.2], [0.1, 0.15], [0.05, 0.11]),
        True,
        "narrower by 0.125 (0.05 to 0.2) in the same seed, that in accuracy by 2 (-1 to 5) points",
    ),
    "in loss alone": (dropout_gap.judge, lambda: gaps([0.3, 0.2], [0.1, 0.15], [0.12, 0.1]), True, "by -1 (-2 to 0)"),
    "narrower, as nothing is learned": (
        dropout_gap.judge,
        lambda: gaps([0.3, 0.2], [0.0, 0.0], [0.0, 0.0], [2.3, 2.3]),
        False,
        "the held-out loss is lower by -2.2 (-2.2 to -2.2)",
    ),
    "not with every seed": (dropout_gap.judge, lambda: gaps([0.3, 0.1], [0.1, 0.15], [0.05, 0.05]), False, "-0.05 to"),
    "without dropout diverged": (dropout_gap.judge, lambda: gaps([None], [0.1], [None]), False, "without a number"),
    "higher rates": (
        batch_norm_rate.judge,
        lambda: rates([[0.2, 0.3, None], [0.2, 0.3, 1.2]], [[0.1, 1.0, 1.0], [0.1, None, None]]),
        True,
        "1 with batch norm, 0.1 with no norm; it is higher with batch norm in 2 of 2 seeds",
    ),
    "higher with one seed of two": (
        batch_norm_rate.judge,
        lambda: rates([[0.2, 0.3, None], [0.2, 1.0, 1.2]], [[0.1, 1.0, 1.0], [0.1, None, None]]),
        False,
        "0.1 to 1 with batch norm, 0.1 with no norm; it is higher with batch norm in 1 of 2 seeds",
    ),
    "both at the end of the grid": (
        batch_norm_rate.judge,
        lambda: rates([[0.2, 0.3, 0.4]], [[0.2, 0.3, 0.4]]),
        False,
        "where 1 of 1 seeds end because no higher one was tried",
    ),
    "no rate is stable": (
        batch_norm_rate.judge,
        lambda: rates([[None, None, None]], [[None, None, None]]),
        False,
        "none of those tried with batch norm",
    ),
    "small slices cost": (
        batch_norm_slices.judge,
        lambda: slices([0.15, 0.2], [0.101, 0.1]),
        True,
        "higher by 0.075 (0.05 to 0.1) at 2, group norm's by 0.0005 (0 to 0.001) at 2",
    ),
    "no more than chance": (batch_norm_slices.judge, lambda: slices([0.11, 0.12], [0.1, 0.07]), False, "-0.03 to"),
    "less with one seed": (batch_norm_slices.judge, lambda: slices([0.3, 0.09], [0.1, 0.1]), False, "-0.01 to"),
    "group norm diverged": (batch_norm_slices.judge, lambda: slices([0.3], [None]), False, "inf"),
    "small slices diverged": (batch_norm_slices.judge, lambda: slices([0.3, None], [0.1, 0.1]), True, "(0.2 to inf)"),
    "depth costs without": (
        skip_connections.judge,
        lambda: depths(([0.01, 0.02], [0.02, 0.01]), ([0.01, 0.02], [0.5, 0.1])),
        True,
        "rises by 0.285 (0.08 to 0.49) without skip connections and by 0 (-0.01 to 0.01) with them",
    ),
    "depth costs as much with": (
        skip_connections.judge,
        lambda: depths(([0.01, 0.02], [0.02, 0.2]), ([0.01, 0.02], [0.5, 0.1])),
        False,
        "higher by 0.19 (-0.1 to 0.48) without",
    ),
    "depth costs nothing": (skip_connections.judge, lambda: depths(([0.1], [0.05]), ([0.1], [0.08])), False, "-0.02"),
    "the deepest diverged": (
        skip_connections.judge,
        lambda: depths(([0.1, 0.1], [0.05, 0.05]), ([0.1, 0.1], [None, 0.4])),
        True,
        "rises by inf (0.3 to inf) without",
    ),
    "the deepest diverged either way": (
        skip_connections.judge,
        lambda: depths(([0.1], [None]), ([0.1], [None])),
        False,
        "higher by no number",
    ),
    "sharing leads": (
        parameter_sharing.judge,
        lambda: sharing([[0.9, 0.9], [0.8, 0.85], [0.7, 0.7]], [[0.9, 0.9], [0.95, 0.9], [0.9, 0.9]]),
        True,
        "with 100 images the convolution leads by 7.5 (5 to 10) over locally connected and 20 (20 to 20) over fully",
    ),
    "one kind is as good": (
        parameter_sharing.judge,
        lambda: sharing([[0.9, 0.9], [0.8, 0.9], [0.7, 0.7]], [[0.9, 0.9], [0.5, 0.5], [0.5, 0.5]]),
        False,
        "5 (0 to 10) over locally connected",
    ),
    "sharing diverged": (
        parameter_sharing.judge,
        lambda: sharing([[None], [0.8], [0.7]], [[0.9], [0.8], [0.7]]),
        False,
        "no number",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_verdicts_follow_from_the_numbers(case: str) -> None:
    judge, rows, supported, text = CASES[case]
    verdict = judge(rows())
    assert verdict.supported is supported, verdict.text
    assert text in verdict.text


def test_the_highest_stable_rate_is_the_last_before_one_that_is_not() -> None:
    highest = batch_norm_rate.highest_stable
    assert highest([(1.0, 0.5), (0.1, 0.5), (10.0, 0.89)]) == 10.0
    assert highest([(0.1, 0.95), (1.0, 0.5), (10.0, 0.9), (30.0, 0.1)]) == 1.0, "too slow, stable, guessing, luck"
    assert highest([(0.1, None), (1.0, 1.0)]) is None


def test_every_trial_is_a_recipe_of_its_own() -> None:
    from glassrun import config

    trials = [
        *(pooling_shift.trial(way) for way in pooling_shift.WAYS),
        *(dropout_gap.trial(share) for share in dropout_gap.SHARES),
        *(batch_norm_rate.trial(norm, rate) for norm in batch_norm_rate.NORMS for rate in batch_norm_rate.RATES),
        *(batch_norm_slices.trial(norm, n) for norm in batch_norm_slices.NORMS for n in batch_norm_slices.SHARDS),
        *(skip_connections.trial(skip, d) for skip in skip_connections.SKIPS for d in skip_connections.DEPTHS),
        *(parameter_sharing.trial(kind, None) for kind in parameter_sharing.KINDS),
    ]
    digests = [config.load(trial.recipe or {}, trial.overrides).digest() for trial in trials]
    assert len(set(digests)) == len(digests)
