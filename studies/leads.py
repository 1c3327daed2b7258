"""One setting against another, seed by seed, for the verdicts of studies; and how that is put into words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from glassrun.look.stored import Measurement, Setting, spread


@dataclass(frozen=True)
class Lead:
    """By how much one setting is ahead of another with each seed.

    Arguments:
        by: seed to lead; None where one of the two has no number, as the loss of a run that diverged.
    """

    by: Mapping[int, float | None]

    @property
    def always(self) -> bool:
        """With every seed; one without a number is no lead."""
        return all_above(list(self.by.values()))

    def less(self, other: Lead) -> Lead:
        """This lead less another, seed by seed."""
        return Lead(_less(self.by, other.by))

    def __str__(self) -> str:
        """The mean and between what the seeds lie, rounded down, so that no lead looks larger than it is."""
        return ahead(list(self.by.values()))


def lead(
    measurements: Sequence[Measurement],
    value: str,
    first: Setting,
    second: Setting,
    *,
    scale: float = 1.0,
    missing: float | None = None,
) -> Lead:
    """scale · (value under the first setting − value under the second), paired by seed.

    Arguments:
        scale: −1 where less is better.
        missing: what stands for a value that is no number: ∞ for the loss of a run that diverged. Of two that are
            infinite none is ahead.
    """
    pair = (by_seed(measurements, value, levels) for levels in (first, second))
    ahead, behind = ({seed: missing if found is None else found for seed, found in by.items()} for by in pair)
    return Lead(_less(ahead, behind, scale))


def differences(
    measurements: Sequence[Measurement], value: str, first: Setting, second: Setting, *, missing: float | None = None
) -> list[float | None]:
    """The value under the first setting minus that under the second, of each seed."""
    return list(lead(measurements, value, first, second, missing=missing).by.values())


def _less(
    first: Mapping[int, float | None], second: Mapping[int, float | None], scale: float = 1.0
) -> dict[int, float | None]:
    """scale · (first − second) of every seed; None where one has no number."""
    pairs = {seed: (first.get(seed), second.get(seed)) for seed in {**first, **second}}
    found = {seed: minus(*pair) for seed, pair in pairs.items()}
    return {seed: None if value is None else scale * value for seed, value in found.items()}


def over(measurements: Sequence[Measurement]) -> str:
    """What the numbers of leads in a verdict's text are."""
    return f"mean (least to greatest) over {len({m.seed for m in measurements})} seeds"


def by_seed(measurements: Sequence[Measurement], value: str, levels: Setting) -> dict[int, float | None]:
    """A value under the one setting that has these levels, by seed."""
    found: dict[int, float | None] = {}
    for measurement in measurements:
        if value in measurement.values and levels.items() <= measurement.setting.items():
            assert measurement.seed not in found, "the levels fit one setting"
            found[measurement.seed] = measurement.values[value]
    return found


def down(value: float, digits: int = 3) -> float:
    """Rounded to so many significant digits, never up.

    >>> down(0.12369), down(-0.12311)
    (0.123, -0.124)
    """
    if value == 0 or not math.isfinite(value):
        return value
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - digits + 1)
    return math.floor(value / unit + 1e-9) * unit


def up(value: float, digits: int = 3) -> float:
    """Rounded to so many significant digits, never down."""
    return -down(-value, digits)


def minus(a: float | None, b: float | None) -> float | None:
    """a − b; None where one of them has no number, or both are the same infinity."""
    return None if a is None or b is None or (math.isinf(a) and a == b) else a - b


def all_above(values: Sequence[float | None], bound: float = 0.0) -> bool:
    """Whether every seed has a number and it is larger; one without a number supports nothing."""
    return bool(values) and all(value is not None and value > bound for value in values)


def ahead(values: Sequence[float | None], *, scale: float = 1.0) -> str:
    """Of leads: what `told` tells, rounded down, so that none looks larger than it is."""
    return told(values, scale=scale, rounded=down)


def nearest(value: float, digits: int = 3) -> float:
    """Rounded to so many significant digits."""
    return float(f"{value:.{digits}g}")


def told(values: Sequence[float | None], *, scale: float = 1.0, rounded: Callable[[float], float] = nearest) -> str:
    """The mean and, in brackets, between what the seeds lie; how many have no number.

    Three significant digits, so that what is small but not zero does not read as zero.
    """
    found = spread(values)
    lost = sum(value is None for value in values)
    without = f"; {lost} of {len(values)} seeds without a number" if lost else ""
    if found is None:
        return f"no number{without}"
    mean, least, greatest = (f"{rounded(scale * number):g}" for number in (found.mean, found.least, found.greatest))
    return f"{mean} ({least} to {greatest}{without})"
