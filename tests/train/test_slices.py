"""DESIGN section 3 for models of the user's: keyed randomness, buffers, absent gradients, what is refused."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path
from typing import Any

import pytest

import glassrun as api
from glassrun.data.order import Order
from glassrun.errors import BadInput, GlassrunError
from glassrun.record.ledger import TensorTable
from in_process import trained
from support import Made, bits_of, glassrun
from warm_workers import cold

pytestmark = pytest.mark.usefixtures("warm_workers")

MODELS = '''
import random

import numpy as np
import torch
from torch import nn


class Base(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layer = nn.Linear(64, num_classes)
        self.register_buffer("mean", torch.zeros(7))
        self.register_buffer("calls", torch.zeros(3, dtype=torch.int64))

    def forward(self, x):
        return self.layer(x.flatten(1))


class Noisy(Base):
    """Draws from all three default generators, in its factory and in its forward."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.offset = nn.Parameter(torch.tensor([random.random(), np.random.rand(), torch.rand(1).item()]))

    def forward(self, x):
        noise = random.random() + float(np.random.rand())
        return super().forward(x + 0.1 * torch.randn_like(x) + noise * self.offset.sum())


class Averaging(Base):
    """A floating buffer that depends on the slice, put in place of the old tensor; and a counter."""

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + x.mean()
            self.calls += 1
        return super().forward(x) + self.mean.mean()


class Disagreeing(Base):
    def forward(self, x):
        self.calls += int((x * 1000).sum().item())
        return super().forward(x)


class Branching(Base):
    """A parameter without any gradient, and one whose gradient only some slices have."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.never = nn.Parameter(torch.ones(5))
        self.sometimes = nn.Parameter(torch.full((3,), -0.0))

    def forward(self, x):
        out = super().forward(x)
        if float(x[0, 0, 3, 3]) > 0.5:
            out = out + self.sometimes.sum()
        return out


class Unordered(Base):
    """Makes its layers in the order of a set of strings."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.layers = nn.ModuleDict()
        for name in {"alpha", "beta", "gamma", "delta"}:
            self.layers[name] = nn.Linear(num_classes, num_classes)

    def forward(self, x):
        x = super().forward(x)
        for layer in self.layers.values():
            x = torch.tanh(layer(x))
        return x


class Remembering(Base):
    """Keeps a counter and a tensor on itself, fills a buffer that was None and registers another, in its forward."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.count = 0
        self.last = None
        self.register_buffer("cache", None)

    def forward(self, x):
        self.count += 1
        if self.last is not None:
            x = x + self.last
        if self.cache is None:
            self.cache = x.mean()
        if not hasattr(self, "scale"):
            self.register_buffer("scale", 1 + x.std())
        self.last = x.mean().detach()
        return super().forward(x * self.scale + self.cache) * (1 + 0.1 * self.count)


class Aliased(Base):
    """Changes a buffer through another reference to it, and a shared one under its second name; also in evaluation."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.also = [self.mean]
        self.inner = nn.Module()
        self.inner.register_buffer("second", self.mean)

    def forward(self, x):
        self.also[0].add_(x.mean())
        self.inner.second = self.inner.second + 0.01
        return super().forward(x) + self.also[0].mean() + self.inner.second.mean()


class Unkeyed(Base):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.layer.weight.data = torch.from_numpy(np.random.default_rng().standard_normal((num_classes, 64))).float()


class MaxNorm(Base):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.embedding = nn.Embedding(4, num_classes, max_norm=0.5)

    def forward(self, x):
        return super().forward(x) + self.embedding(torch.arange(len(x)) % 4)


class Sparse(Base):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.embedding = nn.Embedding(4, num_classes, sparse=True)

    def forward(self, x):
        return super().forward(x) + self.embedding(torch.arange(len(x)) % 4)


class Lazy(Base):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.more = nn.LazyLinear(3)


class Leaving(Base):
    def __init__(self, num_classes):
        raise SystemExit(3)


class Exploding(Base):
    def forward(self, x):
        return super().forward(x) * torch.exp(self.layer.weight.abs().max() * 1e4)


class Forbidden(Base):
    def forward(self, x):
        flat = x.flatten(1)
        return super().forward(torch.zeros_like(flat).put_(torch.arange(5), flat.flatten()[:5]))
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the user's module."""
    folder = tmp_path_factory.mktemp("user")
    folder.joinpath("their_models.py").write_text(textwrap.dedent(MODELS))
    return folder


@pytest.fixture(autouse=True)
def _working_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)


def recipe(made: Made, model: str, **overrides: Any) -> dict[str, Any]:
    return made.recipe("odd-cnn", model={"import": f"their_models:{model}"}, **{"train.steps": 4, **overrides})


MORE = ("Remembering", "Aliased")


