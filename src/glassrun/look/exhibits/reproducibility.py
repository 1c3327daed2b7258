"""Reproducibility: what it takes for two trainings to be the same one, to the bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassrun.look import views
from glassrun.look.exhibits.base import Exhibit, Material
from glassrun.look.figures.curves import first_difference, loss_curves
from glassrun.look.figures.style import svg
from glassrun.look.page import Figure, Part, Table
from glassrun.record.run_json import TRAINED

if TYPE_CHECKING:
    from glassrun.replay.verdict import Verdict
    from glassrun.run import Run

Losses = NDArray[Any]

_STEPS, _WARMUP = 60, 30
_RECIPE: dict[str, Any] = {
    "model__channels": [8, 16],
    "model__hidden": 32,
    "schedule__warmup_steps": _WARMUP,
    "train__steps": _STEPS,
    "train__eval_every": _STEPS,
    "train__checkpoint_every": _WARMUP,
}
_FINAL_RATE = 2e-4  # of the run that differs: the rates are the same as long as they rise
_REPLAYED = 20  # steps of the user's run
_FORMULA = """<math display="block"><mrow>
<msub><mi>θ</mi><mi>s</mi></msub><mo>=</mo><mi>F</mi><mo>(</mo><msub><mi>θ</mi><mrow><mi>s</mi><mo>−</mo><mn>1</mn></mrow></msub>
<mo>,</mo><mtext>config</mtext><mo>,</mo><mtext>data</mtext><mo>,</mo><mtext>code</mtext><mo>,</mo><mtext>numerics</mtext>
<mo>,</mo><mi>s</mi><mo>)</mo><mo>,</mo><mspace width="1em"/>
<msub><mi>c</mi><mi>s</mi></msub><mo>=</mo><mi>H</mi><mo>(</mo><msub><mi>c</mi><mrow><mi>s</mi><mo>−</mo><mn>1</mn></mrow></msub>
<mo>,</mo><msub><mtext>line</mtext><mi>s</mi></msub><mo>)</mo>
</mrow></math>"""


def fits(run: Run) -> bool:
    """Whether the run can be replayed: it was trained, not recorded from another program's loop."""
    return run.folder.header["kind"] == TRAINED  # type: ignore[no-any-return]


def make(material: Material) -> Part:
    """The exhibit's part of the page."""
    run = material.run if material.run is not None and fits(material.run) else None
    if run is not None and not material.may_train:
        return _part([_of_the_run(run)], [], [_lines(run)], f"glassrun replay {run.path.name}")
    seeded = {
        f"{workers} worker{'s' if workers > 1 else ''}": material.trained(
            "digits-cnn", copy=workers, workers=workers, **_RECIPE
        )
        for workers in (1, 2)
    }
    drawn = [material.trained("digits-cnn", copy=copy, workers=1, seed="random", **_RECIPE) for copy in (1, 2)]
    unseeded = {f"seed {run.recipe.seed}": run for run in drawn}
    a, b = seeded["1 worker"], material.trained("digits-cnn", workers=1, schedule__final_lr=_FINAL_RATE, **_RECIPE)
    material.tell("comparing two runs, and running the step at which they part again")
    verdict = _compared(a, b)
    return _part(
        [*_text(seeded, unseeded), _parting(a, b, verdict), *([_replayed(run)] if run is not None else [])],
        [_curves(seeded, unseeded), _apart(a, b, verdict)],
        [_chains({**unseeded, **{f"seed {a.recipe.seed}, {name}": run for name, run in seeded.items()}})],
        f"glassrun diff A B\n\n{verdict}",
    )


def _part(text: Sequence[str], figures: Sequence[Figure], tables: Sequence[Table], code: str) -> Part:
    return Part(
        EXHIBIT.title,
        question=EXHIBIT.question,
        formula=_FORMULA,
        text="\n\n".join(text),
        figures=figures,
        tables=tables,
        code=code,
        source=(
            "glassrun.keys.derive",
            "glassrun.train.shards.TreeSum",
            "glassrun.record.ledger.link",
            "glassrun.replay.diff.diff",
        ),
    )


def _compared(a: Run, b: Run) -> Verdict:
    from glassrun.run import diff

    return replace(diff(a, b), a="run A", b="run B")  # folders of the moment tell a reader nothing


def _loss(run: Run) -> Losses:
    return np.array([line.step.loss for line in run.ledger])


# --- figures and tables ----------------------------------------------------------------------------------------------


def _curves(seeded: Mapping[str, Run], unseeded: Mapping[str, Run]) -> Figure:
    columns = {
        "a new seed each time": {name: _loss(run) for name, run in unseeded.items()},
        "the same seed": {name: _loss(run) for name, run in seeded.items()},
    }
    steps = np.arange(1, _STEPS + 1, dtype=np.float32)
    return Figure(
        svg(loss_curves(columns)),
        "The same recipe, trained twice",
        "Below: how far the second loss is from the first, at every step.",
        view=views.choice("runs", {title: views.curves(_panels(steps, runs)) for title, runs in columns.items()}),
    )


def _panels(steps: Losses, runs: Mapping[str, Losses]) -> list[views.Panel]:
    """The losses, and how far the second is from the first."""
    (_, first), (name, second) = runs.items()
    return [
        views.Panel("training loss", [views.Line(name, steps, losses) for name, losses in runs.items()]),
        views.Panel("difference", [views.Line(name, steps, second - first)]),
    ]


