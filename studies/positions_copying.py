"""What an encoder-decoder can still copy of texts that are longer than those it was trained on, by its positions.

Sources have no causal mask, so that only positions tell their order. Those of the decoder have one, and it is told the
right tokens before each, which tells some of the order even without positions: what it cannot know is where in the
source it has come to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

from copying import copies
from leads import by_seed, lead, over, up
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study
from transformer_variants import TIMES
from translating import Answer, answers, exact_match, held_out, token_accuracy

from glassrun.models.positions import Positions
from glassrun.run import Run

CLAIM = Claim(
    name="positions_copying",
    exhibit="positional-encoding",
    text="Told positions in any way, an encoder-decoder copies texts as long as those that it was trained on better "
    "than without; and in none of these ways does it copy more than a few longer ones whole.",
    source='Vaswani et al. 2017, section 3.5; Kazemnejad et al. 2023, "The Impact of Positional Encoding on Length '
    'Generalization in Transformers"',
)
KINDS = get_args(Positions)
NOTHING = "none"
KIND, LENGTH = "positions", "times the training length"
ACCURACY, MATCH = "right tokens", "exact match"
LONGEST = 16  # characters
KEPT = 0.1  # of the whole texts that are right at the length trained on: who keeps less copies no longer ones
RECIPE = {
    "name": "copying",
    "task": "language-model",
    "data": {"source": "python-topics"},
    "batch": {"size": 64, "shards": 2, "evaluation_size": 256},
    "optimizer": {"kind": "adamw", "lr": 4e-3, "betas": [0.9, 0.98], "weight_decay": 0.01, "clip_norm": 1.0},
    "schedule": {"kind": "warmup-cosine", "warmup_steps": 100},
    "train": {"steps": 600},
}
MODEL = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 64, "num_heads": 4, "d_ff": 128}


def trial(kind: str) -> Trial:
    model = {"import": "transformer_variants:copier", "positions": kind, **MODEL}
    return Trial({KIND: kind}, RECIPE | {"model": model}, prepare=copies(LONGEST, TIMES))


def measure(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:  # noqa: ARG001
    """On held-out texts of each length; of a length that there is none of, no number."""
    assert run is not None, "every trial trains"
    found = [] if run.status == "stopped" else of_new_texts(run)
    for times in range(1, TIMES + 1):
        # An end belongs to a source.
        part = [answer for answer in found if (times - 1) * LONGEST < answer.source_length - 1 <= times * LONGEST]
        yield (
            {LENGTH: times},
            {
                ACCURACY: token_accuracy(part) if part else None,
                MATCH: exact_match(part) if part else None,
            },
        )


def of_new_texts(run: Run) -> list[Answer]:
    """The answers to held-out texts that were not trained on: of the short ones, which are a few words, some were."""
    known, asked = ([source for source, _ in run.dataset.splits[name].pairs] for name in ("train", held_out(run)))
    seen = set(known)
    return [answer for answer, source in zip(answers(run), asked, strict=True) if source not in seen]


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """With every seed and every way to tell positions: at the length trained on more tokens and more whole texts are
    right than without positions; at two to four times that length the share of whole texts that are right is less than
    a tenth of what it is there.

    The rule was written after one seed of sinusoidal, ALiBi, relative positions and none had been seen: that distances
    reach further, as in `positions_length`, is what had been expected, and is not so here.
    """
    kinds = [kind for kind in KINDS if kind != NOTHING]
    tokens, texts = (
        {kind: lead(measurements, value, at(kind, 1), at(NOTHING, 1), scale=100.0) for kind in kinds}
        for value in (ACCURACY, MATCH)
    )
    most = {kind: most_kept(measurements, kind) for kind in kinds}
    first, second = (", ".join(f"{kind} {found}" for kind, found in leads.items()) for leads in (tokens, texts))
    third = ", ".join(f"{kind} {'no number' if share is None else f'{up(share):g}'}" for kind, share in most.items())
    return Verdict(
        all(found.always for found in [*tokens.values(), *texts.values()])
        and all(share is not None and share < KEPT for share in most.values()),
        f"points, {over(measurements)}. At the length trained on right tokens are more than with none by: {first}; "
        f"whole texts by: {second}. Of the whole texts that are right there, longer ones have at most this share, of "
        f"any seed and length: {third}",
    )


def at(kind: str, times: int) -> Setting:
    return {KIND: kind, LENGTH: times}


def most_kept(measurements: Sequence[Measurement], kind: str) -> float | None:
    """The largest share of longer texts that are right, of those at the length trained on; None where that is none."""
    short = by_seed(measurements, MATCH, at(kind, 1))
    shares = []
    for times in range(2, TIMES + 1):
        for seed, right in by_seed(measurements, MATCH, at(kind, times)).items():
            whole = short.get(seed)
            if right is None or not whole:
                return None
            shares.append(right / whole)
    return max(shares, default=None)


if __name__ == "__main__":
    run_study(
        CLAIM,
        [trial(kind) for kind in KINDS],
        measure,
        judge,
        [Panel(value, LENGTH, KIND, percent=True) for value in (ACCURACY, MATCH)],
        trained="An encoder-decoder of 2 + 2 layers, d_model 64, that copies pieces of up to 16 characters of Python's "
        f"reference topics, {RECIPE['train']['steps']} steps, and is measured on held-out pieces that are none of "  # type: ignore[index]
        "these; learned positions start with a standard deviation of 1",
    )
