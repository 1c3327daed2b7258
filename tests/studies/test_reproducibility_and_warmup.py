"""The studies of reproducibility and of warmup: what their verdicts are of numbers made by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import endings
import pytest
import reproducibility
import warmup_batch
import warmup_transformer
from study import Measurement

import glassrun
from glassrun import config
from glassrun.errors import NotFinite
from in_process import trained

Number = float | None


# --- endings ---------------------------------------------------------------------------------------------------------


def run_of(losses: Sequence[float], metrics: Sequence[dict[str, Any]] = (), status: str = "complete") -> Any:
    ledger = [SimpleNamespace(step=SimpleNamespace(loss=loss)) for loss in losses]
    recipe = SimpleNamespace(train=SimpleNamespace(steps=len(losses)), seed=11, model=None)
    return SimpleNamespace(ledger=ledger, metrics=list(metrics), status=status, recipe=recipe)


def test_the_final_loss_is_the_mean_of_the_last_twenty_steps() -> None:
    assert endings.final_loss(run_of([100.0] * 5 + [1.0] * 10 + [2.0] * 10)) == 1.5
    assert endings.final_loss(run_of([3.0, 1.0])) == 2.0
    assert endings.final_loss(run_of([1.0, float("nan")], status="stopped")) is None


def test_held_out_is_the_mean_over_all_that_was_not_trained_on() -> None:
    early = {"step": 1, "split": "test", "examples": 1, "loss": 9.0}
    validation = {"step": 2, "split": "validation", "examples": 3, "loss": 0.5}
    test = {"step": 2, "split": "test", "examples": 1, "loss": 0.25}
    assert endings.held_out(run_of([2.0, 1.0], [early, validation, test]), "loss") == 1.75 / 4
    assert endings.held_out(run_of([2.0, 1.0], [early, validation]), "loss") == 0.5
    assert endings.held_out(run_of([2.0, 1.0], [early]), "loss") is None
    assert endings.held_out(run_of([2.0, 1.0], [validation, test | {"loss": None}]), "loss") is None
    assert endings.held_out(run_of([2.0, 1.0], [test], "stopped"), "loss") is None


# --- reproducibility -------------------------------------------------------------------------------------------------


def repeated(
    seeded: dict[int, list[str]], drawn: list[Number], losses: Sequence[Number] = (7.0, 8.0)
) -> list[Measurement]:
    """Chains of the runs of each seed, the last on two workers, with the seeds' losses; the losses of drawn seeds."""
    found = [
        Measurement({"workers": 1, "runs": "seed drawn"}, 1, {"final training loss": loss, "accuracy": loss}, f"r{i}")
        for i, loss in enumerate(drawn)
    ]
    for loss, (seed, chains) in zip(losses, seeded.items(), strict=False):
        for place, chain in enumerate(chains):
            level = {"workers": 2 if place == len(chains) - 1 else 1, "runs": f"seed {seed}"}
            found.append(Measurement(level, seed, {"final training loss": loss}, chain))
            found.append(Measurement({**level, "step": 5}, seed, {"training loss": loss}, chain))
    return found


def test_one_chain_a_seed_and_no_two_seeds_alike() -> None:
    verdict = reproducibility.judge(repeated({1: ["a", "a", "a"], 2: ["b", "b", "b"]}, [0.5, 0.75]))
    assert verdict.supported
    assert verdict.text == (
        "2 of 2 seeds gave one chain in all their 3 runs, on 1 and 2 workers; 2 runs that drew their seed and one of "
        "each other seed end with 4 different training losses. Those that drew it end with accuracy 62.5 % (50 to 75), "
        "final training loss 0.625 (0.5 to 0.75)"
    )


@pytest.mark.parametrize(
    ("seeded", "drawn", "losses"),
    [
        ({1: ["a", "a", "a"], 2: ["b", "b", "x"]}, [1.0, 2.0], (7.0, 8.0)),  # on two workers another
        ({1: ["a", "x", "a"]}, [1.0, 2.0], (7.0,)),
        ({1: ["a", "a", "a"]}, [1.0, 1.0], (7.0,)),  # drawn seeds that change nothing
        ({1: ["a", "a"], 2: ["b", "b"]}, [1.0, 2.0], (7.0, 7.0)),  # the chains differ by the seed alone
        ({1: ["a", "a"]}, [7.0, 2.0], (7.0,)),
        ({1: ["a", "a"]}, [1.0, None], (7.0,)),  # one that stopped shows nothing
        ({1: ["", ""]}, [1.0, 2.0], (7.0,)),
        ({}, [1.0, 2.0], ()),
    ],
)
def test_anything_else_is_not_supported(
    seeded: dict[int, list[str]], drawn: list[Number], losses: Sequence[Number]
) -> None:
    assert not reproducibility.judge(repeated(seeded, drawn, losses)).supported


