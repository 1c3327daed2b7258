"""Labels and numbers: losses and metrics by hand, and against scikit-learn's."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from torch import Tensor, nn

from glassrun.errors import ModelError
from glassrun.tasks import registry
from glassrun.tasks.multi_label import MultiLabel
from glassrun.tasks.regression import Regression

EXAMPLES, OUTPUTS = 7, 3
STDS = (2.0, 10.0, 0.5)
numbers = st.integers(0, 2**32)


class Table(nn.Module):
    """Gives the same outputs whatever it is asked."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs.float().requires_grad_()

    def forward(self, image: Tensor) -> Tensor:  # noqa: ARG002 - a model's form
        return self.outputs


def task(target: str, outputs: int = OUTPUTS) -> Any:
    encoding = SimpleNamespace(target=target, number_stds=STDS[:outputs])
    return registry.build("classify", SimpleNamespace(facts={"num_classes": outputs}, encoding=encoding))


def batch(made: Any, labels: Any) -> dict[str, Tensor]:
    image = np.zeros((1, 5, 7), dtype=np.float32)
    return made.collate([{"image": image, "label": row} for row in np.asarray(labels, dtype=np.float32)])


def drawn(seed: int) -> tuple[Tensor, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Outputs, labels of zeros and ones, numbers."""
    generator = np.random.default_rng(seed)
    outputs = torch.from_numpy(generator.normal(size=(EXAMPLES, OUTPUTS)))
    return outputs, generator.integers(0, 2, (EXAMPLES, OUTPUTS)), generator.normal(size=(EXAMPLES, OUTPUTS))


def in_slices(made: Any, outputs: Tensor, labels: Any) -> dict[str, float]:
    """The metrics from the sums over two slices."""
    parts = [
        made.evaluate(Table(outputs[part]), batch(made, labels[part])) for part in (slice(0, 3), slice(3, EXAMPLES))
    ]
    return made.metrics({name: parts[0][name] + parts[1][name] for name in parts[0]})  # type: ignore[no-any-return]


def test_the_target_of_the_images_chooses_the_task() -> None:
    assert isinstance(task("labels"), MultiLabel)
    assert isinstance(task("numbers"), Regression)


def test_labels_hand_computed() -> None:
    made = task("labels", 2)
    # σ(log 3) = 3/4, σ(0) = 1/2: a logit of 0 is not above one half.
    logits = torch.tensor([[math.log(3.0), 0.0], [-math.log(3.0), math.log(3.0)]])
    given_labels = batch(made, [[1, 0], [1, 1]])
    loss = (-math.log(0.75) - math.log(0.5) - math.log(0.25) - math.log(0.75)) / 2
    model = Table(logits)
    assert made.count(given_labels) == 2
    assert made.tokens(given_labels) == 0
    assert made.loss(model, given_labels).item() == pytest.approx(loss, rel=1e-6)
    sums = made.evaluate(model, given_labels)
    # First label: right, missed. Second: rightly not said, right.
    assert made.metrics(sums) == {
        "loss": pytest.approx(loss / 2, rel=1e-6),
        "exact_match": 0.5,
        "micro_f1": 2 * 2 / (2 * 2 + 0 + 1),
        "macro_f1": (2 / 3 + 1) / 2,
    }


@settings(max_examples=25)
@given(numbers)
def test_labels_equal_scikit_learns_metrics(seed: int) -> None:
    outputs, labels, _ = drawn(seed)
    found = in_slices(task("labels"), outputs, labels)
    said = (outputs > 0).numpy()
    assert found["exact_match"] == pytest.approx(reference.accuracy_score(labels, said))
    for average in ("micro", "macro"):
        assert found[f"{average}_f1"] == pytest.approx(
            reference.f1_score(labels, said, average=average, zero_division=0)
        )
    expected = nn.functional.binary_cross_entropy_with_logits(outputs, torch.from_numpy(labels).double())
    assert found["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_a_label_that_is_never_there_and_never_said_counts_as_zero() -> None:
    found = in_slices(task("labels"), -torch.ones(EXAMPLES, OUTPUTS), np.zeros((EXAMPLES, OUTPUTS)))
    assert (found["exact_match"], found["micro_f1"], found["macro_f1"]) == (1.0, 0.0, 0.0)


def test_numbers_hand_computed() -> None:
    made = task("numbers", 2)
    given_numbers = batch(made, [[1, 0], [-1, 2]])
    model = Table(torch.tensor([[2.0, 0.0], [-1.0, 0.0]]))  # errors 1, 0; 0, -2
    assert made.loss(model, given_numbers).item() == (1 + 4) / 2
    assert made.count(given_numbers) == 2
    assert made.tokens(given_numbers) == 0
    # Standard deviations 2 and 10: errors of 2, 0 and 0, 20 in the numbers' own units.
    assert made.metrics(made.evaluate(model, given_numbers)) == {
        "loss": (1 + 4) / 4,
        "mean_squared_error": (4 + 400) / 4,
        "mean_absolute_error": (2 + 20) / 4,
        "r2": ((1 - 1 / 2) + (1 - 4 / 2)) / 2,
    }


@settings(max_examples=25)
@given(numbers)
def test_numbers_equal_scikit_learns_metrics(seed: int) -> None:
    outputs, _, values = drawn(seed)
    found = in_slices(task("numbers"), outputs, values)
    true, said = values * STDS, outputs.numpy() * STDS
    assert found["mean_squared_error"] == pytest.approx(reference.mean_squared_error(true, said), rel=1e-5)
    assert found["mean_absolute_error"] == pytest.approx(reference.mean_absolute_error(true, said), rel=1e-5)
    assert found["r2"] == pytest.approx(reference.r2_score(true, said), rel=1e-4, abs=1e-5)
    assert found["loss"] == pytest.approx(np.mean((values - outputs.numpy()) ** 2), rel=1e-5)


@given(numbers)
def test_r2_where_a_number_is_the_same_in_many_examples(seed: int) -> None:
    """Σ y² − (Σ y)² / n is not zero then, but what the sums were rounded by."""
    value, made = np.random.default_rng(seed).normal(size=1), task("numbers", 1)
    count = 3 + seed % 200
    sums = made.evaluate(Table(torch.full((count, 1), 0.5)), batch(made, [value] * count))
    assert made.metrics(sums)["r2"] == 0.0


def test_r2_where_a_number_is_the_same_in_all_examples() -> None:
    made = task("numbers", 1)
    same = batch(made, [[0.5], [0.5]])
    assert made.metrics(made.evaluate(Table(torch.tensor([[0.5], [0.5]])), same))["r2"] == 1.0
    assert made.metrics(made.evaluate(Table(torch.tensor([[0.5], [0.6]])), same))["r2"] == 0.0


@pytest.mark.parametrize("target", ["labels", "numbers"])
def test_the_loss_of_a_batch_is_the_sum_of_its_slices(target: str) -> None:
    made = task(target)
    outputs, labels, values = drawn(1)
    of = labels if target == "labels" else values
    whole = made.loss(Table(outputs), batch(made, of))
    parts = [made.loss(Table(outputs[part]), batch(made, of[part])) for part in (slice(0, 3), slice(3, EXAMPLES))]
    torch.testing.assert_close(whole, parts[0] + parts[1])
    whole.backward()


@pytest.mark.parametrize("target", ["labels", "numbers"])
def test_a_model_with_another_number_of_outputs_is_refused(target: str) -> None:
    made = task(target)
    for method in (made.loss, made.evaluate):
        with pytest.raises(ModelError, match=f"gives 2 logits, but there are 3 {target}"):
            method(Table(torch.zeros(EXAMPLES, 2)), batch(made, np.zeros((EXAMPLES, OUTPUTS))))
