"""A post-norm Transformer under Adam with and without warmup, at several rates: which runs learn, and how far each
step moves the parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite, log
from statistics import fmean

import torch
from endings import final_loss, held_out
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study

from glassrun.look.stored import select, spread
from glassrun.models.registry import build
from glassrun.run import Run
from glassrun.tasks.translate import Translate

CLAIM = Claim(
    name="warmup_transformer",
    exhibit="learning-rate-warmup",
    text="There are rates at which a post-norm Transformer learns under Adam with warmup, and without it mostly "
    "does not.",
    source='Vaswani et al. 2017, section 5.3; Liu et al. 2020, "On the Variance of the Adaptive Learning Rate and '
    'Beyond", sections 3 and 4',
)
RATE, START, STEP = "peak rate", "start", "step"
WARMUP, SHORT, WITHOUT, RADAM = "warmup", "short warmup", "no warmup", "no warmup, RAdam"
STARTS = (WARMUP, SHORT, WITHOUT, RADAM)
LOSS, MATCH, ENTROPY = "final training loss", "exact match", "entropy of a token by itself"
MOVED, SQUARE = "norm of the update", "mean square of the update, in squared rates"
RATES = (1e-3, 4e-3, 8e-3)
SHOWN_RATE = 4e-3
STEPS, WARMUP_STEPS, SHORT_STEPS = 400, 100, 25
EARLY = 10  # steps
_SHOWN_STEPS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 300)
_EXAMPLES = 4096  # whose tokens are counted
MODEL = {
    "kind": "encoder-decoder",
    "encoder_layers": 4,
    "decoder_layers": 4,
    "d_model": 64,
    "num_heads": 4,
    "d_ff": 128,
    "norm": "post",
    "dropout": 0.0,
}


def trial(rate: float, start: str) -> Trial:
    optimizer = {
        "kind": "radam" if start == RADAM else "adam",
        "lr": rate,
        "betas": [0.9, 0.98],
        "weight_decay": 0.0,
        "clip_norm": None,  # it would bound the first gradients in its own way
    }
    overrides = {
        "model": MODEL,
        "optimizer": optimizer,
        "schedule": {
            "kind": "warmup-cosine",
            "warmup_steps": {WARMUP: WARMUP_STEPS, SHORT: SHORT_STEPS}.get(start, 0),
        },
        "batch": {"size": 32, "shards": 1, "evaluation_size": 256},
        "train.steps": STEPS,
        "record.update_norm": True,
    }
    return Trial({RATE: rate, START: start}, "sentences-transformer", overrides)


def measure(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:  # noqa: ARG001
    assert run is not None, "every trial trains"
    moves = [line.update_norm for line in run.ledger]
    early = [move for move in moves[:EARLY] if move is not None and isfinite(move)]
    yield (
        {},
        {
            LOSS: final_loss(run),
            MATCH: held_out(run, "exact_match"),
            ENTROPY: entropy(run),
            f"{MOVED}, mean of the first {EARLY}": fmean(early) if early else None,
        },
    )
    # Not the trained ones: a run that stopped may have no checkpoint.
    model = build(run.recipe.model, run.dataset.facts, seed)
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    for line, move in zip(run.ledger, moves, strict=True):
        if line.step.step in _SHOWN_STEPS and move is not None and isfinite(move) and line.step.learning_rate > 0:
            yield (
                {STEP: line.step.step},
                # Over the parameters: its variance there, as far as the mean is zero, for signs are mixed.
                {MOVED: move, SQUARE: (move / line.step.learning_rate) ** 2 / parameters},
            )


def entropy(run: Run) -> float:
    """Of a target token when nothing else is known, in nats: the loss of the best guess that sees no other token."""
    task, examples = Translate(run.dataset), run.dataset.splits["train"]
    batch = task.collate([examples.example(index, 0) for index in range(min(len(examples), _EXAMPLES))])
    targets = batch["target"][:, 1:]
    return entropy_of(torch.bincount(targets[targets != task.padding]).tolist())


def entropy_of(counts: Sequence[int]) -> float:
    """-Σ p log p of the shares of some counts."""
    total = sum(counts)
    return -sum(count / total * log(count / total) for count in counts if count)


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """At some rate every seed learns with warmup while most fail without, and at no rate do more fail with it.

    A run fails where it stops as its loss is not finite, or where its final loss is less than half of the way from the
    entropy of a token by itself, which needs no attention and no source, down to the lowest final loss of all runs.
    """
    runs = [found for found in measurements if LOSS in found.values]
    steps = [found for found in measurements if STEP in found.setting]
    known = [loss for loss in select(runs, LOSS, {}) if loss is not None]
    uninformed = fmean(found for found in select(runs, ENTROPY, {}) if found is not None)
    best = min(known, default=uninformed)
    limit = (uninformed + best) / 2
    if best >= uninformed:
        return Verdict(False, f"no run has a final loss below {uninformed:.3g}, that of a guess from no other token")

    def failed(rate: float, start: str) -> list[bool]:
        return [loss is None or loss > limit for loss in select(runs, LOSS, {RATE: rate, START: start})]

    rates = sorted({float(found.setting[RATE]) for found in runs})
    lost = {rate: {start: sum(failed(rate, start)) for start in STARTS} for rate in rates}
    count = {rate: len(failed(rate, WITHOUT)) for rate in rates}
    decisive = [rate for rate in rates if lost[rate][WARMUP] == 0 and 2 * lost[rate][WITHOUT] > count[rate]]
    never_worse = all(found[WARMUP] <= found[WITHOUT] for found in lost.values())
    shown = "; ".join(
        f"{rate:g}: {found[WITHOUT]} of {count[rate]} ({_losses(runs, rate, WITHOUT)}), with warmup {found[WARMUP]} "
        f"({_losses(runs, rate, WARMUP)}), with a short one {found[SHORT]}, with RAdam {found[RADAM]}"
        for rate, found in lost.items()
    )
    return Verdict(
        bool(decisive) and never_worse,
        f"failed without warmup, with a final loss over {limit:.3g}, at a peak rate of {shown}. {_early(runs, steps)}",
    )


def _losses(runs: Sequence[Measurement], rate: float, start: str) -> str:
    found = spread(select(runs, LOSS, {RATE: rate, START: start}))
    return "no loss" if found is None else f"loss {found.least:.3g} to {found.greatest:.3g}"


def _early(runs: Sequence[Measurement], steps: Sequence[Measurement]) -> str:
    """Adam's first steps: how far they go, and how large they are beside their rate."""
    parts = []
    for start in (WITHOUT, WARMUP):
        moves = spread(select(runs, f"{MOVED}, mean of the first {EARLY}", {START: start, RATE: SHOWN_RATE}))
        if moves is not None:
            parts.append(f"{start} {moves.mean:.3g} ({moves.least:.3g} to {moves.greatest:.3g})")
    squares = []
    for step in (1, 10, 100):
        ends = [
            spread(select(steps, SQUARE, {RATE: SHOWN_RATE, START: start, STEP: step})) for start in (WITHOUT, WARMUP)
        ]
        known = [f"{found.mean:.2g}" for found in ends if found is not None]
        if len(known) == len(ends):
            squares.append(f"{known[0]} and {known[1]} at step {step}")
    return (
        f"At {SHOWN_RATE:g} the first {EARLY} updates have a mean norm of {', '.join(parts) or 'nothing'}; their mean "
        f"square over the parameters, in squares of the step's rate, is without and with warmup "
        f"{', '.join(squares) or 'not known'}"
    )


if __name__ == "__main__":
    run_study(
        CLAIM,
        [trial(rate, start) for rate in RATES for start in STARTS],
        measure,
        judge,
        [
            Panel(LOSS, RATE, START, log_x=True),
            Panel(MOVED, STEP, START, {RATE: SHOWN_RATE}, f"peak rate {SHOWN_RATE:g}", log_x=True, log_y=True),
            Panel(SQUARE, STEP, START, {RATE: SHOWN_RATE}, f"peak rate {SHOWN_RATE:g}", log_x=True, log_y=True),
        ],
        seeds=(1, 2, 3, 4, 5),
        trained="An encoder-decoder of 4 + 4 post-norm layers, d_model 64, on the sentences of a small grammar, "
        f"{STEPS} steps of 32 pairs, by Adam, and without warmup by RAdam as well, with no clipping, decay or dropout; "
        f"warmup over {WARMUP_STEPS} steps, over {SHORT_STEPS} or none, then half a cosine",
    )
