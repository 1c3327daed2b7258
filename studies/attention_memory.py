"""Attention over every source position against one vector for the whole source, by the source's length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from leads import Lead, lead, over
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study
from translating import THIRDS, answers, exact_match, thirds, token_accuracy

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
MATCH, ACCURACY, TOKENS = "exact match", "token accuracy", "source tokens"
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
        match, accuracy = (exact_match(part), token_accuracy(part)) if part else (None, None)
        yield {LENGTH: length}, {MATCH: match, ACCURACY: accuracy, TOKENS: tokens}


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """Every seed is better at the longest sources, and has a larger lead there than at the shortest.

    In whole texts and in single tokens: were each token right or wrong by itself, at one rate, whole texts would be
    right less often the longer they are, and so would a lead in them grow by itself.
    """

    def leads(value: str) -> tuple[Lead, Lead]:
        settings = ([{MEMORY: memory, LENGTH: length} for memory in MEMORIES] for length in (THIRDS[0], THIRDS[-1]))
        shortest, longest = (lead(measurements, value, *pair, scale=100.0) for pair in settings)
        return shortest, longest

    found = {value: leads(value) for value in (MATCH, ACCURACY)}
    words = "; ".join(
        f"by {longest} points of {value} at the longest third of sources, by {shortest} at the shortest, and so by "
        f"{longest.less(shortest)} more"
        for value, (shortest, longest) in found.items()
    )
    return Verdict(
        all(longest.always and longest.less(shortest).always for shortest, longest in found.values()),
        f"{over(measurements)}: attention leads {words}",
    )


if __name__ == "__main__":
    run_study(
        CLAIM,
        [trial(memory) for memory in MEMORIES],
        measure,
        judge,
        [Panel(value, LENGTH, MEMORY, percent=True) for value in (MATCH, ACCURACY)],
        trained="An encoder-decoder of 2 + 2 layers, d_model 64, on the sentences of a small grammar, 600 steps",
    )
