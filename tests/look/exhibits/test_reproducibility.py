"""The exhibit of reproducibility: real runs with and without a seed, and the whole part from a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from glassrun.look.exhibits.base import Material
from glassrun.look.exhibits.reproducibility import EXHIBIT, make
from shown import check_part
from small_runs import small_run
from support import Made


def test_a_run_is_shown_without_training_anything(made: Made, tmp_path: Path) -> None:
    run = small_run(made, "odd-lm")
    assert EXHIBIT.fits(run)
    part = make(Material(tmp_path, run=run, may_train=False))
    check_part(part)
    assert not list(tmp_path.iterdir())
    last = part.tables[0].rows[-1]
    assert last == ("6", run.ledger[-1].step.loss.hex(), run.ledger[-1].step.parameters, run.ledger[-1].chain)


@pytest.mark.long
def test_seeded_runs_agree_to_the_bit_unseeded_ones_do_not_and_the_parting_is_explained(
    made: Made, tmp_path: Path
) -> None:
    part = make(Material(tmp_path, run=small_run(made, "odd-lm")))
    check_part(part)
    first, second, one, two = part.tables[0].rows
    assert one[1:] == two[1:]
    assert len({first[2], second[2], one[2]}) == 3
    assert "their chains are equal" in part.text
    assert "step 31, in the phase optimizer" in part.text
    assert "confirmed: config schedule.final_lr" in part.text
    assert "6 steps have the same bits" in part.text
    assert str(tmp_path) not in part.code + part.text


@pytest.mark.long
def test_copies_are_trained_anew_and_others_are_taken_again(made: Made, tmp_path: Path) -> None:
    recipe = str(made.file("odd-lm"))
    material = Material(tmp_path)
    one, again, two = (material.trained(recipe, copy=copy, workers=1) for copy in (0, 0, 1))
    assert one.path == again.path != two.path
    assert one.ledger[-1].chain == two.ledger[-1].chain
