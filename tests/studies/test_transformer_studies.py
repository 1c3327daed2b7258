"""The Transformer's studies: a verdict follows from the measurements, and what a study computes itself is right."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import attention_scale
import cross_attention_memory as cross
import feed_forward
import heads
import positions_length as positions
import pytest
import torch
from leads import Lead, by_seed, down, lead, up
from study import Measurement
from transformer_variants import DEEPER, KINDS, LINEAR, NARROW, NONE, USUAL, language_model, long_encoder

SEEDS = (5, 7)


def rows(setting: Mapping[str, object], **values: Sequence[float | None]) -> list[Measurement]:
    """A measurement for each seed; the values' names have underscores for spaces."""
    return [
        Measurement(
            dict(setting),  # type: ignore[arg-type]
            seed,
            {name: column[place] for name, column in values.items()},
        )
        for place, seed in enumerate(SEEDS)
    ]


# --- pairs by seed ---------------------------------------------------------------------------------------------------


def test_a_lead_is_taken_seed_by_seed() -> None:
    found = lead(rows({"x": 1}, y=[3.0, 5.0]) + rows({"x": 2}, y=[1.0, 4.5]), "y", {"x": 1}, {"x": 2}, scale=10.0)
    assert found.by == {5: 20.0, 7: 5.0}
    assert found.always
    assert str(found) == "12.5 (5 to 20)"
    assert found.less(Lead({5: 20.0, 7: 1.0})).by == {5: 0.0, 7: 4.0}


@pytest.mark.parametrize("other", [[1.0, 3.0], [1.0, 5.0], [1.0, None]])
def test_no_lead_where_a_seed_is_equal_behind_or_without_a_number(other: list[float | None]) -> None:
    assert not lead(rows({"x": 1}, y=[3.0, 3.0]) + rows({"x": 2}, y=other), "y", {"x": 1}, {"x": 2}).always


def test_a_lead_of_nothing_is_none() -> None:
    assert not Lead({}).always
    assert str(Lead({5: None})) == "no number; 1 of 1 seeds without a number"


def test_no_lead_is_rounded_in_its_favour() -> None:
    assert str(Lead({5: 0.12999, 7: -0.00010001})) == "0.0649 (-0.000101 to 0.129)"
    assert (down(0.999999), up(0.1000001), down(0.0), up(-12.39)) == pytest.approx((0.999, 0.101, 0.0, -12.3))


def test_levels_that_fit_two_settings_are_a_mistake() -> None:
    with pytest.raises(AssertionError):
        by_seed(rows({"x": 1, "z": 1}, y=[1.0, 1.0]) + rows({"x": 1, "z": 2}, y=[1.0, 1.0]), "y", {"x": 1})


# --- attention_scale -------------------------------------------------------------------------------------------------


def scaled(plain: Sequence[float], medians: Sequence[float], divided: Sequence[float]) -> list[Measurement]:
    """With d_k 4, 16 and 64."""
    found = []
    for place, size in enumerate((4, 16, 64)):
        for scores, means, middle in (
            (attention_scale.PLAIN, plain, medians),
            (attention_scale.DIVIDED, divided, divided),
        ):
            values = {attention_scale.GRADIENT: [means[place]] * 2, attention_scale.MEDIAN: [middle[place]] * 2}
            found += rows({attention_scale.SCORES: scores, attention_scale.SIZE: size}, **values)
    return found


def test_the_gradient_vanishes_and_stays() -> None:
    verdict = attention_scale.judge(scaled([0.3, 0.2, 0.1], [0.3, 0.3, 0.001], [0.3, 0.31, 0.3]))
    assert verdict.supported
    assert "the median gradient falls to 0.00334" in verdict.text


