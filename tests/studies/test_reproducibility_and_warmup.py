"""The studies of reproducibility and of warmup: what their verdicts are of numbers made by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from types import SimpleNamespace
from typing import Any

import endings
import pytest
import reproducibility
import warmup_batch
import warmup_transformer
from study import Measurement

Number = float | None


# --- endings ---------------------------------------------------------------------------------------------------------


def run_of(losses: Sequence[float], metrics: Sequence[dict[str, Any]] = (), status: str = "complete") -> Any:
    ledger = [SimpleNamespace(step=SimpleNamespace(loss=loss)) for loss in losses]
    return SimpleNamespace(ledger=ledger, metrics=list(metrics), status=status)


def test_the_final_loss_is_the_mean_of_the_last_twenty_steps() -> None:
    assert endings.final_loss(run_of([100.0] * 5 + [1.0] * 10 + [2.0] * 10)) == 1.5
    assert endings.final_loss(run_of([3.0, 1.0])) == 2.0
    assert endings.final_loss(run_of([1.0, float("nan")], status="stopped")) is None


def test_held_out_is_the_test_split_after_the_last_step() -> None:
    early = {"step": 1, "split": "test", "loss": 9.0}
    validation, test = {"step": 2, "split": "validation", "loss": 0.5}, {"step": 2, "split": "test", "loss": 0.25}
    assert endings.held_out(run_of([2.0, 1.0], [early, validation, test]), "loss") == 0.25
    assert endings.held_out(run_of([2.0, 1.0], [early, validation]), "loss") == 0.5
    assert endings.held_out(run_of([2.0, 1.0], [early]), "loss") is None
    assert endings.held_out(run_of([2.0, 1.0], [test]), "accuracy") is None


# --- reproducibility -------------------------------------------------------------------------------------------------


def repeated(
    seeded: dict[int, list[str]], drawn: list[str], accuracies: Sequence[Number] = (0.5, 0.75)
) -> list[Measurement]:
    """Chains of the runs of each seed, the last on two workers, and of those that drew theirs."""
    found = [
        Measurement({"workers": 1, "runs": "seed drawn"}, 1, {"accuracy": accuracies[i % len(accuracies)]}, chain)
        for i, chain in enumerate(drawn)
    ]
    for seed, chains in seeded.items():
        for place, chain in enumerate(chains):
            workers = 2 if place == len(chains) - 1 else 1
            found.append(Measurement({"workers": workers, "runs": f"seed {seed}"}, seed, {"accuracy": 0.5}, chain))
            found.append(Measurement({"workers": workers, "runs": f"seed {seed}", "step": 5}, seed, {}, chain))
    return found


def test_one_chain_a_seed_and_no_two_others_alike() -> None:
    verdict = reproducibility.judge(repeated({1: ["a", "a", "a"], 2: ["b", "b", "b"]}, ["c", "d"]))
    assert verdict.supported
    assert verdict.text == (
        "2 of 2 seeds gave one chain in all their 3 runs, on 1 and 2 workers; of 2 runs that drew their seed 2 chains "
        "are different. Those that drew it end with accuracy 62.5 % (50 to 75)"
    )


@pytest.mark.parametrize(
    ("seeded", "drawn"),
    [
        ({1: ["a", "a", "a"], 2: ["b", "b", "x"]}, ["c", "d"]),  # on two workers another
        ({1: ["a", "x", "a"]}, ["c", "d"]),
        ({1: ["a", "a", "a"]}, ["c", "c"]),
        ({1: ["a", "a"], 2: ["a", "a"]}, ["c", "d"]),  # the seed changes nothing
        ({1: ["a", "a"]}, ["a", "d"]),
        ({1: ["", ""]}, ["c", "d"]),
        ({}, ["c", "d"]),
    ],
)
def test_anything_else_is_not_supported(seeded: dict[int, list[str]], drawn: list[str]) -> None:
    assert not reproducibility.judge(repeated(seeded, drawn)).supported


def test_runs_that_stopped_have_a_chain_but_no_result() -> None:
    verdict = reproducibility.judge(repeated({1: ["a", "a"]}, ["c", "d"], accuracies=[None]))
    assert verdict.supported
    assert verdict.text.endswith("None that drew it has a result")


def test_a_curve_has_means_of_equal_parts() -> None:
    run = run_of([float(step) for step in range(1, 17)])
    first, *curve = reproducibility.measure(run, reproducibility.seeded(1, 2), 7)
    assert first[0] == {"runs": "seed 7"}
    assert [(setting["step"], values["training loss"]) for setting, values in curve] == [
        (2 * part, 2 * part - 0.5) for part in range(1, 9)
    ]
    assert reproducibility.seeded(1, 2).workers == 2
    ((level, _), *_) = reproducibility.measure(run, reproducibility.drawn(1), 7)
    assert level == {"runs": "seed drawn"}


# --- warmup, by rate -------------------------------------------------------------------------------------------------

Losses = dict[tuple[float, str], list[Number]]
WARM, WITHOUT, RADAM = warmup_transformer.WARMUP, warmup_transformer.WITHOUT, warmup_transformer.RADAM
LEARNS: Losses = {
    (0.1, WARM): [1.0, 1.0, 1.0],
    (0.1, WITHOUT): [1.0, 1.5, 1.0],
    (0.1, RADAM): [1.0, 1.0, 1.0],
    (0.2, WARM): [0.0, 1.9, 1.0],
    (0.2, WITHOUT): [3.0, None, 1.0],
    (0.2, RADAM): [1.0, 1.0, 3.9],
}


def by_rate(losses: Losses, entropy: float = 4.0) -> list[Measurement]:
    early = "norm of the update, mean of the first 10"
    return [
        Measurement(
            {"peak rate": rate, "start": start},
            seed,
            {
                "final training loss": loss,
                "entropy of a token by itself": entropy,
                early: 6.0 if start == WITHOUT else 1.5,
            },
        )
        for (rate, start), values in losses.items()
        for seed, loss in enumerate(values)
    ]


def test_a_rate_that_only_warmup_bears() -> None:
    verdict = warmup_transformer.judge(by_rate(LEARNS))
    assert verdict.supported
    assert verdict.text == (
        "failed without warmup, with a final loss over 2, at a peak rate of 0.1: 0 of 3 (loss 1 to 1.5), with warmup 0 "
        "(loss 1 to 1), with RAdam 0; 0.2: 2 of 3 (loss 1 to 3), with warmup 0 (loss 0 to 1.9), with RAdam 1. Without "
        "warmup the first 10 updates are 4 times as long (4 to 4)"
    )


@pytest.mark.parametrize(
    "change",
    [
        {(0.2, WITHOUT): [3.0, 1.0, 1.0]},  # one of three is not most
        {(0.2, WARM): [0.0, 2.1, 1.0]},  # one fails with warmup, too
        {(0.2, WARM): [0.0, None, 1.0]},
        {(0.1, WARM): [1.0, 1.0, 3.0]},  # at another rate warmup does harm
        {key: [4.0, 4.5, None] for key in LEARNS},  # nobody learns
        {key: [None, None, None] for key in LEARNS},
        {key: [1.0, 1.0, 1.0] for key in LEARNS},  # everybody does
    ],
)
def test_otherwise_warmup_is_not_supported(change: Losses) -> None:
    assert not warmup_transformer.judge(by_rate(LEARNS | change)).supported


def test_one_seed_is_enough_for_a_verdict() -> None:
    losses: Losses = {(0.2, WARM): [0.0], (0.2, WITHOUT): [None], (0.2, RADAM): [None]}
    verdict = warmup_transformer.judge(by_rate(losses))
    assert verdict.supported
    assert "0.2: 1 of 1 (no loss), with warmup 0 (loss 0 to 0), with RAdam 1" in verdict.text


def test_the_entropy_of_some_counts() -> None:
    assert warmup_transformer.entropy_of([3, 0, 3]) == pytest.approx(log(2))
    assert warmup_transformer.entropy_of([5]) == 0.0
    assert warmup_transformer.entropy_of([2, 1, 1]) == pytest.approx(1.5 * log(2))


def test_an_update_is_told_in_units_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine parameters, one of them not trained: if all others move by half of the rate of 0.1, √8 × 0.05 in all."""
    monkeypatch.setattr(warmup_transformer, "entropy", lambda _: 4.0)
    run = run_of([2.0, 1.0, 1.0])
    moves = [8**0.5 * 0.05, 1.0, float("nan")]
    run.ledger = [
        SimpleNamespace(step=SimpleNamespace(step=step, loss=1.0, learning_rate=rate), update_norm=move)
        for step, rate, move in zip((1, 2, 3), (0.1, 0.0, 0.1), moves, strict=True)
    ]
    parameters = [Parameter(8), Parameter(1, requires_grad=False)]
    run.model = SimpleNamespace(parameters=lambda: parameters)
    first, *shown = warmup_transformer.measure(run, warmup_transformer.trial(0.1, WARM), 1)
    assert first[1]["norm of the update, mean of the first 10"] == pytest.approx((moves[0] + 1.0) / 2)
    ((setting, values),) = shown  # the second step's rate is zero, the third moved to what is no number
    assert setting == {"step": 1}
    assert values == {"norm of the update": moves[0], "update per parameter, in rates": pytest.approx(0.5)}