def test_a_curve_has_means_of_equal_parts() -> None:
    run = run_of([float(step) for step in range(1, 17)])
    first, *curve = reproducibility.measure(run, reproducibility.seeded(1, 2), 7)
    assert first[0] == {"runs": "seed 7"}
    assert [(setting["step"], values["training loss"]) for setting, values in curve] == [
        (2 * part, 2 * part - 0.5) for part in range(1, 9)
    ]
    assert reproducibility.seeded(1, 2).workers == 2
    (level, _), (drawn, _), *_ = reproducibility.measure(run, reproducibility.drawn(1), 7)
    assert level == {"runs": "seed drawn"}
    assert drawn == {"runs": "seed drawn", "the drawn seed": "11"}


# --- warmup, by rate -------------------------------------------------------------------------------------------------

SQUARE = "mean square of the update, in squared rates"
Losses = dict[tuple[float, str], list[Number]]
WARM, SHORT = warmup_transformer.WARMUP, warmup_transformer.SHORT
WITHOUT, RADAM = warmup_transformer.WITHOUT, warmup_transformer.RADAM
LEARNS: Losses = {
    (0.1, WARM): [1.0, 1.0, 1.0],
    (0.1, WITHOUT): [1.0, 1.5, 1.0],
    (0.1, SHORT): [1.0, 1.0, 1.0],
    (0.1, RADAM): [1.0, 1.0, 1.0],
    (0.2, WARM): [0.0, 1.9, 1.0],
    (0.2, WITHOUT): [3.0, None, 1.0],
    (0.2, SHORT): [3.0, 1.0, 1.0],
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


def test_a_rate_that_only_warmup_bears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmup_transformer, "SHOWN_RATE", 0.2)
    squares = [
        Measurement({"peak rate": rate, "start": start, "step": 10}, 1, {SQUARE: square})
        for rate, start, square in ((0.1, WITHOUT, 7.0), (0.2, WITHOUT, 0.5), (0.1, WARM, 9.0), (0.2, WARM, 0.25))
    ]
    verdict = warmup_transformer.judge([*by_rate(LEARNS), *squares])
    assert verdict.supported
    assert verdict.text == (
        "failed without warmup, with a final loss over 2, at a peak rate of 0.1: 0 of 3 (loss 1 to 1.5), with warmup 0 "
        "(loss 1 to 1), with a short one 0, with RAdam 0; 0.2: 2 of 3 (loss 1 to 3), with warmup 0 (loss 0 to 1.9), "
        "with a short one 1, with RAdam 1. At 0.2 the first 10 updates have a mean norm of no warmup 6 (6 to 6), "
        "warmup 1.5 (1.5 to 1.5); their mean square over the parameters, in squares of the step's rate, is without and "
        "with warmup 0.5 and 0.25 at step 10"
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
    losses: Losses = {(0.2, WARM): [0.0], (0.2, SHORT): [1.0], (0.2, WITHOUT): [None], (0.2, RADAM): [None]}
    verdict = warmup_transformer.judge(by_rate(losses))
    assert verdict.supported
    assert "0.2: 1 of 1 (no loss), with warmup 0 (loss 0 to 0), with a short one 0, with RAdam 1" in verdict.text


def test_the_entropy_of_some_counts() -> None:
    assert warmup_transformer.entropy_of([3, 0, 3]) == pytest.approx(log(2))
    assert warmup_transformer.entropy_of([5]) == 0.0
    assert warmup_transformer.entropy_of([2, 1, 1]) == pytest.approx(1.5 * log(2))


def test_an_update_is_told_in_units_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine parameters, one of them not trained: if all others move by half of the rate of 0.1, √8 × 0.05 in all.

    The run stopped, so there is no checkpoint of it to count them in.
    """
    monkeypatch.setattr(warmup_transformer, "entropy", lambda _: 4.0)
    parameters = [Parameter(8), Parameter(1, requires_grad=False)]
    monkeypatch.setattr(warmup_transformer, "build", lambda *_: SimpleNamespace(parameters=lambda: parameters))
    run = run_of([2.0, 1.0, 1.0], status="stopped")
    run.dataset = SimpleNamespace(facts={})
    moves = [8**0.5 * 0.05, 1.0, float("nan")]
    run.ledger = [
        SimpleNamespace(step=SimpleNamespace(step=step, loss=1.0, learning_rate=rate), update_norm=move)
        for step, rate, move in zip((1, 2, 3), (0.1, 0.0, 0.1), moves, strict=True)
    ]
    first, *shown = warmup_transformer.measure(run, warmup_transformer.trial(0.1, WARM), 1)
    assert first[1]["norm of the update, mean of the first 10"] == pytest.approx((moves[0] + 1.0) / 2)
    ((setting, values),) = shown  # the second step's rate is zero, the third moved to what is no number
    assert setting == {"step": 1}
    assert values == {"norm of the update": moves[0], SQUARE: pytest.approx(0.25)}


def test_a_run_that_stopped_is_measured(tmp_path: Path) -> None:
    trial = warmup_transformer.trial(1e30, WITHOUT)
    small = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 8, "num_heads": 1, "d_ff": 8}
    recipe = config.load(
        "sentences-transformer",
        {**trial.overrides, "model": {**warmup_transformer.MODEL, **small}, "train.steps": 4},
    )
    with pytest.raises(NotFinite):
        trained(recipe.plain(), tmp_path / "run")
    run = glassrun.load(tmp_path / "run")
    assert run.status == "stopped"
    (_, values), *_ = warmup_transformer.measure(run, trial, 1)
    assert values["final training loss"] is None
    assert values["entropy of a token by itself"] > 0


@dataclass
class Parameter:
    """As many numbers."""

    count: int
    requires_grad: bool = True

    def numel(self) -> int:
        return self.count


# --- warmup, by batch ------------------------------------------------------------------------------------------------

Ends = dict[tuple[int, float, str], list[Number]]
BETTER: Ends = {
    (16, 0.1, WITHOUT): [0.5, 0.5],
    (16, 0.1, WARM): [0.25, 0.75],
    (256, 0.1, WITHOUT): [1.0, None],
    (256, 0.1, WARM): [0.5, 0.5],
    (16, 0.2, WITHOUT): [0.5, 0.5],
    (16, 0.2, WARM): [0.5, 0.5],
    (256, 0.2, WITHOUT): [1.0, 1.0],
    (256, 0.2, WARM): [0.5, 1.5],
}


def by_batch(
    ends: Ends,
    examples: Callable[[int], float] = lambda _: 320.0,
    final: dict[tuple[int, float, str], float] | None = None,
) -> list[Measurement]:
    """Of runs whose training ends with a loss of 1, or `final`, where guessing has 2; None where they stopped."""
    return [
        Measurement(
            {"batch": batch, "rate of the small batch": rate, "start": start},
            seed,
            {
                "held-out loss": loss,
                "final training loss": None if loss is None else (final or {}).get((batch, rate, start), 1.0),
                "loss of guessing": 2.0,
                "examples": examples(batch),
            },
        )
        for (batch, rate, start), values in ends.items()
        for seed, loss in enumerate(values)
    ]


def test_a_large_batch_that_gains_by_warmup() -> None:
    verdict = warmup_batch.judge(by_batch(BETTER))
    assert verdict.supported
    assert verdict.text == (
        "at the rates of 1.6 warmup lowers the held-out loss at a batch of 256 with every seed, and by more than at "
        "16. Held-out loss after 320 examples: rate 0.1 at a batch of 16: 0.5 (0.5 to 0.5), with warmup 0.5 "
        "(0.25 to 0.75); rate 1.6 at a batch of 256: 1 (1 to 1), 1 of 2 failed, with warmup 0.5 (0.5 to 0.5); rate 0.2 "
        "at a batch of 16: 0.5 (0.5 to 0.5), with warmup 0.5 (0.5 to 0.5); rate 3.2 at a batch of 256: 1 (1 to 1), "
        "with warmup 1 (0.5 to 1.5)"
    )


@pytest.mark.parametrize(
    "change",
    [
        {(256, 0.1, WARM): [0.5, None]},  # both stopped: no gain
        {(256, 0.1, WARM): [1.5, 0.5]},
        {(256, 0.1, WARM): [1.0, 0.5]},
        {(16, 0.1, WITHOUT): [1.5, 0.5]},  # the small batch gains more
        {(16, 0.1, WITHOUT): [None, None], (16, 0.1, WARM): [1.0, 1.0]},
        {key: [None, None] for key in BETTER},
    ],
)
def test_otherwise_it_is_not_supported(change: Ends) -> None:
    assert not warmup_batch.judge(by_batch(BETTER | change)).supported


def test_a_run_that_only_guesses_has_failed() -> None:
    """Its held-out loss may be the lower one: it has learned nothing."""
    final = {(256, 0.1, WARM): 2.0}
    verdict = warmup_batch.judge(by_batch(BETTER, final=final))
    assert not verdict.supported
    assert "rate 1.6 at a batch of 256: 1 (1 to 1), 1 of 2 failed, with warmup 2 of 2 failed" in verdict.text


def test_batches_that_saw_other_numbers_of_examples_are_not_compared() -> None:
    """As with --set train.steps=20, which all runs get."""
    verdict = warmup_batch.judge(by_batch(BETTER, lambda batch: 20.0 * batch))
    assert not verdict.supported
    assert verdict.text == "the runs cannot be compared: they saw 320 or 5120 examples"


def test_the_batches_see_as_many_examples() -> None:
    for start in (WARM, WITHOUT):
        small, large = (warmup_batch.trial(batch, 0.1, start).overrides for batch in (16, 256))
        assert small["train.steps"] * 16 == large["train.steps"] * 256
        assert small["optimizer"]["lr"] * 16 == pytest.approx(large["optimizer"]["lr"])
        assert small["batch"]["size"] // small["batch"]["shards"] == large["batch"]["size"] // large["batch"]["shards"]
