"""What an encoder keeps beyond the length that it was trained on, by how it is told the places of its tokens.

The encoder fills gaps in a text, so that nothing but its positions tells it the order of the tokens: it has no causal
mask, which would tell some of it. It is trained on windows of `data.context` tokens, and the same held-out text is read
in windows of that length and of two to four times as many.

Every model can compute at all lengths: the tables of sinusoidal and rotary positions reach as far, and learned
positions have rows there, which no training window has moved. Nor has one moved what `t5` would learn of distances that
no training window has; with `relative` all above 16 share one vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import get_args

import torch
from leads import Lead, lead, over
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study
from torch import nn
from transformer_variants import TIMES

from glassrun.data.text import EvaluationWindows
from glassrun.models.positions import Positions
from glassrun.run import Run
from glassrun.tasks.masked_language_model import MaskedLanguageModelling

CLAIM = Claim(
    name="positions_length",
    exhibit="positional-encoding",
    text="Without positions an encoder reads a set of tokens, and fills gaps worse; beyond the length trained on, "
    "ALiBi and clipped distances lose less than sinusoidal and learned positions, which are added to the tokens.",
    source="Vaswani et al. 2017, section 3.5; Shaw et al. 2018, section 3.2; Press et al. 2022, section 3",
)
KINDS = get_args(Positions)
DISTANCES, PLACES, NOTHING = ("alibi", "relative"), ("sinusoidal", "learned"), "none"
KIND, LENGTH = "positions", "times the training length"
LOSS, ACCURACY = "nats a gap", "right tokens"
HELD_OUT = 2**15  # tokens of the held-out text that are read at each length
BATCH = 2**13  # of them at once
RECIPE = {
    "name": "positions",
    "task": "masked-language-model",
    "data": {"source": "python-topics", "context": 32},
    "batch": {"size": 64, "shards": 2, "evaluation_size": 256},
    "optimizer": {"kind": "adamw", "lr": 3e-3, "betas": [0.9, 0.98], "weight_decay": 0.01, "clip_norm": 1.0},
    "schedule": {"kind": "warmup-cosine", "warmup_steps": 100},
    "train": {"steps": 600},
}
MODEL = {"num_layers": 2, "d_model": 64, "num_heads": 4, "d_ff": 128, "norm": "pre"}


def trial(kind: str) -> Trial:
    model = {"import": "transformer_variants:long_encoder", "positions": kind, **MODEL}
    return Trial({KIND: kind}, RECIPE | {"model": model})


def measure(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:  # noqa: ARG001
    """On the same held-out tokens, in windows of each length."""
    assert run is not None, "every trial trains"
    task, held_out = MaskedLanguageModelling(run.dataset), run.dataset.splits["validation"]
    for times in range(1, TIMES + 1):
        if run.status == "stopped":
            yield {LENGTH: times}, dict.fromkeys((LOSS, ACCURACY))
            continue
        windows = replace(held_out, tokens=held_out.tokens[: HELD_OUT + 1], context=times * held_out.context)
        found = evaluated(run.model, task, windows)
        yield {LENGTH: times}, {LOSS: found["loss"], ACCURACY: found["token_accuracy"]}


@torch.no_grad()
def evaluated(model: nn.Module, task: MaskedLanguageModelling, windows: EvaluationWindows) -> Mapping[str, float]:
    """The task's metrics over all windows."""
    sums: dict[str, float] = {}
    count = max(1, BATCH // windows.context)
    for start in range(0, len(windows), count):
        batch = [windows.example(index, 0) for index in range(start, min(start + count, len(windows)))]
        for name, value in task.evaluate(model, task.collate(batch)).items():
            sums[name] = sums.get(name, 0.0) + value
    return task.metrics(sums)


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """With every seed two things hold. At the length trained on, every way to tell positions has a lower loss than
    none. At four times that length, ALiBi and clipped distances each have a lower loss than sinusoidal and than learned
    positions, and it has grown by less since the length trained on (else it might only have been lower all along).

    Of all kinds the growth is reported, also of rotary positions and T5's, about which the claim says nothing.
    """
    in_order = {kind: lower(measurements, kind, NOTHING, 1) for kind in KINDS if kind != NOTHING}
    pairs = [(kind, other) for kind in DISTANCES for other in PLACES]
    ahead = {pair: lower(measurements, *pair, TIMES) for pair in pairs}
    less = {pair: grown(measurements, pair[1]).less(grown(measurements, pair[0])) for pair in pairs}
    first = ", ".join(f"{kind} {found}" for kind, found in in_order.items())
    second = ", ".join(f"{kind} against {other} {found}" for (kind, other), found in ahead.items())
    third = ", ".join(f"{kind} against {other} {found}" for (kind, other), found in less.items())
    fourth = ", ".join(f"{kind} {grown(measurements, kind)}" for kind in KINDS)
    return Verdict(
        all(found.always for found in [*in_order.values(), *ahead.values(), *less.values()]),
        f"nats a gap, {over(measurements)}. At the length trained on the loss is lower than with none by: {first}. At "
        f"{TIMES} times that length it is lower by: {second}. It has grown less since the length trained on by: "
        f"{third}. It has grown by: {fourth}",
    )


def grown(measurements: Sequence[Measurement], kind: str) -> Lead:
    """By how much one kind's loss is higher at the longest windows than at the length trained on."""
    return lead(measurements, LOSS, {KIND: kind, LENGTH: TIMES}, {KIND: kind, LENGTH: 1})


def lower(measurements: Sequence[Measurement], kind: str, other: str, times: int) -> Lead:
    """By how much one kind's loss is lower than another's in windows so many times as long."""
    return lead(measurements, LOSS, {KIND: kind, LENGTH: times}, {KIND: other, LENGTH: times}, scale=-1.0)


if __name__ == "__main__":
    run_study(
        CLAIM,
        [trial(kind) for kind in KINDS],
        measure,
        judge,
        [Panel(LOSS, LENGTH, KIND), Panel(ACCURACY, LENGTH, KIND, percent=True)],
        trained="An encoder of 2 layers, d_model 64, that fills gaps in windows of 32 characters of Python's reference "
        f"topics, {RECIPE['train']['steps']} steps; embeddings and learned positions start with a standard deviation "  # type: ignore[index]
        "of 1, and the output layer has weights of its own",
    )
