"""The exhibit of positions: its numbers against hand-computed ones, and the whole part from a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from glassrun.functional.positions import sinusoidal_positions
from glassrun.look.exhibits.base import Material
from glassrun.look.exhibits.positional_encoding import (
    EXHIBIT,
    make,
    permutation_error,
    permuted,
    shift_error,
    spread,
)
from shown import check_part
from small_runs import small_run
from support import Made


def test_the_spread_is_over_each_diagonal() -> None:
    products = torch.tensor([[4.0, 1.0, 7.0], [0.0, 4.0, 3.0], [0.0, 0.0, 4.0]])
    assert spread(products) == (3.0 - 1.0) / 4.0  # at distance 1; at distance 2 there is one value


def test_sinusoids_know_the_difference_alone_and_random_vectors_do_not() -> None:
    table = sinusoidal_positions(31, 26)
    assert spread(table @ table.T) < 1e-5
    assert shift_error(table, 5) < 1e-5
    noise = torch.randn(31, 26, generator=torch.Generator().manual_seed(1))
    assert spread(noise @ noise.T) > 0.1


def test_what_looks_at_the_order_has_an_error_and_a_set_has_none() -> None:
    tokens = torch.randn(1, 11, 3, generator=torch.Generator().manual_seed(1))

    def minus_mean(x: Tensor) -> Tensor:
        return x - x.mean(1, keepdim=True)

    assert permutation_error(minus_mean, tokens) < 1e-6
    assert permutation_error(lambda x: x.cumsum(1), tokens) > 0.1


@pytest.mark.parametrize("name", ["odd-lm", "odd-llama", "odd-encoder", "odd-vit", "odd-pairs"])
@pytest.mark.long
def test_every_transformer_is_blind_without_positions_and_not_with_them(made: Made, name: str, tmp_path: Path) -> None:
    run = small_run(made, name)
    check_part(make(Material(tmp_path, run=run, may_train=False)))
    blind, *others = permuted(run).values()
    assert blind < 1e-4
    assert all(error > 10 * blind for error in others)
    assert len(others) == (2 if name in ("odd-lm", "odd-llama") else 1)


def test_a_run_is_shown_without_training_anything(made: Made, tmp_path: Path) -> None:
    run = small_run(made, "odd-lm")
    assert EXHIBIT.fits(run)
    part = make(Material(tmp_path, run=run, may_train=False))
    check_part(part)
    assert not list(tmp_path.iterdir())
    names = [row[0] for row in part.tables[0].rows]
    assert names == ["no positions", "with learned positions", "no positions, but a causal mask"]
    errors = [float(row[1]) for row in part.tables[0].rows]
    assert errors[0] < 1e-4 < min(errors[1:])
    again = make(Material(tmp_path, run=run, may_train=False))
    assert [figure.svg for figure in again.figures] == [figure.svg for figure in part.figures]
    assert again.text == part.text


@pytest.mark.long
def test_without_a_run_it_trains_its_own(tmp_path: Path) -> None:
    part = make(Material(tmp_path))
    check_part(part)
    assert len(list(tmp_path.iterdir())) == 2  # learned positions, T5's bias
    panels = [panel["title"] for panel in part.figures[2].view.values["panels"]]  # type: ignore[union-attr]
    assert panels == ["rotary", "ALiBi", "T5, learned"]
