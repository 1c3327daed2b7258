"""Two runs side by side: what differs between them, where they part, and what one input shows inside both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassrun.errors import BadInput, ConfigError, RunFolderError
from glassrun.look import views
from glassrun.look.figures.courses import courses
from glassrun.look.figures.side_by_side import Band, attention, pictures
from glassrun.look.figures.style import svg
from glassrun.look.inside import flat_filters, map_labels, maps_of, probe
from glassrun.look.names import readable
from glassrun.look.page import Figure, Part, Table
from glassrun.look.render import render
from glassrun.look.snapshots import course_of, course_view
from glassrun.record.files import write_atomic
from glassrun.record.run_folder import RunFolder, checkpoint_paths
from glassrun.record.run_json import RECORDED
from glassrun.replay.causes import suspects
from glassrun.replay.records import Difference, Record, extent, first_difference
from glassrun.show import metric_text, summary

if TYPE_CHECKING:
    from glassrun.run import Run
    from glassrun.train.snapshots import Seen

_SHOWN_HEADS = 2  # in the static figure
_SHOWN_PICTURES = 10
_SHOWN_CAUSES = 20  # more are folded
_LONGEST = 160  # characters of a cell

Array = NDArray[Any]


def compare(a: Run, b: Run, out: Path | None = None, *, tell: Callable[[str], None] | None = None) -> Path:
    """Write two runs side by side as one page that opens with no network; returns its path.

    What can be compared is; for what cannot, a note on the page says why.

    Arguments:
        a, b: the runs; neither folder is changed.
        out: the page; by default `compare.html` in the working folder.
        tell: called with each note that stands on the page.

    Raises:
        RunFolderError: a run is damaged, or has no step yet.
        ConfigError: both are the same folder.
        MissingDependency: matplotlib or jinja2 is not installed.
    """
    if a.path.resolve() == b.path.resolve():
        raise ConfigError(f"expected two runs, found {a.path} twice")
    values = summary(a.path), summary(b.path)
    for run, of in zip((a, b), values, strict=True):
        if not of["steps"]:
            raise RunFolderError(f"{run.path}: nothing to compare: the run has no step yet")
    notes: list[str] = []
    parts = [_differences(a, b, values), _together(a, b), _metrics(values), *_inside(a, b, notes)]
    page = render(
        title=f"{a.path.name} beside {b.path.name}",
        subtitle=f"A is {a.path.name}, a run of {values[0]['name']}; B is {b.path.name}, one of {values[1]['name']}",
        parts=parts,
        notes=notes,
    )
    if tell:
        for note in notes:
            tell(note)
    path = out or Path("compare.html")
    write_atomic(path, page.encode())
    return path


# --- what they are ---------------------------------------------------------------------------------------------------


def _differences(a: Run, b: Run, values: Sequence[Mapping[str, Any]]) -> Part:
    """What is recorded of both, and every recorded difference that can have moved bits."""
    found = suspects(a.folder, b.folder)
    texts = [(f"{cause.kind} {cause.what}", cause.a, cause.b) for cause in found]
    rows = [tuple(shorten(text, _LONGEST, placeholder=" …") for text in row) for row in texts]
    text = (
        f"{_count(len(rows), 'recorded thing')} that can move bits {'differs' if len(rows) == 1 else 'differ'} between "
        "the runs. What moves none is left out: folders, workers, how often something is written."
        if rows
        else "Nothing that is recorded of the runs and can move bits differs."
    )
    head = ("", "A", "B")
    tables = [Table([_row(name, key, values) for name, key in _KEPT], ("", "A", "B"), title="the runs")]
    if rows:
        tables.append(Table(rows[:_SHOWN_CAUSES], head, title="what differs"))
    if len(rows) > _SHOWN_CAUSES:
        more = rows[_SHOWN_CAUSES:]
        tables.append(Table(more, head, title=f"{len(more)} more", folded=True))
    return Part("What differs", text, tables=tables)


_KEPT = (
    ("folder", "path"),
    ("status", "status"),
    ("steps", "steps"),
    ("seed", "seed"),
    ("chain", "chain"),
    ("config digest", "config_digest"),
    ("data digest", "data_digest"),
    ("code digest", "code"),
)


def _row(name: str, key: str, values: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    shown = [Path(of[key]).name if key == "path" else "" if of[key] is None else str(of[key]) for of in values]
    return (name, *shown)


def _together(a: Run, b: Run) -> Part:
    """Both courses, with the first difference marked."""
    records = Record(a.folder), Record(b.folder)
    difference, compared = first_difference(*records), extent(*records)
    runs = [course_of(name, record.lines) for name, record in zip("AB", records, strict=True)]
    marks = [(difference.step, f"first difference: step {difference.step}")] if difference else []
    if difference is None:
        text = (
            f"Identical: all {_count(compared.steps, 'step')} and {_count(compared.evaluations, 'evaluation')} that "
            "both runs have are equal to the bit. The two curves lie on each other."
        )
    else:
        text = f"{_told(difference)}\n\nWhich operation made the difference, and why, says the command below."
    if not all(run.steps for run in runs):
        return Part("Loss and learning rate", f"{text}\n\nOne of the runs has no finite loss to draw.")
    return Part(
        "Loss and learning rate",
        text,
        figures=[
            Figure(
                svg(courses(runs, marks)),
                caption="Training loss of each batch above, learning rate below; B is dashed.",
                view=course_view(runs, marks),
            )
        ],
        code=f"glassrun diff {a.path.name} {b.path.name}",
        source=("glassrun.replay.records.first_difference",),
    )


def _told(found: Difference) -> str:
    where = f"In step {found.step}, phase {found.phase}{f', split {found.split}' if found.split else ''}"
    before = f"Steps 1 to {found.step - 1} have the same bits. " if found.step > 1 else ""
    tensors = f" The first tensors that differ: {', '.join(found.tensors[:4])}." if found.tensors else ""
    return f"{before}{where}, the runs part: {found.field} is {found.a} in A and {found.b} in B.{tensors}"


def _metrics(values: Sequence[Mapping[str, Any]]) -> Part:
    """The newest evaluation of each split."""
    rows = []
    for split in dict.fromkeys([*values[0]["metrics"], *values[1]["metrics"]]):
        x, y = (of["metrics"].get(split, {}) for of in values)
        for name in dict.fromkeys([*x, *y]):
            if name in ("step", "examples"):
                continue
            numbers = x.get(name), y.get(name)
            texts = ["" if number is None else metric_text(name, number) for number in numbers]
            rows.append((split, name.replace("_", " "), *texts, _change(*numbers, percent=texts[0].endswith("%"))))
    steps = [next((found["step"] for found in of["metrics"].values()), None) for of in values]
    text = (
        f"The newest evaluations, after step {steps[0] or '–'} of A and step {steps[1] or '–'} of B."
        if rows
        else "Neither run has been evaluated."
    )
    table = Table(rows, ("split", "metric", "A", "B", "B − A"), numbers=(2, 3, 4))
    return Part("Metrics", text, tables=[table] if rows else [])


def _change(x: float | None, y: float | None, *, percent: bool) -> str:
    """From A to B; of percentages in points."""
    if x is None or y is None:
        return ""
    return f"{100 * (y - x):+.2f} points" if percent else f"{y - x:+.4f}"


# --- inside ----------------------------------------------------------------------------------------------------------


def _inside(a: Run, b: Run, notes: list[str]) -> Iterator[Part]:
    """What the same example shows inside both models, and the difference."""
    try:
        seen, example = _same_example(a, b)
    except BadInput as error:
        notes.append(f"What happens inside the models is not compared: {error}")
        return
    pairs = [_pairs(seen, what) for what in ("attention", "maps")]
    figures = [*_attention(seen, pairs[0]), *_filters(seen), *_maps(pairs[1])]
    if not figures:
        layers = ["; ".join(_layers(of)) or "no layer that can be shown" for of in seen]
        notes.append(
            "What happens inside the models is not compared: no layer has the same name and form in both. "
            f"A has {layers[0]}. B has {layers[1]}"
        )
        return
    rows = [
        (readable(name), "attention" if what == "attention" else "feature maps", *_distance(x, y))
        for what, pair in zip(("attention", "maps"), pairs, strict=True)
        for name, x, y in pair
    ]
    yield Part(
        "The same input in both",
        f"Both models read {example}. Where a layer has the same name and form in both, its maps stand side by side, "
        "and their difference, A less B, on a scale of its own.\n\n"
        "Heads and filters are numbered as each model has them. Trained from other seeds, head 1 of A need not do what "
        "head 1 of B does: models that are equally good can hold the same parts in another order.",
        figures=figures,
        tables=[Table(rows, ("layer", "what", "largest difference", "relative difference"), numbers=(2, 3))],
        notes=[f"Only in {name}: {', '.join(only)}" for name, only in zip("AB", _alone(seen), strict=True) if only],
        source=("glassrun.train.probe.probe_of", "glassrun.capturing.capture.capture"),
    )


def _same_example(a: Run, b: Run) -> tuple[tuple[Seen, Seen], str]:
    """What the example of A's data shows in both models.

    Raises:
        BadInput: there is no model or no such example for one of them.
    """
    from glassrun.train.snapshots import look_into

    folders = a.folder, b.folder
    for name, folder in zip("AB", folders, strict=True):
        if folder.header["kind"] == RECORDED:
            raise ConfigError(f"{name} was recorded from another program's loop, so there is no model")
        if not checkpoint_paths(folder.path):
            raise ConfigError(f"{name} has no checkpoint yet")
    tasks = [folder.recipe.task for folder in folders]
    if tasks[0] != tasks[1]:
        raise ConfigError(f"the tasks are others, {tasks[0]} in A and {tasks[1]} in B, so no input goes into both")
    x, y = (_encoding(folder) for folder in folders)
    if others := [name for name in {**x, **y} if x.get(name) != y.get(name)]:
        raise ConfigError(
            f"the models read their inputs in different ways, so an example is not the same in both: "
            f"{', '.join(others)}"
        )
    example = probe(a)
    what = f"the text {example.text!r}" if example.text else "the first image"
    looked = look_into(a.model, example.inputs, example.axes), look_into(b.model, example.inputs, example.axes)
    return looked, f"{what} of the {example.split} split of A's data"


def _encoding(folder: RunFolder) -> dict[str, Any]:
    """How a run's model reads what it is given, as plain values."""
    from glassrun.data.recorded import of_run

    found = of_run(folder.header, str(folder.path))
    return found.encoding.to_plain() if found else {}