@pytest.mark.parametrize(
    "model", ["Noisy", "Averaging", "Branching", *(pytest.param(name, marks=pytest.mark.long) for name in MORE)]
)
def test_same_bits_on_1_and_2_workers(model: str, made: Made, tmp_path: Path) -> None:
    """And evaluation, which happens in between, moves nothing: its metrics are the same bytes too."""
    runs = [trained(recipe(made, model), tmp_path / "1"), api.train(recipe(made, model), out=tmp_path / "2", workers=2)]
    assert bits_of(runs[0].path) == bits_of(runs[1].path)
    if model == "Noisy":
        replayed = runs[1].replay(workers=4)
        assert replayed, replayed.difference


@pytest.mark.long
def test_a_set_of_names_has_one_order_in_every_worker(made: Made, tmp_path: Path) -> None:
    """Each process has its own unless it is told: what is forked, or trained in this one, would not show it."""
    with cold():
        runs = [api.train(recipe(made, "Unordered"), out=tmp_path / str(n), workers=n) for n in (1, 2)]
    assert bits_of(runs[0].path) == bits_of(runs[1].path)


def test_floating_buffers_are_the_mean_over_the_slices(made: Made, tmp_path: Path) -> None:
    run = trained(recipe(made, "Averaging", **{"train.steps": 1}), tmp_path / "run")
    images = run.dataset.splits["train"]
    chosen = Order(7, len(images)).batch(1, 12)
    means = [
        sum(float(images.example(index, 1)["image"].mean()) for _, index in chosen[start : start + 3]) / 3
        for start in range(0, 12, 3)
    ]
    assert run.model.mean[0].item() == pytest.approx(sum(means) / 4, rel=1e-5)
    assert run.model.calls.tolist() == [1, 1, 1]


def test_a_gradient_that_is_none_stays_none(made: Made, tmp_path: Path) -> None:
    run = trained(recipe(made, "Branching"), tmp_path / "run")
    assert run.model.never.tolist() == [1.0] * 5  # AdamW's weight decay would have moved it
    table, rows = TensorTable.read(run.path / "ledger.tensors")
    absent = next(place for place, name in enumerate(table.names) if name.startswith("gradient never"))
    partly = next(place for place, name in enumerate(table.names) if name.startswith("gradient sometimes"))
    values = [row for _, row in rows]
    assert all(row[absent] is None for row in values)
    assert any(row[partly] is not None for row in values)


