"""Classification: losses and metrics by hand."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glassrun.config import ImportedTask
from glassrun.errors import ModelError
from glassrun.tasks import registry
from glassrun.tasks.classify import Classify


class Table(nn.Module):
    """Gives the same logits whatever it is asked, and keeps what it was asked."""

    def __init__(self, logits: list[list[float]], *, wrapped: bool = False) -> None:
        super().__init__()
        self.logits = torch.tensor(logits, requires_grad=True)
        self.wrapped = wrapped

    def forward(self, image: Tensor) -> Any:
        self.seen = image
        return SimpleNamespace(logits=self.logits) if self.wrapped else self.logits


# softmax of the logarithms of shares gives the shares back
SHARES = [[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5], [0.2, 0.2, 0.6]]
LABELS = [0, 2, 2, 1]  # right, wrong, right, wrong
LOSS = -math.log(0.5) - math.log(0.1) - math.log(0.5) - math.log(0.2)


def task(classes: int = 3) -> Classify:
    dataset = SimpleNamespace(facts={"num_classes": classes}, encoding=SimpleNamespace(target="class"))
    return registry.build("classify", dataset)  # type: ignore[return-value]


def batch() -> dict[str, Tensor]:
    images = np.random.default_rng(0).normal(size=(4, 1, 5, 7)).astype(np.float32)
    return task().collate([{"image": image, "label": label} for image, label in zip(images, LABELS, strict=True)])


def model(**options: bool) -> Table:
    return Table([[math.log(share) for share in row] for row in SHARES], **options)


def test_collate_stacks_in_order() -> None:
    images = np.arange(2 * 3 * 5 * 7, dtype=np.float32).reshape(2, 3, 5, 7)
    made = task().collate([{"image": images[0], "label": 5}, {"image": images[1], "label": 3}])
    assert made["image"].dtype == torch.float32
    assert made["label"].dtype == torch.int64
    assert torch.equal(made["image"], torch.from_numpy(images))
    assert made["label"].tolist() == [5, 3]


def test_counts() -> None:
    assert task().count(batch()) == 4
    assert task().tokens(batch()) == 0


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_loss_is_the_sum_of_the_cross_entropies(wrapped: bool) -> None:
    asked = model(wrapped=wrapped)
    loss = task().loss(asked, batch())
    assert loss.shape == ()
    assert loss.item() == pytest.approx(LOSS, rel=1e-6)
    assert torch.equal(asked.seen, batch()["image"])


def test_the_gradient_is_softmax_minus_one_hot() -> None:
    asked = model()
    task().loss(asked, batch()).backward()
    expected = torch.tensor(SHARES) - nn.functional.one_hot(torch.tensor(LABELS), 3)
    torch.testing.assert_close(asked.logits.grad, expected)


def test_evaluate_gives_sums_and_metrics_divide_them() -> None:
    sums = task().evaluate(model(), batch())
    assert sums == {"loss": pytest.approx(LOSS, rel=1e-6), "examples": 4.0, "correct": 2.0}
    doubled = {name: 2 * value for name, value in sums.items()}
    for both in (sums, doubled):
        assert task().metrics(both) == {"loss": pytest.approx(LOSS / 4, rel=1e-6), "accuracy": 0.5}


def test_a_model_with_another_number_of_classes_is_refused() -> None:
    with pytest.raises(ModelError, match="gives 3 logits, but there are 4 classes"):
        task(4).loss(model(), batch())
    with pytest.raises(ModelError, match="gives 3 logits, but there are 2 classes"):
        task(2).evaluate(model(), batch())


def test_a_model_that_gives_no_logits_is_refused() -> None:
    with pytest.raises(ModelError, match=r"expected the model to return logits .* found tuple"):
        task().loss(lambda image: (image,), batch())  # type: ignore[arg-type]


class Incomplete:
    def __init__(self, dataset: object) -> None:
        self.dataset = dataset

    def collate(self) -> None: ...

    def count(self) -> None: ...

    loss = 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("glassrun_has_no_such.module:Task", "cannot be imported"),
        ("glassrun.tasks.classify:Missing", "cannot be imported"),
        ("glassrun.data.compressed:MOST_BYTES", "expected a function or a class, found int"),
        ("functools:partial", "failed: TypeError: the first argument must be callable"),
        ("glassrun.tasks.base:Batch", "lacks collate, count, tokens, loss, evaluate, metrics"),
    ],
)
def test_a_task_of_the_users_that_cannot_be_used_is_refused(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        registry.build(ImportedTask.model_validate({"import": name}), {})


def test_a_task_of_the_users_is_imported() -> None:
    built = registry.build(
        ImportedTask.model_validate({"import": "glassrun.tasks.classify:Classify"}),
        SimpleNamespace(facts={"num_classes": 7}),
    )
    assert isinstance(built, Classify)
    assert built.classes == 7


def test_a_task_that_lacks_methods_is_named_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glassrun.tasks.classify.Incomplete", Incomplete, raising=False)
    with pytest.raises(ModelError, match="Incomplete lacks tokens, loss, evaluate, metrics"):
        registry.build(ImportedTask.model_validate({"import": "glassrun.tasks.classify:Incomplete"}), None)


def test_a_task_in_a_file_with_a_mistake_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.joinpath("task_with_a_mistake.py").write_text("def (")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelError, match=r"task\.import: .*importing it failed: SyntaxError"):
        registry.build(ImportedTask.model_validate({"import": "task_with_a_mistake:Task"}), None)