Pair = tuple[str, Array, Array]


def _pairs(seen: Sequence[Seen], what: str) -> list[Pair]:
    """The arrays of layers that both models have by the same name and in the same form."""
    x, y = (_named(of, what) for of in seen)
    return [(name, x[name], y[name]) for name in x if name in y and x[name].shape == y[name].shape]


def _named(seen: Seen, what: str) -> dict[str, Array]:
    names = [entry if isinstance(entry, str) else entry["name"] for entry in seen.values[what]]
    return {name: seen.arrays[f"{what}.{number}"] for number, name in enumerate(names)}


def _layers(seen: Seen) -> list[str]:
    return [
        f"{name} of {' × '.join(map(str, array.shape))}"
        for what in ("attention", "maps")
        for name, array in _named(seen, what).items()
    ]


def _alone(seen: Sequence[Seen]) -> list[list[str]]:
    """The layers that only one of the models has in this form."""
    x, y = map(_layers, seen)
    return [[name for name in x if name not in y], [name for name in y if name not in x]]


def _distance(x: Array, y: Array) -> tuple[str, str]:
    """The largest difference, and that of the whole in units of A's length."""
    apart = float(np.linalg.norm(x - y)) / max(float(np.linalg.norm(x)), 1e-30)
    return f"{float(np.abs(x - y).max()):.4g}", f"{100 * apart:.1f} %"


