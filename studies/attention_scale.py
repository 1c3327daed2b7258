"""The gradient of attention's softmax as keys get wider, with scores divided by √d_k and without. Trains nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from leads import by_seed, up
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study
from torch import Tensor

from glassrun.functional.attention import attention_weights
from glassrun.keys import derive
from glassrun.run import Run

if TYPE_CHECKING:
    from jaxtyping import Float

CLAIM = Claim(
    name="attention_scale",
    exhibit="attention",
    text="Without the division by √d_k the gradient of attention's softmax vanishes for most queries as d_k grows; "
    "with it the gradient hardly depends on d_k.",
    source="Vaswani et al. 2017, section 3.2.1 and its footnote 4",
)
SIZES = (4, 16, 64, 256, 1024)
SCORES, SIZE = "scores", "d_k"
DIVIDED, PLAIN = "divided by √d_k", "as they are"
GRADIENT, MEDIAN = "gradient, mean", "gradient, median"
LARGEST, ENTROPY = "largest weight", "entropy, bits"
SETS, LENGTH = 256, 16  # sets of queries and keys, and how many of both are in one
VANISHED = 0.1  # of the gradient at the smallest d_k
CONSTANT = 1.25  # the largest of the gradients over the smallest


def measure(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:
    """Over queries and keys whose components are independent standard normal, the same for both ways."""
    assert run is None, "nothing is trained"
    size = int(trial.setting[SIZE])
    draw = torch.Generator().manual_seed(derive(seed, "attention scale", size))
    query, key = (torch.randn(SETS, LENGTH, size, generator=draw, dtype=torch.float64) for _ in range(2))
    weights = attention_weights(query, key, scale=None if trial.setting[SCORES] == DIVIDED else 1.0)
    gradients = gradient_size(weights)
    yield (
        {},
        {
            GRADIENT: float(gradients.mean()),
            MEDIAN: float(gradients.median()),
            LARGEST: float(weights.amax(-1).mean()),
            ENTROPY: float(torch.special.entr(weights).sum(-1).mean() / torch.log(torch.tensor(2.0))),
        },
    )


def gradient_size(weights: Float[Tensor, "*rows key"]) -> Float[Tensor, " *rows"]:
    """‖∂ softmax(s) / ∂ s‖, the root of the sum of the squares of diag(p) − p pᵀ:

    ‖diag(p) − p pᵀ‖² = Σ p² − 2 Σ p³ + (Σ p²)²
    """
    squares = weights.square().sum(-1)
    # A row with one weight of 1 gives 0, and by rounding may give less.
    return (squares - 2 * weights.pow(3).sum(-1) + squares.square()).clamp(min=0).sqrt()


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """With every seed three things hold. Without the division the mean gradient falls from each d_k to the next, and
    the median at the largest d_k is below a tenth of that at the smallest. With the division the
    largest mean over all d_k is at most 1.25 times the smallest, and so are the medians.

    The median decides how far it falls, for the mean is made by ever fewer queries: those with two keys that nearly tie
    for the largest score, whose share falls only as 1/√d_k.
    """
    falling = {value: _by_size(measurements, value, PLAIN) for value in (GRADIENT, MEDIAN)}
    falls = all(a > b for row in falling[GRADIENT] for a, b in pairwise(row))
    left = {value: up(max(row[-1] / row[0] for row in rows)) for value, rows in falling.items()}
    level = [row for value in falling for row in _by_size(measurements, value, DIVIDED)]
    varies = up(max(max(row) / min(row) for row in level))
    sizes = sorted({m.setting[SIZE] for m in measurements})
    return Verdict(
        falls and left[MEDIAN] < VANISHED and varies <= CONSTANT,
        f"from d_k {sizes[0]} to {sizes[-1]} without the division, the median gradient falls to {left[MEDIAN]:.3g} of "
        f"what it was, the mean to {left[GRADIENT]:.3g} (the seed where most is left; asked for: a median below "
        f"{VANISHED:g}), and the mean {'falls' if falls else 'does not always fall'} from each d_k to the next; with "
        f"it the largest over all d_k is at most {varies:.3g} times the smallest (asked for: {CONSTANT:g})",
    )


def _by_size(measurements: Sequence[Measurement], value: str, scores: str) -> list[list[float]]:
    """For each seed the values in the order of d_k."""
    sizes = sorted({m.setting[SIZE] for m in measurements})
    columns = [by_seed(measurements, value, {SCORES: scores, SIZE: size}) for size in sizes]
    return [[found for column in columns if (found := column[seed]) is not None] for seed in columns[0]]


if __name__ == "__main__":
    run_study(
        CLAIM,
        [Trial({SCORES: scores, SIZE: size}) for scores in (PLAIN, DIVIDED) for size in SIZES],
        measure,
        judge,
        [
            Panel(MEDIAN, SIZE, SCORES, log_x=True, log_y=True),
            Panel(GRADIENT, SIZE, SCORES, log_x=True, log_y=True),
            Panel(LARGEST, SIZE, SCORES, log_x=True),
        ],
        trained=f"Nothing: {SETS} sets of {LENGTH} random queries and keys for each seed and d_k",
    )
