"""Stored results of studies: what was claimed, what every seed gave, and the verdict. The exhibits show them.

A study (a script in `studies/`) trains for minutes with several seeds and writes one JSON file here; reading it takes
no time, and it carries the command that makes it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from statistics import fmean
from typing import Any

Level = str | float  # of a factor, in a setting
Setting = Mapping[str, Level]

_FORMAT = 1


@dataclass(frozen=True)
class Claim:
    """What a study is to show.

    Arguments:
        name: of the study, its script and its file.
        exhibit: where it belongs.
        text: the claim, one sentence.
        source: who says so.
    """

    name: str
    exhibit: str
    text: str
    source: str


@dataclass(frozen=True)
class Measurement:
    """What one training gave under one setting.

    Arguments:
        setting: factor to level, the same factors in all measurements of a panel.
        seed: of the training.
        values: by name; None where there is no number, as the loss of a run that diverged.
        chain: the last value of the run's ledger, which stands for its whole history; empty where nothing was trained.
    """

    setting: Setting
    seed: int
    values: Mapping[str, float | None]
    chain: str = ""


@dataclass(frozen=True)
class Panel:
    """A picture of some measurements: a mark for each seed, a line through the means, or at them beside names.

    Arguments:
        y: which value.
        x: the factor along the axis, numbers or names.
        by: the factor that has a colour for each level; None for one colour.
        where: levels that other factors must have.
        title, log_x, log_y, percent: how it is drawn.
    """

    y: str
    x: str
    by: str | None = None
    where: Setting = field(default_factory=dict)
    title: str = ""
    log_x: bool = False
    log_y: bool = False
    percent: bool = False


@dataclass(frozen=True)
class Verdict:
    """Whether the numbers support the claim, and which ones decide it."""

    supported: bool
    text: str


@dataclass(frozen=True)
class Stored:
    """A study's result.

    Arguments:
        claim: what was to be shown.
        measurements: of every seed and setting.
        panels: how they are drawn.
        verdict: what they say.
        command: makes it again.
        seeds: the same for every setting.
        trained: what was trained, in words: model, data, steps.
        machine: the hardware.
        seconds: that the steps of all trainings took, one after the other.
        date: the day.
    """

    claim: Claim
    measurements: Sequence[Measurement]
    panels: Sequence[Panel]
    verdict: Verdict
    command: str
    seeds: Sequence[int]
    trained: str
    machine: Mapping[str, Any]
    seconds: float
    date: str

    def encode(self) -> str:
        """The file's text."""
        return json.dumps({"format": _FORMAT} | asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def select(measurements: Sequence[Measurement], value: str, levels: Setting) -> list[float | None]:
    """A value under the settings that have these levels, in the order of the measurements."""
    return [
        found.values[value]
        for found in measurements
        if value in found.values and levels.items() <= found.setting.items()
    ]


def decode(text: str) -> Stored:
    """What `Stored.encode` wrote."""
    values = json.loads(text)
    assert values.pop("format") == _FORMAT
    return Stored(
        claim=Claim(**values.pop("claim")),
        measurements=[Measurement(**found) for found in values.pop("measurements")],
        panels=[Panel(**panel) for panel in values.pop("panels")],
        verdict=Verdict(**values.pop("verdict")),
        **values,
    )


def folder() -> Path:
    """Where the results lie."""
    return Path(str(resources.files("glassrun.look"))) / "results"


def results(exhibit: str | None = None) -> list[Stored]:
    """All results, or those of an exhibit, by name."""
    found = [decode(path.read_text(encoding="utf-8")) for path in sorted(folder().glob("*.json"))]
    return [result for result in found if exhibit in (None, result.claim.exhibit)]


@dataclass(frozen=True)
class Spread:
    """A value over seeds: how many have one, their mean, the least and the greatest."""

    count: int
    mean: float
    least: float
    greatest: float


def spread(values: Sequence[float | None]) -> Spread | None:
    """Over the values that are numbers; None where there is none."""
    numbers = [value for value in values if value is not None]
    return Spread(len(numbers), fmean(numbers), min(numbers), max(numbers)) if numbers else None


def settings(measurements: Sequence[Measurement]) -> Iterator[Setting]:
    """Every setting once, in the order of the measurements."""
    seen: list[Setting] = []
    for found in measurements:
        if found.setting not in seen:
            seen.append(found.setting)
            yield found.setting
