"""The exhibit of the feed-forward network: its numbers against hand-computed ones, and the whole part from a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from glassrun.errors import DataError
from glassrun.look.exhibits.base import Material
from glassrun.look.exhibits.feed_forward import (
    EXHIBIT,
    Features,
    hidden,
    jacobian_norms,
    look_inside,
    make,
    row_changes,
)
from glassrun.nn.feedforward import FeedForward, GatedFeedForward
from glassrun.run import Run
from shown import check_part
from small_runs import small_run
from support import Made


@pytest.fixture
def language_model(made: Made) -> Run:
    return small_run(made, "odd-lm")


def test_only_the_replaced_row_changes_where_each_token_is_alone() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 1.0], [6.0, 8.0]])
    assert row_changes(lambda t: 2 * t, x, place=1, other=0).tolist() == [0.0, pytest.approx(18**0.5), 0.0]


def test_every_row_changes_where_tokens_are_mixed() -> None:
    x = torch.eye(3)
    changes = row_changes(lambda t: t.mean(1, keepdim=True).expand_as(t), x, place=1, other=0)
    assert changes.tolist() == pytest.approx([(2 / 3) ** 0.5] * 3)  # the mean moves from (1, 1, 1)/3 to (2, 0, 1)/3


def test_the_norm_of_a_block_is_over_all_pairs_of_features() -> None:
    weight = torch.tensor([[3.0, 0.0], [0.0, 4.0]])

    def mixed(x: Tensor) -> Tensor:
        return x @ weight.T + x.flip(1)  # each token, and the one at the other end

    norms = jacobian_norms(mixed, torch.zeros(2, 2))
    assert norms.tolist() == [[5.0, pytest.approx(2**0.5)], [pytest.approx(2**0.5), 5.0]]


def test_what_is_off_is_counted_by_its_size_beside_the_others() -> None:
    found = Features("ReLU", (torch.tensor([0.0, 0.0, 0.0, 2.0]), torch.tensor([0.001, 1.0, 1.0, -1.0])))
    assert found.zero == 3 / 8
    assert found.near_zero == [0.75, 0.25]


def test_the_features_in_between_give_the_network_s_output() -> None:
    x = torch.randn(5, 30, generator=torch.Generator().manual_seed(1))
    for network in (FeedForward(30, 37), GatedFeedForward(30, 37)):
        between = hidden(network, x)
        assert between.shape == (5, 37)
        torch.testing.assert_close(network.contract(between), network(x[None])[0])


def test_in_a_trained_model_the_network_is_alone_and_attention_looks_back(language_model: Run) -> None:
    inside = look_inside(language_model)
    (network, x), (attention, y) = inside.parts.values()
    place = inside.place
    assert (row_changes(network, x, place, inside.other) > 0).tolist() == [i == place for i in range(len(x))]
    assert (row_changes(attention, y, place, inside.other) > 0).tolist() == [i >= place for i in range(len(y))]
    norms = jacobian_norms(network, x)
    assert norms.diag().min() > 0
    assert (norms - norms.diag().diag()).abs().max() == 0
    assert torch.equal(jacobian_norms(attention, y) > 0, torch.ones(len(y), len(y)).tril().bool())


def test_a_run_is_shown_without_training_anything(language_model: Run, tmp_path: Path) -> None:
    assert EXHIBIT.fits(language_model)
    part = make(Material(tmp_path, run=language_model, may_train=False))
    check_part(part)
    assert not list(tmp_path.iterdir())
    assert "GELU, as trained: 0.0% are exactly zero" in part.text
    assert part.tables[0].rows[1][1] == "12 × 30 → 12 × 120 → 12 × 30"


def test_a_sentence_of_the_user_s_takes_the_place_of_the_example(language_model: Run) -> None:
    assert look_inside(language_model, "glass run").tokens == ("g", "l", "a", "s", "s", "␣", "r", "u", "n")
    with pytest.raises(DataError, match="empty"):
        look_inside(language_model, "")


@pytest.mark.parametrize("name", ["odd-llama", "odd-encoder", "odd-vit", "odd-pairs"])
@pytest.mark.long
def test_every_transformer_is_shown(made: Made, name: str, tmp_path: Path) -> None:
    check_part(make(Material(tmp_path, run=small_run(made, name), may_train=False)))


@pytest.mark.long
def test_without_a_run_it_trains_its_own(tmp_path: Path) -> None:
    part = make(Material(tmp_path))
    check_part(part)
    assert len(list(tmp_path.iterdir())) == 2  # with GELU, with ReLU
    assert "ReLU, as trained" in part.text
