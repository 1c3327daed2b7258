"""Learning-rate schedules."""

import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from glassrun import config
from glassrun.config import load
from glassrun.train.schedule import (
    cosine_restarts,
    learning_rate,
    noam,
    warmup_constant,
    warmup_cosine,
    warmup_steps,
)

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


# --- the other kinds -------------------------------------------------------------------------------------------------

# What each needs beside peak, steps and warmup.
KINDS = {
    "warmup-cosine": {},
    "constant": {},
    "linear": {},
    "polynomial": {"power": 3.0},
    "inverse-square-root": {},
    "noam": {"d_model": 7},
    "one-cycle": {"anneal": "linear"},
    "warmup-stable-decay": {"decay_steps": 5},
    "cosine-restarts": {"cycle_steps": 3, "cycle_factor": 2},
}
FALL_TO_FINAL = ("warmup-cosine", "linear", "polynomial", "one-cycle", "warmup-stable-decay")


def rates_of(kind, *, peak=2.0, steps=STEPS, warmup=10, **more):
    """The rate at every step of a recipe with this schedule."""
    made = recipe({"kind": kind, "warmup_steps": warmup} | KINDS[kind] | more, steps=steps, lr=peak)
    return [learning_rate(made, step, EXAMPLES) for step in range(1, steps + 1)]


def test_all_kinds_are_tested():
    assert KINDS.keys() == config.SCHEDULES.keys()


@pytest.mark.parametrize("kind", KINDS)
@properties
@given(peak=rates, warmup=st.integers(1, 40), share=st.floats(0, 1))
def test_every_kind_rises_in_a_line_to_its_peak_and_is_never_above_it_nor_negative(kind, peak, warmup, share):
    initial = peak * share / 100 if kind == "noam" else peak * share  # whose peak is a factor's
    top = peak / math.sqrt(7 * warmup) if kind == "noam" else peak
    found = rates_of(kind, peak=peak, steps=60, warmup=warmup, initial_lr=initial)
    assert found[warmup - 1] == pytest.approx(top, rel=1e-15)
    rising = [initial + (top - initial) * step / warmup for step in range(1, warmup + 1)]
    assert found[:warmup] == pytest.approx(rising, rel=1e-12)
    assert all(0 <= rate <= max(top, initial) * (1 + 1e-15) for rate in found)


@pytest.mark.parametrize("kind", FALL_TO_FINAL)
@properties
@given(peak=rates, share=st.floats(0, 1), warmup=st.integers(1, 40))
def test_what_falls_only_falls_and_ends_at_the_final_rate_exactly(kind, peak, share, warmup):
    final = peak * share
    found = rates_of(kind, peak=peak, steps=60, warmup=warmup, final_lr=final)
    assert found[-1] == final
    after = found[warmup:]
    assert all(later <= rate * (1 + 1e-14) for rate, later in itertools.pairwise(after))


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_no_jump_but_at_a_restart(kind):
    """Over 4,000 steps no rate differs from the one before by more than 0.004 of the peak; 0.0016 is π/2 of 1/1000."""
    scaled = {"decay_steps": 1000} if kind == "warmup-stable-decay" else {}
    scaled |= {"cycle_steps": 1000} if kind == "cosine-restarts" else {}
    found = rates_of(kind, peak=1.0, steps=4000, warmup=1000, **scaled)
    jumps = [step for step in range(2, 4001) if abs(found[step - 1] - found[step - 2]) > 0.004 * max(found)]
    assert jumps == ([2001] if kind == "cosine-restarts" else [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_ends_within_its_warmup(kind):
    short = {"decay_steps": 5} if kind == "warmup-stable-decay" else {}
    made = recipe({"kind": kind, "warmup_epochs": 4.0} | KINDS[kind] | short, lr=2.0)
    top = 2.0 / math.sqrt(7 * 40) if kind == "noam" else 2.0
    found = [learning_rate(made, step, EXAMPLES) for step in range(1, STEPS + 1)]
    assert found == pytest.approx([top * step / 40 for step in range(1, STEPS + 1)])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("inverse-square-root", "noam", "one-cycle")])
def test_without_a_warmup_the_first_step_is_on_the_way_down(kind):
    found = rates_of(kind, warmup=0)
    assert 0 < found[0] <= 2.0
    assert found == pytest.approx(rates_of(kind, steps=STEPS + 10)[10:] if kind != "warmup-stable-decay" else found)