@pytest.mark.parametrize(
    ("plain", "medians", "divided"),
    [
        ([0.3, 0.2, 0.2], [0.3, 0.2, 0.001], [0.3, 0.3, 0.3]),
        ([0.3, 0.2, 0.1], [0.3, 0.2, 0.1], [0.3, 0.3, 0.3]),
        ([0.3, 0.2, 0.1], [0.3, 0.2, 0.001], [0.3, 0.2, 0.3]),
    ],
)
def test_the_gradient_that_does_not_vanish_or_stay(
    plain: Sequence[float], medians: Sequence[float], divided: Sequence[float]
) -> None:
    assert not attention_scale.judge(scaled(plain, medians, divided)).supported


def test_the_gradient_is_that_of_the_softmax() -> None:
    scores = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    jacobian = torch.autograd.functional.jacobian(lambda x: torch.softmax(x, -1), scores)
    found = attention_scale.gradient_size(torch.softmax(scores, -1))
    torch.testing.assert_close(found, torch.linalg.matrix_norm(jacobian))
    assert attention_scale.gradient_size(torch.tensor([0.5, 0.5, 0.0])).item() == pytest.approx(0.5)


# --- cross_attention_memory ------------------------------------------------------------------------------------------


def memories(
    own: Sequence[float | None] = (0.1, 0.1),
    zeros: Sequence[float | None] = (3.0, 3.0),
    others: Sequence[float | None] = (7.0, 7.0),
    follows: Sequence[float | None] = (0.9, 0.8),
    whole: Sequence[float | None] = (0.9, 0.9),
    left: Sequence[float | None] = (0.05, 0.0),
    kept: Sequence[float | None] = (0.0, 0.05),
    taken: Sequence[float | None] = (0.8, 0.5),
) -> list[Measurement]:
    """Nats with each memory; agreement with the other's target; whole texts with its own memory, with zeros, with
    another's, and of the other's."""
    found = []
    for memory, nats, agree, match in (
        (cross.OWN, own, (0.9, 0.9), whole),
        (cross.OTHER, others, (0.1, 0.1), kept),
        (cross.ZERO, zeros, (0.1, 0.1), left),
    ):
        shares = {cross.AGREE: agree, cross.MATCH: match}
        other = follows if memory == cross.OTHER else (0.1, 0.1)
        match = taken if memory == cross.OTHER else (0.0, 0.0)
        found += rows({cross.MEMORY: memory, cross.AGAINST: cross.OWN_TARGET}, **shares, **{cross.NATS: nats})
        found += rows(
            {cross.MEMORY: memory, cross.AGAINST: cross.OTHER_TARGET}, **{cross.AGREE: other, cross.MATCH: match}
        )
    return found


def test_the_output_follows_the_memory() -> None:
    verdict = cross.judge(memories())
    assert verdict.supported
    assert "than with zeros by 2.9 (2.9 to 2.9)" in verdict.text


@pytest.mark.parametrize(
    "found",
    [
        memories(zeros=(3.0, 0.1)),
        memories(others=(0.05, 7.0)),
        memories(follows=(0.9, 0.1)),
        memories(own=(None, 0.1)),
        memories(whole=(0.9, 0.0)),  # nothing is written at all
        memories(left=(0.05, 0.1)),  # more than a tenth is still written without memory
        memories(kept=(0.1, 0.05)),  # or with another's
        memories(taken=(0.4, 0.9)),  # too little of the other's is written
        memories(taken=(None, 0.9)),
        memories(own=(None, None), zeros=(None, None), others=(None, None), follows=(None, None)),
    ],
)
def test_the_output_that_does_not_follow(found: list[Measurement]) -> None:
    assert not cross.judge(found).supported


def test_partners_have_another_target() -> None:
    target = torch.tensor([[1, 2], [1, 2], [1, 3], [1, 2]])
    assert cross.partners(target).tolist() == [2, 2, 3, 2]
    assert cross.partners(target[:2]).tolist() == [-1, -1]
    assert cross.partners(target[:1]).tolist() == [-1]


