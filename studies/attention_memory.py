"""Attention over every source position against one vector for the whole source, by the source's length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from leads import lead, over
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study
from translating import THIRDS, answers, exact_match, thirds

from glassrun.run import Run

CLAIM = Claim(
    name="attention_memory",
    exhibit="attention",
    text="A decoder that attends to every source position translates long sources better than one that gets their "
    "mean, and its lead is larger there than at short ones.",
    source='Bahdanau et al. 2015, section 5.1; Cho et al. 2014, "On the Properties of Neural Machine Translation"',
)
MEMORIES = ("every position", "their mean")
LENGTH, MEMORY = "sources", "the decoder sees"
MATCH, TOKENS = "exact match", "source tokens"
MODEL = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 64, "num_heads": 4, "d_ff": 128}


def trial(memory: str) -> Trial:
    model = {"import": "variants:encoder_decoder", "memory": memory, **MODEL}
    return Trial({MEMORY: memory}, "sentences-transformer", {"model": model, "train.steps": 600})


def measure(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:  # noqa: ARG001
    """On the held-out pairs, by thirds of their sources' lengths; of one length, there is but one third."""
    assert run is not None, "every trial trains"
    parts = dict.fromkeys(THIRDS) if run.status == "stopped" else thirds(answers(run))
    for length, part in parts.items():
        tokens = fmean(answer.source_length for answer in part) if part else None
        yield {LENGTH: length}, {MATCH: exact_match(part) if part else None, TOKENS: tokens}


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """Every seed is better at the longest sources, and has a larger lead there than at the shortest."""
    shortest, longest = (
        lead(measurements, MATCH, *({MEMORY: memory, LENGTH: length} for memory in MEMORIES), scale=100.0)
        for length in (THIRDS[0], THIRDS[-1])
    )
    return Verdict(
        longest.always and longest.less(shortest).always,
        f"{over(measurements)}: attention leads by {longest} points of exact match at the longest third of sources, "
        f"by {shortest} at the shortest; the first lead is the larger one by {longest.less(shortest)}",
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
