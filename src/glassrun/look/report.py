"""The report of a run: one HTML file that opens with no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from glassrun.errors import BadInput, CaptureError, RunFolderError
from glassrun.look import snapshots, views
from glassrun.look.exhibits.base import Material
from glassrun.look.figures.curves import curves
from glassrun.look.figures.style import svg
from glassrun.look.page import Figure, Part, Table, View
from glassrun.look.parts import model_parts
from glassrun.look.render import render
from glassrun.record.files import write_atomic
from glassrun.record.run_folder import checkpoint_paths
from glassrun.record.run_json import RECORDED
from glassrun.show import metric_text, summary
from glassrun.threads import one_thread
from glassrun.train.schedule import warmup_steps

if TYPE_CHECKING:
    from glassrun.run import Run

_MOST_POINTS = 4000  # of a curve
_FEWEST_TO_SMOOTH = 50  # points
_AFTER_WARMUP = {
    "warmup-cosine": "falls as a cosine",
    "constant": "stays",
    "linear": "falls as a straight line",
    "polynomial": "falls as a power of what is left of the run",
    "inverse-square-root": "falls with one over the root of the step",
    "noam": "falls with one over the root of the step",
    "one-cycle": "falls as it rose, and further",
    "warmup-stable-decay": "stays, and falls at the end",
    "cosine-restarts": "falls as a cosine again and again",
}


def report(run: Run, *, tell: Callable[[str], None] | None = None) -> Path:
    """Write `report.html` into the run's folder; returns its path.

    Arguments:
        run: what to report on.
        tell: called with each note that stands in the report: what could not be shown, and why.

    Raises:
        RunFolderError: the run is damaged, or has no step yet.
        MissingDependency: matplotlib or jinja2 is not installed.
    """
    values = summary(run.path)
    if not values["steps"]:
        raise RunFolderError(
            f"{run.path}: nothing to report yet: the run has no step"
            + ("" if values["kind"] == RECORDED else f". glassrun resume {run.path}")
        )
    notes: list[str] = []
    if values["kind"] == RECORDED:
        notes += ["Recorded from another program's loop: there is no checkpoint to look into.", *values["notes"]]
        parts = [_curves(run, ""), *_about(run)]
    else:
        with one_thread():  # small operations are slower on several, and much slower beside other programs
            over_training = snapshots.part(run)
            parts = [
                _curves(run, _schedule(run), _warmup(run)),
                *([over_training] if over_training else []),
                *_looks(run, notes),
                *_about(run),
            ]
    page = render(
        title=values["name"],
        subtitle=_subtitle(values),
        tiles=_tiles(values),
        notes=notes,
        parts=parts,
    )
    if tell:
        for note in notes:
            tell(note)
    path = run.path / "report.html"
    write_atomic(path, page.encode())
    return path


def _subtitle(values: Mapping[str, Any]) -> str:
    counts = [session["workers"] for session in values["sessions"]]
    workers = f"{' then '.join(map(str, counts))} worker{'s' if counts != [1] else ''}"
    planned = "" if values["steps_planned"] is None else f" of {values['steps_planned']}"
    return (
        f"{values['status']}: {values['steps']}{planned} steps, seed {values['seed']}, "
        f"{values['seconds']:.1f} s of training on {workers}, begun {values['sessions'][0]['started']}"
    )


def _tiles(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [("training loss", f"{values['loss']:.4f}" if values["loss"] is not None else "not finite")]
    for split, metrics in values["metrics"].items():
        found += [
            (f"{split} {name.replace('_', ' ')}", metric_text(name, value))
            for name, value in metrics.items()
            if name not in ("step", "examples") and value is not None
        ]
    return found


def _warmup(run: Run) -> int:
    return warmup_steps(run.recipe, run.folder.header["data"]["splits"]["train"]["examples"])


def _schedule(run: Run) -> str:
    """The learning rate of a trained run, in words."""
    warmup = _warmup(run)
    text = f"The learning rate rises linearly over {warmup} steps" if warmup else "The learning rate starts at its peak"
    return f"{text}, then {_AFTER_WARMUP[run.recipe.schedule.kind]}."


def _curves(run: Run, text: str, warmup: int = 0) -> Part:
    """Loss and learning rate by step."""
    lines = [line.step for line in run.ledger if isfinite(line.step.loss)]
    every = -(-len(lines) // _MOST_POINTS) or 1
    evaluations: dict[str, tuple[list[int], list[float]]] = {}
    for found in run.metrics:
        if found.get("loss") is not None and found["split"] != "test":
            steps, losses = evaluations.setdefault(found["split"], ([], []))
            steps.append(found["step"])
            losses.append(found["loss"])
    if not lines:
        return Part("Loss and learning rate", "No step has a finite loss.")
    shown = lines[::every]
    steps, loss = [step.step for step in shown], [step.loss for step in shown]
    rate = [step.learning_rate for step in shown]
    left_out = f"\n\nOf the {len(lines):,} steps every {every}th is shown." if every > 1 else ""
    return Part(
        "Loss and learning rate",
        f"{text}{left_out}",
        figures=[
            Figure(
                svg(curves(steps, loss, rate, evaluations, warmup)),
                description=f"The loss goes from {loss[0]:.4f} at step {steps[0]} to {loss[-1]:.4f} at step "
                f"{steps[-1]}; below it the learning rate, at most {max(rate):.3g}.",
                view=_curves_view(steps, loss, rate, evaluations, warmup),
            )
        ],
    )


def _curves_view(
    steps: Sequence[int],
    loss: Sequence[float],
    rate: Sequence[float],
    evaluations: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    warmup: int,
) -> View:
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(loss)
    lines = [views.Line("training, each batch", x, y, faint=True)]
    if len(steps) >= _FEWEST_TO_SMOOTH:
        window = max(len(steps) // 50, 5)
        smooth = np.convolve(y, np.ones(window) / window, mode="valid")
        lines.append(views.Line(f"training, mean of {window} batches", x[window - 1 :], smooth))
    lines += [views.Line(split, np.asarray(at), np.asarray(found)) for split, (at, found) in evaluations.items()]
    marks = [(float(warmup), "warmup ends")] if 0 < warmup < steps[-1] else []
    return views.curves(
        [
            views.Panel("loss", lines, log=min(loss) > 0 and max(loss) > 10 * min(loss), marks=marks),
            views.Panel("learning rate", [views.Line("learning rate", x, np.asarray(rate))], marks=marks),
        ]
    )


def _looks(run: Run, notes: list[str]) -> Iterator[Part]:
    """What the model shows; where it or the data cannot be read, a note that says why."""
    from glassrun.tasks import registry as tasks

    if not isinstance(run.recipe.task, str):
        notes.append("The model is not looked into here: the task is not one of glassrun's own.")
        return
    if not checkpoint_paths(run.path):
        notes.append("The model is not looked into here: the run has no checkpoint yet.")
        return
    try:
        dataset, model = run.dataset, run.model
    except BadInput as error:
        notes.append(f"The model is not looked into here: {error}")
        return
    exhibits = dict(_exhibits(run))
    shown = {name for name, part in exhibits.items() if part.figures}
    try:
        yield from model_parts(model, tasks.build(run.recipe.task, dataset), dataset, without=shown)
    except CaptureError as error:
        notes.append(f"The model is not looked into here: {error}")
    yield from exhibits.values()


def _exhibits(run: Run) -> Iterator[tuple[str, Part]]:
    """The exhibits that have something to show of the run, by name; one that cannot says why in its place."""
    from glassrun.look.exhibits.registry import EXHIBITS

    with TemporaryDirectory() as scratch:
        material = Material(Path(scratch), run=run, may_train=False)
        for exhibit in EXHIBITS.values():
            if not exhibit.fits(run):
                continue
            try:
                part = exhibit.make(material)
            except BadInput as error:
                part = Part(exhibit.title, question=exhibit.question, notes=[f"Not shown of this run: {error}"])
            yield exhibit.name, part


def _about(run: Run) -> Iterator[Part]:
    """What the run is, what it ran on, and how to run it again."""
    header, values = run.folder.header, summary(run.path)
    yield Part(
        "The same bits again",
        "A run's bits follow from config, data, code, numerics and library versions. The chain stands for the whole "
        "history: two runs with the same chain went through the same bits at every step.",
        tables=[
            Table(
                [
                    ("chain", values["chain"]),
                    ("parameters", values["params_fingerprint"]),
                    ("config digest", values["config_digest"]),
                    ("data digest", values["data_digest"] or "the recorder sees batches, not data"),
                    ("code digest", values["code"] or ""),
                ]
            )
        ],
        code=f"glassrun diff {run.path.name} ANOTHER"
        if values["kind"] == RECORDED
        else f"glassrun replay {run.path.name}\nglassrun train {run.path.name}/config.yaml",
    )
    yield Part("Config", tables=[Table(_flat(header["config"]))])
    environment = dict(header["environment"])
    packages = environment.pop("packages")
    build = environment.pop("torch_build")
    yield Part(
        "Data and environment" if "data" in header else "Environment",
        tables=[
            *([Table(_flat(header["data"]), title="data")] if "data" in header else []),
            Table(_flat(environment), title="environment"),
            Table(_flat(packages), title=f"all {len(packages)} packages", folded=True),
            Table([(line.strip(),) for line in build.splitlines()], title="how torch was built", folded=True),
        ],
    )


def _flat(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as rows of a dotted name and a text."""
    if isinstance(values, Mapping):
        return [row for name, value in values.items() for row in _flat(value, f"{prefix}.{name}" if prefix else name)]
    if isinstance(values, list) and values and all(isinstance(value, Mapping) for value in values):
        return [row for number, value in enumerate(values, 1) for row in _flat(value, f"{prefix}.{number}")]
    text = ", ".join(map(str, values)) if isinstance(values, list) else "none" if values is None else str(values)
    return [(prefix, text)]