def _attention(seen: Sequence[Seen], pairs: Sequence[Pair]) -> Iterator[Figure]:
    if not pairs:
        return
    entries = {entry["name"]: entry for entry in seen[0].values["attention"]}
    name, x, y = next((pair for pair in pairs if entries[pair[0]]["kind"] == "cross"), pairs[-1])
    entry, heads = entries[name], min(_SHOWN_HEADS, len(x))
    drawn = attention(
        [Band("A", x[:heads]), Band("B", y[:heads]), Band("A − B", (x - y)[:heads], "difference")],
        rows=[f"head {head + 1}" for head in range(heads)],
        queries=entry["queries"],
        keys=entry["keys"],
        query_title=entry["query_title"],
        key_title=entry["key_title"],
    )
    difference = [
        views.Pictures(readable(layer), p - q, [f"head {head + 1}" for head in range(len(p))], signed=True)
        for layer, p, q in pairs
    ]
    yield Figure(
        svg(drawn),
        "Attention",
        f"{readable(name)}: where each query looks in A, in B, and how far they are apart.",
    )
    yield Figure(
        "",
        description="The same for any layer and head, of A, of B, or their difference.",
        view=views.choice(
            "run",
            {
                "A": views.attention([maps_of(entries[layer], p) for layer, p, _ in pairs]),
                "B": views.attention([maps_of(entries[layer], q) for layer, _, q in pairs]),
                "A − B": views.pictures(difference),
            },
        ),
    )