def test_the_rate_of_the_transformers_paper():
    """d^-½ · min(s^-½, s · w^-1½), with its numbers for the base model."""
    for step in (1, 17, 3999, 4000, 4001, 100_000):
        expected = 512**-0.5 * min(step**-0.5, step * 4000**-1.5)
        assert noam(step, peak_lr=1.0, warmup_steps=4000, d_model=512) == pytest.approx(expected, rel=1e-14)


def test_an_epoch_too_short_for_a_step_of_warmup():
    for kind in ("inverse-square-root", "noam", "one-cycle"):
        made = recipe({"kind": kind, "warmup_epochs": 0.01} | KINDS[kind])
        assert all(0 <= learning_rate(made, step, EXAMPLES) <= 2.0 for step in range(1, STEPS + 1))


def of_scheduler(make, *, peak=2.0, steps=STEPS):
    """What a scheduler of another library sets before each update, from the second on: its first is our step 0."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=peak)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


HUGGING_FACE: dict[str, Any] = {
    "warmup-cosine": (lambda t, o: t.get_cosine_schedule_with_warmup(o, 10, STEPS), {}),
    "constant": (lambda t, o: t.get_constant_schedule_with_warmup(o, 10), {}),
    "linear": (lambda t, o: t.get_linear_schedule_with_warmup(o, 10, STEPS), {}),
    "polynomial": (
        lambda t, o: t.get_polynomial_decay_schedule_with_warmup(o, 10, STEPS, lr_end=0.25, power=3.0),
        {"final_lr": 0.25},
    ),
    "inverse-square-root": (lambda t, o: t.get_inverse_sqrt_schedule(o, 10), {}),
    **{
        f"warmup-stable-decay {decay}": (
            lambda t, o, decay=decay: t.get_wsd_schedule(
                o, 10, 5, num_training_steps=STEPS, decay_type=decay, min_lr_ratio=0.125
            ),
            {"decay": decay, "initial_lr": 0.25, "final_lr": 0.25},
        )
        for decay in ("linear", "cosine", "1-sqrt")
    },
}


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_parity_with_hugging_face(name):
    theirs = pytest.importorskip("transformers", reason="needs transformers: pip install 'glassrun[hub]'")
    make, more = HUGGING_FACE[name]
    assert of_scheduler(partial(make, theirs)) == pytest.approx(rates_of(name.split()[0], **more), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("anneal", ["cosine", "linear"])
def test_parity_with_torchs_one_cycle(anneal, three_phase):
    theirs = of_scheduler(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o,
            max_lr=2.0,
            total_steps=STEPS + 1,
            pct_start=11 / (STEPS + 1),
            anneal_strategy="cos" if anneal == "cosine" else "linear",
            cycle_momentum=False,
            div_factor=25.0,
            final_div_factor=1e4,
            three_phase=three_phase,
        )
    )
    initial = 2.0 / 25
    ours = rates_of("one-cycle", anneal=anneal, three_phase=three_phase, initial_lr=initial, final_lr=initial / 1e4)
    assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(("cycle", "factor"), [(3, 1), (3, 2), (2, 3), (1, 1), (40, 2)])
def test_parity_with_torchs_restarts(cycle, factor):
    """The same but at the end of a cycle: there ours is at the bottom, and theirs at the next one's top."""
    theirs = of_scheduler(
        lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, cycle, factor, eta_min=0.25)
    )
    ours = rates_of("cosine-restarts", warmup=0, cycle_steps=cycle, cycle_factor=factor, final_lr=0.25)
    ends, end, length = [], cycle, cycle
    while end <= STEPS:
        ends.append(end)
        length *= factor
        end += length
    for step in range(1, STEPS + 1):
        if step in ends:
            assert (ours[step - 1], theirs[step - 1]) == (0.25, 2.0)
        else:
            assert ours[step - 1] == pytest.approx(theirs[step - 1], rel=1e-12)


def test_one_cycle_of_restarts_is_the_cosine():
    assert rates_of("cosine-restarts", cycle_steps=STEPS - 10, final_lr=0.5) == rates_of("warmup-cosine", final_lr=0.5)


def test_a_schedule_far_out_is_found_at_once():
    assert cosine_restarts(10**15, peak_lr=1.0, warmup_steps=0, cycle_steps=1) == 0.0
    assert 0 <= cosine_restarts(10**15, peak_lr=1.0, warmup_steps=0, cycle_steps=1, cycle_factor=10**9) <= 1.0