def test_memories_change_places() -> None:
    memory, mask = torch.randn(3, 2, 5), torch.tensor([True, False, True]).view(3, 1, 1, 1)
    partner = torch.tensor([1, 2, 0])
    swapped, seen = cross.changed(memory, mask, cross.OTHER, partner)
    assert torch.equal(swapped[2], memory[0])
    assert seen.flatten().tolist() == [False, True, True]
    assert not cross.changed(memory, mask, cross.ZERO, partner)[0].any()
    assert cross.changed(memory, mask, cross.OWN, partner)[0] is memory


# --- heads -----------------------------------------------------------------------------------------------------------


def headed(
    losses: Mapping[int, Sequence[float | None]], after: Sequence[float | None] = (0.2, 0.3)
) -> list[Measurement]:
    found = []
    for number, loss in losses.items():
        found += rows({heads.NUMBER: number}, **{heads.LOSS: loss})
        for when, apart in () if number == 1 else ((heads.AFTER, after), (heads.BEFORE, (0.1, 0.1))):
            found += rows({heads.NUMBER: number, heads.WHEN: when}, **{heads.APART: apart})
    return found


def test_several_heads_learn_more_and_look_elsewhere() -> None:
    verdict = heads.judge(headed({1: (1.0, 1.1), 2: (1.2, None), 4: (0.5, 0.5)}))
    assert verdict.supported
    assert "with 4 by 0.55 (0.5 to 0.6)" in verdict.text
    assert "of 2 by 0.15" in verdict.text


@pytest.mark.parametrize(
    "found",
    [
        headed({1: (1.0, 1.1), 2: (0.5, 0.5), 4: (1.0, 1.0)}),
        headed({1: (1.0, 1.1), 2: (0.5, 0.5), 4: (0.9, None)}),
        headed({1: (1.0, 1.1), 2: (0.5, 0.5), 4: (0.9, 1.0)}, after=(0.1, 0.3)),
        headed({1: (1.0, 1.1), 2: (0.5, 0.5), 4: (0.9, 1.0)}, after=(None, 0.3)),
    ],
)
def test_heads_that_do_not(found: list[Measurement]) -> None:
    assert not heads.judge(found).supported


def test_the_divergence_of_heads() -> None:
    """The first query's heads look at different keys: 1 bit. The second's at the same: 0. The third is padding. Of
    (1, 0) and (½, ½) it is H(¾, ¼) − ½."""
    weights = torch.tensor([[[[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]], [[0.0, 1.0], [0.5, 0.5], [0.0, 1.0]]]])
    assert heads.divergences(weights, torch.tensor([[True, True, False]])).tolist() == [1.0, 0.0]
    weights = torch.tensor([[[[1.0, 0.0]], [[0.5, 0.5]]]])
    expected = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)) - 0.5
    assert heads.divergences(weights, torch.tensor([[True]])).item() == pytest.approx(expected)


# --- positions_length ------------------------------------------------------------------------------------------------


def lengths(**other: Sequence[Sequence[float | None]]) -> list[Measurement]:
    """Losses at the length trained on and at four times it, for two seeds each."""
    losses: dict[str, Sequence[Sequence[float | None]]] = {
        "none": ((3.0, 3.0), (3.0, 3.0)),
        **dict.fromkeys(("sinusoidal", "learned", "rotary"), ((2.0, 2.0), (4.0, 4.0))),
        **dict.fromkeys(("alibi", "relative", "t5"), ((2.0, 2.1), (2.1, 2.0))),
        **other,
    }
    return [
        row
        for kind in positions.KINDS
        for times, found in zip((1, positions.TIMES), losses[kind], strict=True)
        for row in rows({positions.KIND: kind, positions.LENGTH: times}, **{positions.LOSS: found})
    ]


def test_distances_reach_beyond() -> None:
    verdict = positions.judge(lengths())
    assert verdict.supported
    assert "alibi against sinusoidal 1.95 (1.9 to 2)" in verdict.text