def _filters(seen: Sequence[Seen]) -> Iterator[Figure]:
    x, y = (of.arrays.get("filters") for of in seen)
    if x is None or y is None or x.shape != y.shape:
        return
    (p, labels), (q, _) = flat_filters(x), flat_filters(y)
    shown = len(labels[:_SHOWN_PICTURES])
    bands = [Band("A", p, "signed"), Band("B", q, "signed"), Band("A − B", p - q, "difference")]
    yield Figure(
        svg(
            pictures([replace(band, maps=band.maps[:shown]) for band in bands], columns=labels[:shown], value="weight")
        ),
        "Filters of the first layer",
        "Weights, red above zero and blue below; A and B on one scale, their difference on its own.",
    )
    yield Figure(
        "",
        description="The same filters, one at a time.",
        view=views.pictures([views.Pictures(band.title, band.maps, labels, signed=True) for band in bands]),
    )


def _maps(pairs: Sequence[Pair]) -> Iterator[Figure]:
    if not pairs:
        return
    name, x, y = pairs[0]
    shown = min(_SHOWN_PICTURES, len(x))
    drawn = pictures(
        [Band("A", x[:shown]), Band("B", y[:shown]), Band("A − B", (x - y)[:shown], "difference")],
        columns=[str(number + 1) for number in range(shown)],
        value="value",
    )
    options = {
        "A": [views.Pictures(readable(layer), p, map_labels(p)) for layer, p, _ in pairs],
        "B": [views.Pictures(readable(layer), q, map_labels(q)) for layer, _, q in pairs],
        "A − B": [views.Pictures(readable(layer), p - q, map_labels(p), signed=True) for layer, p, q in pairs],
    }
    yield Figure(
        svg(drawn),
        "Feature maps",
        f"What the first filters of {readable(name)} make of the image; A and B on one scale.",
    )
    yield Figure(
        "",
        description="The same for any layer and filter, of A, of B, or their difference.",
        view=views.choice("run", {run: views.pictures(groups) for run, groups in options.items()}),
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
