"""One setting against another, seed by seed, for the verdicts of studies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from glassrun.look.stored import Measurement, Setting, spread


@dataclass(frozen=True)
class Lead:
    """By how much one setting is ahead of another with each seed.

    Arguments:
        seeds: that both were trained with.
        by: the lead of each seed for which both have a number.
    """

    seeds: int
    by: Sequence[float]

    @property
    def always(self) -> bool:
        """With every seed; one without a number, as that of a run that diverged, is no lead."""
        return 0 < self.seeds == len(self.by) and min(self.by) > 0

    def __str__(self) -> str:
        """The mean and between what the seeds lie, rounded down, so that no lead looks larger than it is."""
        found = spread(self.by)
        lost = self.seeds - len(self.by)
        without = f"; {lost} of {self.seeds} seeds without a number" if lost else ""
        if found is None:
            return f"no number{without}"
        low, mean, high = (f"{down(value):g}" for value in (found.least, found.mean, found.greatest))
        return f"{mean} ({low} to {high} over {found.count} seeds{without})"


def lead(
    measurements: Sequence[Measurement], value: str, ahead: Setting, behind: Setting, *, scale: float = 1.0
) -> Lead:
    """scale · (value under `ahead` − value under `behind`), paired by seed; a scale of −1 where less is better."""
    first, second = (by_seed(measurements, value, levels) for levels in (ahead, behind))
    pairs = [(first[seed], second[seed]) for seed in first if seed in second]
    return Lead(len(pairs), [scale * (a - b) for a, b in pairs if a is not None and b is not None])


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