@pytest.mark.parametrize(
    "found",
    [
        lengths(rotary=((3.0, 2.0), (4.0, 4.0))),
        lengths(relative=((2.0, 2.0), (4.0, 2.0))),
        lengths(alibi=((0.5, 0.5), (3.0, 3.0))),
        lengths(learned=((None, 2.0), (None, 4.0))),
    ],
)
def test_distances_that_do_not(found: list[Measurement]) -> None:
    assert not positions.judge(found).supported


@pytest.mark.parametrize("kind", positions.KINDS)
def test_every_kind_computes_at_four_times_the_length(kind: str) -> None:
    model = long_encoder(
        11,
        5,
        positions=kind,
        norm="pre",
        num_layers=1,
        d_model=12,
        num_heads=3,
        d_ff=13,  # type: ignore[arg-type]
    )
    assert model(torch.randint(11, (2, 20))).shape == (2, 20, 11)


# --- feed_forward ----------------------------------------------------------------------------------------------------


def networks(**other: Sequence[float | None]) -> list[Measurement]:
    losses: dict[str, Sequence[float | None]] = dict.fromkeys(KINDS, (2.0, 2.0)) | {USUAL: (1.5, 1.6)} | other
    return [
        row
        for kind in KINDS
        for row in rows(
            {feed_forward.KIND: kind}, **{feed_forward.LOSS: losses[kind], feed_forward.PARAMETERS: (70000.0, 70000.0)}
        )
    ]


def test_the_feed_forward_network_is_needed() -> None:
    verdict = feed_forward.judge(networks())
    assert verdict.supported
    assert "0.45 (0.4 to 0.5)" in verdict.text


@pytest.mark.parametrize("kind", [NARROW, LINEAR, NONE, DEEPER])
@pytest.mark.parametrize("losses", [(2.0, 1.6), (1.0, 2.0)])
def test_the_feed_forward_network_that_is_not(kind: str, losses: Sequence[float | None]) -> None:
    assert not feed_forward.judge(networks(**{kind: losses})).supported


def test_a_network_that_diverged_is_worse_than_all_that_did_not() -> None:
    assert feed_forward.judge(networks(**{NONE: (None, 2.0)})).supported
    assert not feed_forward.judge(networks(**{USUAL: (None, 1.6)})).supported
    assert not feed_forward.judge(networks(**{USUAL: (None, 1.6), NONE: (None, 2.0)})).supported


def made(kind: str) -> torch.nn.Module:
    torch.manual_seed(3)
    return language_model(11, 7, feed_forward=kind, num_layers=2, d_model=12, num_heads=3)


def test_without_the_network_the_parameters_are_in_more_layers() -> None:
    count: Callable[[str], int] = lambda kind: sum(p.numel() for p in made(kind).parameters())  # noqa: E731
    assert count(NARROW) < count(LINEAR) == count(USUAL)
    assert count(NONE) < count(NARROW)
    # A feed-forward network has 5 d_model biases and norms, two layers of attention and norms 10: so 5 d_model more.
    assert count(DEEPER) == count(USUAL) + 2 * 5 * 12
    assert not any("feed_forward" in name for name, _ in made(NONE).named_parameters())


def test_a_linear_network_is_linear() -> None:
    """f(a) + f(b) = f(a + b) + f(0), as no network with a ReLU has it."""
    a, b = torch.randn(2, 1, 3, 12, generator=torch.Generator().manual_seed(5))
    for kind, linear in ((LINEAR, True), (USUAL, False)):
        network = made(kind).layers[0].feed_forward.requires_grad_(False)  # type: ignore[index,union-attr]
        left, right = network(a) + network(b), network(a + b) + network(torch.zeros_like(a))
        assert torch.allclose(left, right, atol=1e-5 * float(left.abs().max())) == linear


def test_what_stays_starts_alike() -> None:
    """A parameter's start follows from the seed and its name, so leaving out a part moves no other."""
    usual, none = (dict(made(kind).named_parameters()) for kind in (USUAL, NONE))
    assert all(torch.equal(parameter, usual[name]) for name, parameter in none.items())
