"""Comparisons seed by seed, and how they are put into words."""

from __future__ import annotations

from collections.abc import Sequence

from glassrun.look.stored import Measurement, Setting, spread


def by_seed(measurements: Sequence[Measurement], value: str, levels: Setting) -> dict[int, float | None]:
    """A value of each seed under the one setting that has these levels."""
    return {
        found.seed: found.values[value]
        for found in measurements
        if value in found.values and levels.items() <= found.setting.items()
    }


def differences(measurements: Sequence[Measurement], value: str, first: Setting, second: Setting) -> list[float | None]:
    """The first minus the second of each seed; None where one of them has no number."""
    a, b = (by_seed(measurements, value, levels) for levels in (first, second))
    return [minus(a[seed], b[seed]) for seed in a]


def minus(a: float | None, b: float | None) -> float | None:
    """a − b; None where one of them has no number."""
    return None if a is None or b is None else a - b


def all_above(values: Sequence[float | None], bound: float = 0.0) -> bool:
    """Whether every seed has a number and it is larger; one without a number supports nothing."""
    return bool(values) and all(value is not None and value > bound for value in values)


def told(values: Sequence[float | None], *, scale: float = 1.0) -> str:
    """The mean and, in brackets, between what the seeds lie; how many have no number.

    Three significant digits, so that what is small but not zero does not read as zero.
    """
    found = spread(values)
    lost = sum(value is None for value in values)
    without = f"; {lost} of {len(values)} seeds without a number" if lost else ""
    if found is None:
        return f"no number{without}"
    mean, least, greatest = (f"{scale * number:.3g}" for number in (found.mean, found.least, found.greatest))
    return f"{mean} ({least} to {greatest}{without})"
