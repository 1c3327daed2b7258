"""What the recipes reach is measured as docs/results.md says."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import recipes

from small_runs import small_run
from support import Made


def test_the_interval_of_a_share() -> None:
    # By Wilson's formula with z = 1.96: (0.9 + 0.0192 ± 1.96 √(0.0009 + 0.0000960)) / 1.0384, of 90 in 100.
    assert recipes.wilson(0.9, 100) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    assert recipes.wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)  # never below 0
    assert recipes.wilson(1.0, 10)[1] == pytest.approx(1.0)


def test_the_error_of_a_ratio_is_what_drawing_blocks_again_gives() -> None:
    generator = np.random.default_rng(1)
    characters = generator.uniform(50, 150, 200)
    bits = characters * generator.normal(2.7, 0.4, 200)
    drawn = generator.integers(0, 200, (4000, 200))
    ratios = bits[drawn].sum(axis=1) / characters[drawn].sum(axis=1)
    found = recipes.ratio_error(bits.tolist(), characters.tolist())
    assert found == pytest.approx(ratios.std(), rel=0.05)
    assert recipes.ratio_error([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == 0.0


def test_blocks_of_text_add_up_to_the_runs_own_evaluation(made: Made) -> None:
    run = small_run(made, "odd-lm")
    bits, characters = recipes.blocks_of_text(run)
    last = [line for line in run.metrics if line["split"] == "validation"][-1]
    assert len(bits) == math.ceil(len(run.dataset.splits["validation"]) / recipes.WINDOWS) > 1
    assert sum(bits) / sum(characters) == pytest.approx(last["bits_per_character"], rel=1e-5)
    result, interval = recipes.bits_per_character(run, Path())
    low, high = map(float, interval.split(" to "))
    assert low < last["bits_per_character"] <= float(result.split()[0]) < high
