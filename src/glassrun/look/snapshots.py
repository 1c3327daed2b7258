"""The part "Over training" of a run's report: what its snapshots show, beside loss and learning rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassrun.errors import RunFolderError
from glassrun.look import views
from glassrun.look.figures.courses import Course, courses
from glassrun.look.figures.side_by_side import Band, attention, pictures
from glassrun.look.figures.style import svg
from glassrun.look.inside import flat_filters, map_labels, maps_of
from glassrun.look.names import readable
from glassrun.look.page import Figure, Part, View
from glassrun.record.ledger import Line
from glassrun.record.snapshots import paths, planned

if TYPE_CHECKING:
    from glassrun.run import Run
    from glassrun.train.snapshots import Snapshot

_MOST_BYTES = 2**20  # of the frames of a view; a page holds two, each value in two bytes
_MOST_POINTS = 1500  # of a curve
_SHOWN_HEADS = 2  # in the static figure
_SHOWN_PICTURES = 10

Array = NDArray[Any]


def part(run: Run) -> Part | None:
    """What the run's snapshots show; None where it has none."""
    notes: list[str] = []
    found = list(_read(run, notes))
    if not found:
        return Part("Over training", "None of the run's snapshots can be shown.", notes=notes) if notes else None
    steps = [snapshot.step for snapshot in found]
    figures = [_course(run.ledger, steps), *_attention(found), *_filters(found), *_maps(found)]
    values = found[-1].values
    if values["left_out"]:
        notes.append(f"Left out of the snapshots, which are bounded in bytes: {', '.join(values['left_out'])}")
    what = f"the text {values['text']!r}" if values["text"] else "the first image"
    of = (
        "the training split" if values["split"] == "train" else f"the {values['split']} split, which it never trains on"
    )
    return Part(
        "Over training",
        f"After {_count(len(steps), 'step')} of this run, from step {steps[0]} to step {steps[-1]}, the same example "
        f"was put into the model as it was then: {what} of {of}. "
        "Nothing of the run was moved by looking: its bits are those of a run without snapshots.\n\n"
        f"{_told(found)}\n\n"
        "Go through the steps with the slider, and look at the curves for the same step: what forms while the learning "
        "rate still rises, what when the loss falls fastest, and what no longer changes at the end. For more of them: "
        f"`glassrun train RECIPE --set record.snapshots={2 * len(steps)}`",
        figures=figures,
        source=("glassrun.train.snapshots.take", "glassrun.capturing.capture.capture"),
        notes=notes,
    )


def _read(run: Run, notes: list[str]) -> Iterator[Snapshot]:
    """The snapshots that are whole, of this run, and of one form; for each other a note."""
    from glassrun.train.snapshots import read

    lines = run.ledger
    forms: dict[str, Any] | None = None
    for path in paths(run.path):
        try:
            snapshot = read(path)
        except RunFolderError as error:
            notes.append(f"Left out: {error}")
            continue
        step = snapshot.step
        if step > len(lines) or lines[step - 1].chain != snapshot.values["chain"]:
            notes.append(f"Left out: {path}: it is of another run: its chain is not the ledger's")
            continue
        form = {name: array.shape for name, array in snapshot.arrays.items()}
        if forms is not None and form != forms:
            notes.append(f"Left out: {path}: what it holds has another form than in the snapshots before it")
            continue
        forms = form
        yield snapshot


# --- what is to be seen ----------------------------------------------------------------------------------------------


def _told(found: Sequence[Snapshot]) -> str:
    """What changed between the first and the last snapshot, in numbers."""
    first, last = found[0], found[-1]
    told = []
    maps = [name for name in first.arrays if name.startswith("attention.")]
    if maps:
        before, after = (np.mean([_entropy(s.arrays[name]) for name in maps]) for s in (first, last))
        told.append(
            "How widely a query spreads its weight is the entropy of its row: "
            f"over all heads it is {before:.2f} bits at step {first.step} and {after:.2f} at step {last.step}. "
            "It falls where heads learn to look at certain tokens, and is largest where a row is even."
        )
    if "filters" in first.arrays and first.arrays["filters"].any():  # zeros have no length to compare with
        start, end = first.arrays["filters"], last.arrays["filters"]
        moved = float(np.linalg.norm(end - start) / np.linalg.norm(start))
        told.append(
            f"The first layer's filters moved by {100 * moved:.0f} % of their own length between step {first.step} and "
            f"step {last.step}: what the maps show is partly what the random filters of the beginning showed already."
        )
    return " ".join(told) or "The model has neither attention nor convolutions that could be shown."


def _entropy(weights: Array) -> float:
    """The mean over rows of −Σ w log₂ w, in bits, of Float[heads, query, key]."""
    wide = weights.astype(np.float64)
    logs = np.log2(wide, out=np.zeros_like(wide), where=wide > 0)
    return float(-(wide * logs).sum(-1).mean())


def _course(lines: Sequence[Line], steps: Sequence[int]) -> Figure:
    """Loss and learning rate with the snapshots' steps marked."""
    course = course_of("this run", lines)
    marks = [(step, "") for step in steps]
    return Figure(
        svg(courses([course], marks)),
        "Loss and learning rate",
        "Dotted: the steps whose snapshots are shown below.",
        view=course_view([course], marks),
    )


