"""Attention over every source position against one vector for the whole source, by the source's length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study
from translating import answers, exact_match, thirds

from glassrun.look.stored import select, spread
from glassrun.run import Run

CLAIM = Claim(
    name="attention_memory",
    exhibit="attention",
    text="A decoder that attends to every source position translates long sources better than one that gets their "
    "mean, and its lead is larger there than at short ones.",
    source='Bahdanau et al. 2015, section 5.1; Cho et al. 2014, "On the Properties of Neural Machine Translation"',
)
MEMORIES = ("every position", "their mean")
LENGTH, MEMORY, MATCH = "source tokens", "the decoder sees", "exact match"
MODEL = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 64, "num_heads": 4, "d_ff": 128}


def trial(memory: str) -> Trial:
    model = {"import": "variants:encoder_decoder", "memory": memory, **MODEL}
    return Trial({MEMORY: memory}, "sentences-transformer", {"model": model, "train.steps": 600})


def measure(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:  # noqa: ARG001
    assert run is not None, "every trial trains"
    for length, part in thirds(answers(run)).items():
        yield {LENGTH: length}, {MATCH: exact_match(part)}


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """Every seed is better at the longest sources, and the mean lead is larger there than at the shortest."""
    lengths = list(dict.fromkeys(m.setting[LENGTH] for m in measurements))
    leads = {}
    for length in lengths:
        full, mean = (select(measurements, MATCH, {MEMORY: memory, LENGTH: length}) for memory in MEMORIES)
        leads[length] = [a - b for a, b in zip(full, mean, strict=True) if a is not None and b is not None]
    shortest, longest = spread(leads[lengths[0]]), spread(leads[lengths[-1]])
    assert shortest is not None, "every run evaluates"
    assert longest is not None, "every run evaluates"
    return Verdict(
        longest.least > 0 and longest.mean > shortest.mean,
        f"attention leads by {100 * longest.mean:.1f} points of exact match ({100 * longest.least:.1f} to "
        f"{100 * longest.greatest:.1f} over {longest.count} seeds) at sources of {lengths[-1]} tokens, by "
        f"{100 * shortest.mean:.1f} ({100 * shortest.least:.1f} to {100 * shortest.greatest:.1f}) at {lengths[0]}",
    )


if __name__ == "__main__":
    run_study(
        CLAIM,
        [trial(memory) for memory in MEMORIES],
        measure,
        judge,
        [Panel(MATCH, LENGTH, MEMORY, percent=True)],
        trained="An encoder-decoder of 2 + 2 layers, d_model 64, on the sentences of a small grammar, 600 steps",
    )
