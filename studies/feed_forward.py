"""A language model's feed-forward networks: narrow, linear, left out, and replaced by more attention."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from leads import lead, over
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study
from transformer_variants import DEEPER, KINDS, LINEAR, NARROW, NONE, USUAL

from glassrun.look.stored import select
from glassrun.models.registry import build
from glassrun.run import Run

CLAIM = Claim(
    name="feed_forward",
    exhibit="feed-forward-network",
    text="A Transformer needs its feed-forward networks, wide and not linear: with d_ff = d_model, without the "
    "activation, or without the networks its loss is higher, also where more attention layers have as many parameters.",
    source='Vaswani et al. 2017, section 3.3; Geva et al. 2021, "Transformer Feed-Forward Layers Are Key-Value '
    'Memories"',
)
KIND, LOSS, BITS, PARAMETERS = "feed-forward network", "loss", "bits per character", "parameters"
STEPS = 800
MODEL = {"num_layers": 2, "num_heads": 4, "d_model": 64}


def trial(kind: str) -> Trial:
    model = {"import": "transformer_variants:language_model", "feed_forward": kind, **MODEL}
    settings = {"model": model, "train.steps": STEPS, "optimizer.lr": 3e-3, "schedule.final_lr": 0.0}
    return Trial({KIND: kind}, "python-lm", settings)


def measure(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:  # noqa: ARG001
    """On held-out text after the last step."""
    assert run is not None, "every trial trains"
    found: dict[str, float | None] = dict.fromkeys((LOSS, BITS))
    if run.status != "stopped":
        last = run.metrics[-1]
        found = {LOSS: last["loss"], BITS: last["bits_per_character"]}
    start = build(run.recipe.model, run.dataset.facts, seed)
    yield {}, found | {PARAMETERS: float(sum(parameter.numel() for parameter in start.parameters()))}


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """With every seed the usual network has a lower loss than each of the four others; that of a run that diverged is
    infinite.
    """
    leads = {
        kind: lead(measurements, LOSS, {KIND: USUAL}, {KIND: kind}, scale=-1.0, missing=inf)
        for kind in KINDS
        if kind != USUAL
    }
    usual, deeper = (select(measurements, PARAMETERS, {KIND: kind})[0] for kind in (USUAL, DEEPER))
    return Verdict(
        all(found.always for found in leads.values()),
        f"{over(measurements)}: against the usual network, the loss in nats a token is higher by {leads[NARROW]} with "
        f"d_ff = d_model, {leads[LINEAR]} without the activation, {leads[NONE]} with no network, and {leads[DEEPER]} "
        f"with none but three times the layers, {deeper:,.0f} parameters against {usual:,.0f}",
    )


if __name__ == "__main__":
    run_study(
        CLAIM,
        [trial(kind) for kind in KINDS],
        measure,
        judge,
        [Panel(LOSS, KIND), Panel(PARAMETERS, KIND)],
        trained=f"A language model of 2 layers, d_model 64, on the characters of Python's help, {STEPS} steps",
    )
