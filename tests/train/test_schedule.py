"""Learning-rate schedules."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from glassrun.config import load
from glassrun.train.schedule import learning_rate, warmup_constant, warmup_cosine, warmup_steps

properties = settings(max_examples=25, deadline=None)
rates = st.floats(1e-6, 10.0)
STEPS, EXAMPLES = 30, 640


def recipe(schedule, *, batch=64, steps=STEPS, lr=2.0):
    return load(
        {
            "name": "test",
            "task": "classify",
            "data": {"source": "digits"},
            "model": {"kind": "cnn"},
            "batch": {"size": batch, "shards": 1},
            "optimizer": {"kind": "sgd", "lr": lr},
            "train": {"steps": steps},
            "schedule": schedule,
        }
    )


def test_cosine_hand_computed():
    found = [warmup_cosine(s, peak_lr=5.0, steps=8, warmup_steps=4, initial_lr=1.0, final_lr=3.0) for s in range(1, 9)]
    # Up by 1 a step, then 3 + 2 · (1 + cos(π · 1/4, 1/2, 3/4, 1)) / 2.
    half = math.sqrt(0.5)
    assert found == pytest.approx([2, 3, 4, 5, 4 + half, 4, 4 - half, 3], rel=1e-15)


def test_constant_hand_computed():
    found = [warmup_constant(s, peak_lr=5.0, warmup_steps=4, initial_lr=1.0) for s in range(1, 8)]
    assert found == [2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0]


@pytest.mark.parametrize("peak", [1e-3, 2e-3, 0.1])
def test_the_last_step_of_the_warmup_has_the_peak_rate_exactly(peak):
    # One unit in the last place too many or too few would make "the rate at step w is the peak" untrue.
    wrong = [w for w in range(1, 500) if warmup_cosine(w, peak_lr=peak, steps=500, warmup_steps=w) != peak]
    assert wrong == []
    wrong = [w for w in range(1, 500) if warmup_constant(w, peak_lr=peak, warmup_steps=w) != peak]
    assert wrong == []


@properties
@given(rates, rates, st.integers(0, 499), st.integers(1, 500))
def test_the_last_step_has_the_final_rate_exactly(peak, final, warmup, decay):
    found = warmup_cosine(warmup + decay, peak_lr=peak, steps=warmup + decay, warmup_steps=warmup, final_lr=final)
    assert found == final


@properties
@given(rates, st.floats(0, 1), st.integers(1, 200), st.integers(1, 200))
def test_up_then_down(peak, share, warmup, decay):
    initial = final = peak * share
    found = [
        warmup_cosine(s, peak_lr=peak, steps=warmup + decay, warmup_steps=warmup, initial_lr=initial, final_lr=final)
        for s in range(1, warmup + decay + 1)
    ]
    assert found[:warmup] == sorted(found[:warmup])
    # The top itself may be off by rounding; everything after it only falls.
    assert found[warmup:] == sorted(found[warmup:], reverse=True)
    assert all(initial <= rate <= peak * (1 + 1e-15) for rate in found)
    assert found[warmup - 1] == pytest.approx(peak, rel=1e-15)


@properties
@given(rates, st.integers(2, 300))
def test_the_warmup_is_a_straight_line(peak, warmup):
    assume(warmup % 2 == 0)
    half = warmup_cosine(warmup // 2, peak_lr=peak, steps=warmup, warmup_steps=warmup)
    assert half == pytest.approx(peak / 2, rel=1e-15)
    assert warmup_cosine(1, peak_lr=peak, steps=warmup, warmup_steps=warmup) == pytest.approx(peak / warmup, rel=1e-15)


def test_both_kinds_warm_up_alike():
    for step in range(1, 8):
        cosine = warmup_cosine(step, peak_lr=3.0, steps=20, warmup_steps=7, initial_lr=0.25)
        assert warmup_constant(step, peak_lr=3.0, warmup_steps=7, initial_lr=0.25) == cosine


def test_without_warmup_the_first_step_is_on_the_cosine():
    assert warmup_cosine(1, peak_lr=1.0, steps=2, warmup_steps=0) == pytest.approx(0.5)
    assert warmup_constant(1, peak_lr=1.0, warmup_steps=0) == 1.0


def test_a_run_shorter_than_its_warmup_ends_before_the_peak():
    short = recipe({"warmup_steps": 40})
    found = [learning_rate(short, step, EXAMPLES) for step in range(1, STEPS + 1)]
    assert found == pytest.approx([2.0 * step / 40 for step in range(1, STEPS + 1)])
    exact = recipe({"warmup_steps": STEPS})
    assert learning_rate(exact, STEPS, EXAMPLES) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({}, 0),
        ({"warmup_steps": 0}, 0),
        ({"warmup_steps": 7}, 7),
        ({"warmup_epochs": 0}, 0),
        ({"warmup_epochs": 2}, 20),  # an epoch of 640 examples is 10 steps of 64
        ({"warmup_epochs": 0.5}, 5),
        ({"warmup_epochs": 0.26}, 3),
    ],
)
@pytest.mark.parametrize("kind", ["warmup-cosine", "constant"])
def test_warmup_in_steps_or_epochs(schedule, expected, kind):
    assert warmup_steps(recipe({"kind": kind} | schedule), EXAMPLES) == expected


def test_warmup_epochs_count_the_batch():
    assert warmup_steps(recipe({"warmup_epochs": 3}, batch=32), 640) == 60
    assert warmup_steps(recipe({"warmup_epochs": 3}, batch=64), 320) == 15


def test_a_recipe_passes_all_that_its_schedule_says():
    cosine = recipe({"kind": "warmup-cosine", "warmup_epochs": 1, "initial_lr": 0.5, "final_lr": 0.25})
    constant = recipe({"kind": "constant", "warmup_epochs": 1, "initial_lr": 0.5})
    for step in range(1, STEPS + 1):
        assert learning_rate(cosine, step, EXAMPLES) == warmup_cosine(
            step, peak_lr=2.0, steps=STEPS, warmup_steps=10, initial_lr=0.5, final_lr=0.25
        )
        assert learning_rate(constant, step, EXAMPLES) == warmup_constant(
            step, peak_lr=2.0, warmup_steps=10, initial_lr=0.5
        )