def course_of(name: str, lines: Sequence[Line]) -> Course:
    """A run's finite losses and its learning rates, thinned out to what can be drawn."""
    finite = [line.step for line in lines if isfinite(line.step.loss)]
    shown = finite[:: -(-len(finite) // _MOST_POINTS) or 1]
    return Course(name, [s.step for s in shown], [s.loss for s in shown], [s.learning_rate for s in shown])


def course_view(runs: Sequence[Course], marks: Sequence[tuple[int, str]]) -> View:
    """The same as curves to touch."""
    losses = [loss for run in runs for loss in run.loss]
    log = min(losses) > 0 and max(losses) > 10 * min(losses)

    def lines(of: str) -> list[views.Line]:
        return [views.Line(run.name, np.array(run.steps, float), np.array(getattr(run, of), float)) for run in runs]

    placed = [(float(step), word) for step, word in marks]
    return views.curves(
        [
            views.Panel("training loss", lines("loss"), log=log, marks=placed),
            views.Panel("learning rate", lines("rate"), marks=placed),
        ]
    )


def _attention(found: Sequence[Snapshot]) -> Iterator[Figure]:
    described = found[0].values["attention"]
    if not described:
        return
    arrays = [f"attention.{number}" for number in range(len(described))]
    frames = _few(found, arrays)
    view = views.attention(
        [
            maps_of(entry, np.stack([snapshot.arrays[name] for snapshot in frames]))
            for entry, name in zip(described, arrays, strict=True)
        ],
        steps=[snapshot.step for snapshot in frames],
    )
    number = next((i for i, entry in enumerate(described) if entry["kind"] == "cross"), len(described) - 1)
    entry, three = described[number], _first_middle_last(found)
    heads = min(_SHOWN_HEADS, len(found[0].arrays[arrays[number]]))
    drawn = attention(
        [Band(f"step {s.step}", s.arrays[arrays[number]][:heads]) for s in three],
        rows=[f"head {head + 1}" for head in range(heads)],
        queries=entry["queries"],
        keys=entry["keys"],
        query_title=entry["query_title"],
        key_title=entry["key_title"],
        title=readable(entry["name"]),
    )
    yield Figure(
        svg(drawn),
        "Attention forming",
        "Every row sums to one. Where later tokens are masked, their columns stay empty from the first step on.",
        description=f"{readable(entry['name'])}, at {_words([f'step {s.step}' for s in three])}.",
        view=view,
    )


def _filters(found: Sequence[Snapshot]) -> Iterator[Figure]:
    if "filters" not in found[0].arrays:
        return
    frames = _few(found, ["filters"])
    _, labels = flat_filters(found[0].arrays["filters"])
    name = readable(found[0].values["filters"])

    def flat(snapshot: Snapshot) -> Array:
        return flat_filters(snapshot.arrays["filters"])[0]

    three = _first_middle_last(found)
    shown = labels[:_SHOWN_PICTURES]
    yield Figure(
        svg(
            pictures(
                [Band(f"step {s.step}", flat(s)[: len(shown)], "signed") for s in three],
                columns=shown,
                value="weight",
            )
        ),
        "Filters forming",
        f"The weights of {name}, red above zero and blue below, all on one scale.",
        view=views.pictures(
            [views.Pictures(f"{name}: filters", np.stack([flat(s) for s in frames]), labels, signed=True)],
            steps=[s.step for s in frames],
        ),
    )


def _maps(found: Sequence[Snapshot]) -> Iterator[Figure]:
    layers = found[0].values["maps"]
    if not layers:
        return
    arrays = [f"maps.{number}" for number in range(len(layers))]
    frames = _few(found, arrays)
    three = _first_middle_last(found)
    shown = [str(number + 1) for number in range(min(_SHOWN_PICTURES, len(found[0].arrays[arrays[0]])))]
    yield Figure(
        svg(
            pictures(
                [Band(f"step {s.step}", s.arrays[arrays[0]][: len(shown)]) for s in three],
                columns=shown,
                value="value",
            )
        ),
        "Feature maps forming",
        f"What the first filters of {readable(layers[0])} make of the image, all on one scale.",
        view=views.pictures(
            [
                views.Pictures(
                    readable(layer),
                    np.stack([s.arrays[name] for s in frames]),
                    map_labels(found[0].arrays[name]),
                )
                for layer, name in zip(layers, arrays, strict=True)
            ],
            steps=[s.step for s in frames],
        ),
    )


def _few(found: Sequence[Snapshot], arrays: Sequence[str]) -> list[Snapshot]:
    """As many of the snapshots as a page may hold of these arrays, evenly, the first and the last among them."""
    each = sum(2 * found[0].arrays[name].size for name in arrays)
    return [found[place - 1] for place in planned(max(2, _MOST_BYTES // max(each, 1)), len(found))]


def _first_middle_last(found: Sequence[Snapshot]) -> list[Snapshot]:
    return [found[place - 1] for place in planned(3, len(found))]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _words(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