@dataclass
class Parameter:
    """As many numbers."""

    count: int
    requires_grad: bool = True

    def numel(self) -> int:
        return self.count


# --- warmup, by batch ------------------------------------------------------------------------------------------------

Ends = dict[tuple[int, str], list[Number]]
BETTER: Ends = {
    (16, WITHOUT): [0.5, 0.5],
    (16, WARM): [0.25, 0.75],
    (256, WITHOUT): [1.0, None],
    (256, WARM): [0.5, 0.5],
}


def by_batch(ends: Ends, examples: Callable[[int], float] = lambda _: 320.0) -> list[Measurement]:
    return [
        Measurement(
            {"batch": batch, "start": start},
            seed,
            {"held-out loss": loss, "accuracy": None if loss is None else 1 - loss / 2, "examples": examples(batch)},
        )
        for (batch, start), values in ends.items()
        for seed, loss in enumerate(values)
    ]


def test_a_large_batch_that_gains_by_warmup() -> None:
    verdict = warmup_batch.judge(by_batch(BETTER))
    assert verdict.supported
    assert verdict.text == (
        "warmup lowers the held-out loss of 2 of 2 seeds at a batch of 256, of 1 of 2 seeds at 16, and always by more "
        "at 256. Held-out loss after 320 examples: batch 16 0.5 (0.5 to 0.5), accuracy 75.00 % to 75.00 %, with warmup "
        "0.5 (0.25 to 0.75), accuracy 62.50 % to 87.50 %; batch 256 1 (1 to 1), accuracy 50.00 % to 50.00 %, 1 of 2 "
        "stopped, with warmup 0.5 (0.5 to 0.5), accuracy 75.00 % to 75.00 %"
    )