def _apart(a: Run, b: Run, verdict: Verdict) -> Figure:
    found = verdict.difference
    assert found is not None, "the recipes differ in a rate"
    name = found.field.replace("_", " ")
    losses = {"run A": _loss(a), "run B": _loss(b)}
    apart = np.abs(losses["run A"] - losses["run B"])
    marks = [(float(found.step), "first difference")]
    steps = np.arange(1, _STEPS + 1, dtype=np.float32)
    return Figure(
        svg(first_difference(losses["run A"], losses["run B"], found.step, name)),
        "The first difference of two runs",
        f"Run B's recipe differs in schedule.final_lr alone. At step {found.step} the {name} is another one; before, "
        "no bit of the two runs differs, so the logarithm of the difference has no point there.",
        view=views.curves(
            [
                views.Panel(
                    "training loss",
                    [views.Line(name, steps, values) for name, values in losses.items()],
                    marks=marks,
                ),
                views.Panel(
                    "|loss A − loss B|",
                    [views.Line("|loss A − loss B|", steps[apart > 0], apart[apart > 0])],
                    log=True,
                    marks=marks,
                ),
            ]
        ),
    )


def _chains(runs: Mapping[str, Run]) -> Table:
    rows = [(name, run.ledger[-1].step.loss.hex(), run.ledger[-1].chain) for name, run in runs.items()]
    return Table(rows, ("run", f"loss of step {_STEPS}, exactly", f"chain after step {_STEPS}"), title="The last step")


def _lines(run: Run) -> Table:
    """The first and the last lines of the ledger."""
    lines = run.ledger
    chosen = [*lines[:3], *lines[3:][-2:]]
    rows = [(str(line.step.step), line.step.loss.hex(), line.step.parameters, line.chain) for line in chosen]
    return Table(rows, ("step", "loss, exactly", "parameters", "chain"), title="From the ledger", numbers=(0,))


# --- text ------------------------------------------------------------------------------------------------------------


def _text(seeded: Mapping[str, Run], unseeded: Mapping[str, Run]) -> Iterator[str]:
    apart, together = (np.subtract(*map(_loss, runs.values())) for runs in (unseeded, seeded))
    yield (
        "A training draws random numbers for the first weights, the order of the examples and dropout. Two trainings "
        "of one recipe that take new numbers each time, as they do where nobody sets a seed, are two different runs: "
        f"here their losses are up to {np.abs(apart).max():.2g} apart. This figure is another one each time it is "
        "made. But the seeds that were drawn are recorded, so even these two can be repeated, with "
        f"{' and with '.join(f'`--set seed={run.recipe.seed}`' for run in unseeded.values())}."
    )
    equal = len({run.ledger[-1].chain for run in seeded.values()}) == 1
    yield (
        "With the seed written down, every number follows from it and from what it is for, and no generator's state "
        "has to be kept. That alone is not enough: sums of floating-point numbers depend on their order, and a second "
        "worker would change it. So each batch is cut into slices that do not depend on the number of workers, and "
        "the gradients are added in a fixed tree. One run on one worker and one on two: the largest difference of "
        f"their losses is {np.abs(together).max():g}, and their chains are {'equal' if equal else 'NOT equal'}."
    )
    yield (
        "Each step's line in the ledger holds fingerprints of the batch, the gradients and all parameters. The chain "
        "is a digest over the line and the chain before it: one value stands for the whole history, and two runs with "
        "the same value went through the same bits at every step."
    )


def _parting(a: Run, b: Run, verdict: Verdict) -> str:
    found = verdict.difference
    assert found is not None, "the recipes differ in a rate"
    apart = np.abs(_loss(a) - _loss(b))
    seen = int(np.flatnonzero(apart)[0]) + 1
    confirmed = [f"{cause.kind} {cause.what}" for cause in verdict.causes if cause.status == "confirmed"]
    cause = f"diff tested what differs between the two and confirmed: {', '.join(confirmed)}." if confirmed else ""
    return (
        f"Two runs that are not the same part somewhere. Here run B's rate falls to {_FINAL_RATE:g} instead of zero, "
        f"which cannot be seen before the warmup ends. The records part at step {found.step}, in the phase "
        f"{found.phase}; the losses part at step {seen}, by {apart[seen - 1]:.1g}, and are {apart[-1]:.1g} apart at "
        f"the end. {cause}"
    )


def _replayed(run: Run) -> str:
    last = min(_REPLAYED, len(run.ledger))
    found = run.replay(workers=1, last=last)
    outcome = f"{found.identical} steps have the same bits" if found else f"it parted: {found.difference}"
    return f"Your run {run.recipe.name}, its first {last} steps run again on one worker: {outcome}."


def _of_the_run(run: Run) -> str:
    return (
        "A run's bits follow from config, data, code, numerics and library versions, and from nothing else: not from "
        "the number of workers, nor from being killed and resumed. The ledger proves it step by step: each line's "
        "chain value is a digest over the line and the chain before it, so the last one stands for all "
        f"{len(run.ledger):,} steps. A replay runs them again in fresh processes and compares each line as it comes. "
        "The exhibit without a run trains pairs of runs, with and without a seed, and lays them on each other."
    )


EXHIBIT = Exhibit(
    "reproducibility",
    "Reproducibility",
    "When are two trainings the same one?",
    fits,
    make,
)
