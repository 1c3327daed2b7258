"""Learning-rate warmup: why the first steps are small ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassrun import config
from glassrun.errors import RunFolderError
from glassrun.look import views
from glassrun.look.exhibits.base import Exhibit, Material
from glassrun.look.exhibits.early_steps import train_watched
from glassrun.look.exhibits.transformers import model_kind, small_language_model
from glassrun.look.figures.curves import curves
from glassrun.look.figures.schedules import Trained, schedules, update_sizes
from glassrun.look.figures.style import svg
from glassrun.look.page import Figure, Part, View
from glassrun.train.schedule import warmup_steps

if TYPE_CHECKING:
    from glassrun.run import Run

Columns = Mapping[str, Mapping[str, Trained]]

_MOST_POINTS = 4000  # of a curve
_SHOWN_UPDATES = 40  # first steps
_WARMUP = 40
_EARLY = 10  # a step in the middle of the warmup
_BATCHES = {"small": 8, "large": 64}
_RECIPE = {
    "data.context": 32,
    "model.num_layers": 4,
    "model.d_model": 64,
    "optimizer.lr": 1e-2,  # a high peak: what the first steps can bear is the question
    "optimizer.betas": [0.9, 0.999],
    "optimizer.weight_decay": 0.0,  # so that an update is Adam's alone
    "optimizer.clip_norm": None,
    "schedule.final_lr": 0.0,
    "batch.shards": 1,
    "train.steps": 160,
}
_WITH, _WITHOUT = f"warmup over {_WARMUP} steps", "no warmup"
_FORMULA = """<math display="block"><mrow>
<msub><mi>η</mi><mi>s</mi></msub><mo>=</mo><msub><mi>η</mi><mi>peak</mi></msub><mo>·</mo>
<mrow><mo form="prefix" stretchy="true">{</mo><mtable columnalign="left" displaystyle="true">
<mtr><mtd><mi>s</mi><mo>/</mo><mi>w</mi></mtd><mtd><mi>s</mi><mo>≤</mo><mi>w</mi></mtd></mtr>
<mtr><mtd><mfrac><mn>1</mn><mn>2</mn></mfrac><mo>(</mo><mn>1</mn><mo>+</mo><mi>cos</mi><mi>π</mi>
<mfrac><mrow><mi>s</mi><mo>−</mo><mi>w</mi></mrow><mrow><mi>n</mi><mo>−</mo><mi>w</mi></mrow></mfrac><mo>)</mo></mtd>
<mtd><mi>s</mi><mo>&gt;</mo><mi>w</mi></mtd></mtr></mtable></mrow>
</mrow></math>
<math display="block"><mrow>
<mi>Δ</mi><msub><mi>θ</mi><mi>s</mi></msub><mo>=</mo><mo>−</mo><msub><mi>η</mi><mi>s</mi></msub>
<mfrac><msub><mover><mi>m</mi><mo>^</mo></mover><mi>s</mi></msub>
<mrow><msqrt><msub><mover><mi>v</mi><mo>^</mo></mover><mi>s</mi></msub></msqrt><mo>+</mo><mi>ε</mi></mrow></mfrac>
<mo>,</mo><mspace width="1em"/>
<mi>Δ</mi><msub><mi>θ</mi><mn>1</mn></msub><mo>=</mo><mo>−</mo><msub><mi>η</mi><mn>1</mn></msub>
<mfrac><mi>g</mi><mrow><mo>|</mo><mi>g</mi><mo>|</mo><mo>+</mo><mi>ε</mi></mrow></mfrac><mo>≈</mo><mo>±</mo>
<msub><mi>η</mi><mn>1</mn></msub>
</mrow></math>"""


def fits(run: Run) -> bool:
    """Whether the run is one of glassrun's and warms up."""
    if model_kind(run) is None:
        return False
    schedule = run.recipe.schedule
    return bool(schedule.warmup_steps or schedule.warmup_epochs)


def make(material: Material) -> Part:
    """The exhibit's part of the page."""
    run = material.run if material.run is not None and fits(material.run) else small_language_model(material)
    if not any(isfinite(line.step.loss) for line in run.ledger):
        raise RunFolderError(f"{run.path}: expected steps with a finite loss, found none: there is no curve to show")
    if not material.may_train:
        seen = "Loss and learning rate of every step stand at the head of this report."
        return _part(text=[_trained_text(run), seen], figures=[])
    columns = with_and_without(material)
    return _part(
        text=[_trained_text(run), *_compared_text(columns)],
        figures=[_as_trained(run), _losses(columns), _updates(columns)],
    )


def _part(*, text: Sequence[str], figures: Sequence[Figure]) -> Part:
    return Part(
        EXHIBIT.title,
        question=EXHIBIT.question,
        formula=_FORMULA,
        text="\n\n".join(text),
        figures=figures,
        code="glassrun train python-lm --set schedule.warmup_steps=0\nglassrun exhibit learning-rate-warmup",
        source=(
            "glassrun.train.schedule.warmup_cosine",
            "glassrun.train.optimizer.build",
            "glassrun.look.exhibits.early_steps.train_watched",
        ),
    )


def with_and_without(material: Material) -> Columns:
    """The same small Transformer trained with and without warmup, at a small and at a large batch."""
    from glassrun.train.state import load_data

    dataset = None
    columns: dict[str, dict[str, Trained]] = {}
    for size, examples in _BATCHES.items():
        trained = {}
        for name, steps in ((_WITH, _WARMUP), (_WITHOUT, 0)):
            recipe = config.load("python-lm", _RECIPE | {"batch.size": examples, "schedule.warmup_steps": steps})
            dataset = dataset or load_data(recipe)
            material.tell(f"training with {name}, batches of {examples}")
            trained[name] = train_watched(recipe, dataset)
        columns[f"{size} batch, {examples} windows"] = trained
    return columns


# --- figures ---------------------------------------------------------------------------------------------------------


def _as_trained(run: Run) -> Figure:
    steps = [line.step for line in run.ledger if isfinite(line.step.loss)]
    steps = steps[:: -(-len(steps) // _MOST_POINTS)]
    places, losses = [step.step for step in steps], [step.loss for step in steps]
    rates = [step.learning_rate for step in steps]
    x = np.array(places, dtype=np.float32)
    warmup = _warmup_of(run)
    marks = [(float(warmup), "warmup ends")]
    return Figure(
        svg(curves(places, losses, rates, {}, warmup)),
        "As trained",
        f"Loss and learning rate of every step of {run.recipe.name}, from its ledger.",
        view=views.curves(
            [
                views.Panel("training loss", [views.Line("each batch", x, np.array(losses))], marks=marks),
                views.Panel("learning rate", [views.Line("learning rate", x, np.array(rates))], marks=marks),
            ]
        ),
    )


def _losses(columns: Columns) -> Figure:
    return Figure(
        svg(schedules(columns)),
        "With and without warmup",
        "The same first parameters and the same batches; only the learning rate differs. One seed is shown.",
        view=_panels(columns, {"training loss": "loss", "learning rate": "learning_rate"}),
    )


def _updates(columns: Columns) -> Figure:
    return Figure(
        svg(update_sizes(columns, _SHOWN_UPDATES)),
        "The first updates",
        "Below: the mean size of a parameter's update in peak rates. One is the most that Adam's first step can do.",
        view=_panels(columns, {"‖Δθ‖₂": "length", "mean |Δθ| / peak rate": "share"}),
    )


def _panels(columns: Columns, titles: Mapping[str, str]) -> View:
    """The fields of every training, by their titles; the reader chooses the batch."""
    return views.choice(
        "batch",
        {
            column: views.curves(
                [
                    views.Panel(
                        title,
                        [
                            views.Line(name, np.arange(1, len(found.loss) + 1, dtype=np.float32), getattr(found, field))
                            for name, found in trained.items()
                        ],
                    )
                    for title, field in titles.items()
                ]
            )
            for column, trained in columns.items()
        },
    )


def _warmup_of(run: Run) -> int:
    return warmup_steps(run.recipe, run.folder.header["data"]["splits"]["train"]["examples"])


# --- text ------------------------------------------------------------------------------------------------------------


def _trained_text(run: Run) -> str:
    warmup, rates = _warmup_of(run), [line.step.learning_rate for line in run.ledger]
    return (
        f"{run.recipe.name} begins with a learning rate of {rates[0]:.2g}, reaches its peak of {max(rates):.2g} after "
        f"{warmup} steps of warmup, and ends at {rates[-1]:.2g}. The peak is what the middle of the training can bear; "
        "the first steps may not, for two reasons: nothing has been learned yet, so the gradients are large and soon "
        "point elsewhere; and Adam's averages have seen next to nothing."
    )


def _compared_text(columns: Columns) -> Iterator[str]:
    first = {column: trained[_WITHOUT].share for column, trained in columns.items()}
    later = "; ".join(
        f"{column}: {share[0]:.2f} at step 1, {share[_WARMUP - 1]:.2f} at step {_WARMUP}"
        for column, share in first.items()
    )
    yield (
        "Adam divides the mean of the gradients by the root of their mean square. At the first step both hold one "
        "gradient, so the quotient is its sign: every parameter moves by the whole learning rate, whether its gradient "
        "is large or noise. Later, gradients of changing sign cancel in the mean and not in the mean square, and the "
        f"steps get shorter by themselves. Mean update without warmup, in peak rates: {later}. With warmup the first "
        f"one is {1 / _WARMUP:g}."
    )
    yield " ".join(
        [
            f"What does it do to the loss? A small Transformer, {_RECIPE['train.steps']} steps at a peak rate of "
            f"{_RECIPE['optimizer.lr']:g}:",
            *(_verdict(column, trained[_WITH].loss, trained[_WITHOUT].loss) for column, trained in columns.items()),
            "This is one seed at one peak rate; whether it holds is a question for many. With a lower peak there is "
            "less to protect: train with `--set optimizer.lr=1e-3`, with warmup and without, and compare the two.",
        ]
    )


def _verdict(column: str, warmed: NDArray[Any], cold: NDArray[Any]) -> str:
    """Which of two trainings is ahead early on, and which ends lower."""
    last = max(len(warmed) // 10, 1)
    a, b = float(warmed[-last:].mean()), float(cold[-last:].mean())
    column = f"{column[0].upper()}{column[1:]}"
    if not isfinite(b):
        return f"{column}: without warmup the loss is no longer finite, with it {a:.3f} at the end."
    better = "lower with warmup" if a < b else "no lower with warmup"
    return (
        f"{column}: at step {_EARLY} the loss is {warmed[_EARLY - 1]:.2f} with warmup, {cold[_EARLY - 1]:.2f} "
        f"without; the mean of the last {last} is {better}, {a:.3f} against {b:.3f} without."
    )


EXHIBIT = Exhibit(
    "learning-rate-warmup",
    "Learning-rate warmup",
    "Why does the learning rate begin near zero, if the peak is what trains best?",
    fits,
    make,
)