def test_other_buffers_must_agree(made: Made, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"calls.*slices"):
        trained(recipe(made, "Disagreeing"), tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_the_run_there(made: Made, tmp_path: Path) -> None:
    done = glassrun("train", _written(made, "Exploding", tmp_path), "--out", tmp_path / "run", "--workers", 1)
    assert done.code == 1
    assert "stopped: step 1: the loss is not finite" in done.err
    assert "Traceback" not in done.err
    run = api.load(tmp_path / "run")
    assert run.status == "stopped"
    assert len(run.ledger) == 1
    assert run.replay(workers=2)


def test_an_operation_without_a_deterministic_form_names_itself_and_its_module(made: Made, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="put_") as refused:
        trained(recipe(made, "Forbidden"), tmp_path / "run")
    assert "Forbidden" in str(refused.value)


TASK = """
import torch

from glassrun.tasks.classify import Classify


class Noisy:
    def __init__(self, dataset):
        self.inner = Classify(dataset)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def collate(self, examples):
        batch = self.inner.collate(examples)
        return batch | {"image": batch["image"] + 0.1 * torch.randn_like(batch["image"])}


class Fractional(Noisy):
    def count(self, batch):
        return len(batch["label"]) + 0.3


class Failing(Noisy):
    def metrics(self, sums):
        return {"loss": sums["los"]}
"""


@pytest.mark.long
def test_a_task_that_draws_while_it_collates(made: Made, tmp_path: Path, place: Path) -> None:
    """The same bits with one and four workers, with threads that load ahead, and however often it evaluates."""
    place.joinpath("their_tasks.py").write_text(TASK)
    chosen = made.recipe("odd-cnn", task={"import": "their_tasks:Noisy"}, **{"train.steps": 4})
    first = api.train(chosen, out=tmp_path / "1", workers=1)
    chosen["data"]["workers"] = 2
    assert bits_of(api.train(chosen, out=tmp_path / "4", workers=4).path) == bits_of(first.path)
    chosen["train"]["eval_every"] = 3
    assert api.train(chosen, out=tmp_path / "seldom", workers=1).ledger[-1].chain == first.ledger[-1].chain


@pytest.mark.parametrize(
    ("where", "name", "expected"),
    [
        ("model", "MaxNorm", ["embedding.weight", "in place"]),
        ("model", "Sparse", ["embedding.weight", "sparse"]),
        ("model", "Lazy", ["more.weight", "no shape"]),
        ("task", "Fractional", ["whole numbers"]),
    ],
)
def test_a_mistake_of_the_users_is_one_message(
    where: str, name: str, expected: list[str], made: Made, tmp_path: Path, place: Path
) -> None:
    place.joinpath("their_tasks.py").write_text(TASK)
    chosen = recipe(made, name) if where == "model" else made.recipe("odd-cnn", task={"import": f"their_tasks:{name}"})
    with pytest.raises(BadInput) as refused:
        trained(chosen, tmp_path / "run")
    for part in expected:
        assert part in str(refused.value)


@pytest.mark.parametrize(
    ("where", "name", "expected"),
    [
        ("model", "Unkeyed", ["different models"]),
        ("task", "Failing", ["KeyError", "their_tasks.py"]),
        pytest.param("model", "Leaving", ["SystemExit", "their_models.py"], marks=pytest.mark.long),
    ],
)
def test_a_mistake_in_a_worker_is_one_message_without_a_traceback(
    where: str, name: str, expected: list[str], made: Made, tmp_path: Path, place: Path
) -> None:
    place.joinpath("their_tasks.py").write_text(TASK)
    chosen = recipe(made, name) if where == "model" else made.recipe("odd-cnn", task={"import": f"their_tasks:{name}"})
    with pytest.raises(BadInput) as refused:
        api.train(chosen, out=tmp_path / "run", workers=2)
    assert "Traceback" not in str(refused.value)
    for part in expected:
        assert part in str(refused.value)


@pytest.mark.long
def test_sgd_with_momentum_and_a_gradient_that_comes_late(made: Made, tmp_path: Path) -> None:
    sgd = {"kind": "sgd", "lr": 1e-2, "momentum": 0.9}
    runs = [
        api.train(recipe(made, "Branching", optimizer=sgd), out=tmp_path / str(workers), workers=workers)
        for workers in (1, 2)
    ]
    assert bits_of(runs[0].path) == bits_of(runs[1].path)


def test_batch_norm_with_one_example_a_slice_is_an_error(made: Made, tmp_path: Path) -> None:
    with pytest.raises(GlassrunError, match="one example a slice"):
        api.train(made.recipe("odd-cnn", batch={"size": 4, "shards": 4}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_pretrained_weight_stays(made: Made, tmp_path: Path, place: Path) -> None:
    place.joinpath("pretrained.py").write_text(
        "import torch\nfrom their_models import Base\n\n\ndef model(num_classes):\n    found = Base(num_classes)\n"
        "    found.layer.bias.data = torch.arange(float(num_classes))\n    return found\n"
    )
    chosen = made.recipe("odd-cnn", model={"import": "pretrained:model"}, **{"train.steps": 1, "optimizer.lr": 1e-9})
    run = trained(chosen, tmp_path / "run")
    assert run.model.layer.bias.round().tolist() == list(range(10))


def _written(made: Made, model: str, folder: Path) -> Path:
    path = folder / f"{model}.json"
    path.write_text(json.dumps(recipe(made, model)))
    return path


def test_workers_have_the_environment_that_decides_bits(made: Made, tmp_path: Path) -> None:
    variables = {"MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "7", "ATEN_CPU_CAPABILITY": "default"}
    variables |= {"DNNL_MAX_CPU_ISA": "SSE41", "OMP_THREAD_LIMIT": "1"}
    recipe = made.file("odd-lm", **{"train.steps": 1})
    done = glassrun("train", recipe, "--out", tmp_path / "run", "--workers", 1, **variables)
    assert done.code == 0, done.err
    for name, value in variables.items():
        assert f"{name}={value} is not followed" in done.err
    numerics = api.load(tmp_path / "run").folder.header["environment"]["numerics"]
    assert numerics["threads"] == 1
    assert numerics["variables"]["MKL_CBWR"] == "AUTO"
    assert numerics["variables"]["OMP_NUM_THREADS"] == "1"
    assert not {"ATEN_CPU_CAPABILITY", "DNNL_MAX_CPU_ISA"} & set(numerics["variables"])
    assert os.environ["MKL_CBWR"] == "AUTO"


def test_isa_is_part_of_what_a_run_is(made: Made, tmp_path: Path) -> None:
    chosen = made.recipe("odd-lm", numerics={"isa": "avx2"}, **{"train.steps": 2})
    run = api.train(chosen, out=tmp_path / "run", workers=1)
    numerics = run.folder.header["environment"]["numerics"]
    assert numerics["cpu_capability"] == "AVX2"
    assert run.replay(workers=1)
    native = trained(made.recipe("odd-lm", **{"train.steps": 2}), tmp_path / "native")
    assert run.ledger[-1].chain != native.ledger[-1].chain