@pytest.mark.parametrize(
    "change",
    [
        {(256, WARM): [0.5, None]},  # both stopped: no gain
        {(256, WARM): [1.5, 0.5]},
        {(256, WARM): [1.0, 0.5]},
        {(16, WITHOUT): [1.5, 0.5]},  # the small batch gains more
        {(16, WITHOUT): [None, None], (16, WARM): [1.0, 1.0]},
        {key: [None, None] for key in BETTER},
    ],
)
def test_otherwise_it_is_not_supported(change: Ends) -> None:
    assert not warmup_batch.judge(by_batch(BETTER | change)).supported


def test_batches_that_saw_other_numbers_of_examples_are_not_compared() -> None:
    """As with --set train.steps=20, which all runs get."""
    verdict = warmup_batch.judge(by_batch(BETTER, lambda batch: 20.0 * batch))
    assert not verdict.supported
    assert verdict.text == "the runs cannot be compared: they saw 320 or 5120 examples"


def test_the_batches_see_as_many_examples() -> None:
    for start in (WARM, WITHOUT):
        small, large = (warmup_batch.trial(batch, start).overrides for batch in (16, 256))
        assert small["train.steps"] * 16 == large["train.steps"] * 256
        assert small["optimizer"]["lr"] * 16 == pytest.approx(large["optimizer"]["lr"])
        assert small["batch"]["size"] // small["batch"]["shards"] == large["batch"]["size"] // large["batch"]["shards"]
