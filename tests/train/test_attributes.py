"""What a user's modules keep beside parameters and buffers: it may reach no other slice, whatever it is kept in."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glassrun.train.attributes import Attributes
from glassrun.train.loop import Trainer
from glassrun.train.workers import Workers
from in_process import state_of, step, watched
from support import Made

CLASSES = 10


class Net(nn.Module):
    """One layer; the subclasses keep something in their forward, and let it into the output."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, CLASSES)

    def factor(self, x: Tensor) -> Any:  # noqa: ARG002
        return 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1)) * self.factor(x)


class InPlaceTensor(Net):
    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.zeros(3)

    def factor(self, x: Tensor) -> Any:
        self.mean.mul_(0.9).add_(x.mean())
        return 1 + self.mean.sum()


class TensorThroughData(InPlaceTensor):
    def factor(self, x: Tensor) -> Any:
        self.mean.data = torch.cat([self.mean, x.mean()[None]])
        return 1 + self.mean.sum()


class InPlaceArray(Net):
    def __init__(self) -> None:
        super().__init__()
        self.mean = np.zeros(3)

    def factor(self, x: Tensor) -> Any:
        self.mean += float(x.mean())
        return float(1 + self.mean.sum())


class Containers(Net):
    def __init__(self) -> None:
        super().__init__()
        self.history: list[float] = []
        self.counts: Counter[str] = Counter()
        self.seen: set[float] = set()
        self.last: deque[float] = deque(maxlen=2)
        self.nested = {"deep": [[torch.zeros(2)]], "tuple": ([0],)}

    def factor(self, x: Tensor) -> Any:
        value = float(x.mean())
        self.history.append(value)
        self.counts["calls"] += 1
        self.seen.add(value)
        self.last.append(value)
        self.nested["deep"][0][0].add_(value)
        self.nested["tuple"][0][0] += 1  # type: ignore[operator]
        deep = float(self.nested["deep"][0][0].sum()) + self.nested["tuple"][0][0]  # type: ignore[operator]
        return 1 + sum(self.history) + self.counts["calls"] + len(self.seen) + sum(self.last) + deep


class OnATorchModule(Net):
    def factor(self, x: Tensor) -> Any:  # noqa: ARG002
        self.layer.calls = getattr(self.layer, "calls", 0) + 1  # type: ignore[assignment, operator]
        return 1.0 + self.layer.calls  # type: ignore[operator]


class HiddenModule(Net):
    """A teacher that is kept from being registered by a list, and follows the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [nn.Sequential(nn.Linear(64, 1), nn.BatchNorm1d(1))]

    def factor(self, x: Tensor) -> Any:
        with torch.no_grad():
            self.hidden[0][0].weight.mul_(0.5).add_(x.flatten(1).mean(0))
        return self.hidden[0](x.flatten(1)).mean() + self.hidden[0][1].running_mean


class Mode(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def factor(self, x: Tensor) -> Any:
        y = self.norm(x).mean()
        self.norm.eval()
        return 1 + y


def _drawing(make: Callable[[], Any], draw: Callable[[Any], float]) -> type[Net]:
    class Drawing(Net):
        def __init__(self) -> None:
            super().__init__()
            self.own = {"generator": make()}

        def factor(self, x: Tensor) -> Any:  # noqa: ARG002
            return draw(self.own["generator"])

    return Drawing


DRAWING = {
    "torch": _drawing(lambda: torch.Generator().manual_seed(3), lambda own: float(torch.rand((), generator=own))),
    "numpy": _drawing(lambda: np.random.default_rng(3), lambda own: float(own.random())),
    "numpy-bits": _drawing(
        lambda: np.random.Philox(3), lambda own: float(np.random.Generator(own).integers(1, 2**40) / 2**40)
    ),
    "numpy-old": _drawing(lambda: np.random.RandomState(3), lambda own: float(own.rand())),
    "python": _drawing(lambda: random.Random(3), lambda own: own.random()),
    "unseeded": _drawing(lambda: np.random.default_rng(), lambda own: float(own.random())),
}
KEEPING = {
    kind.__name__: kind
    for kind in (
        InPlaceTensor,
        TensorThroughData,
        InPlaceArray,
        Containers,
        OnATorchModule,
        HiddenModule,
        Mode,
    )
}


class Alone(Workers):
    """One worker of several, for one step: it hears itself from the others."""

    def gather(self, values: Any) -> list[list[int]]:
        return [list(values)] * self.world_size

    def tree_sum(self, partial: Any, tree: Any, told: Any = ()) -> list[list[int]]:  # noqa: ARG002
        return self.gather(told)


def slices_of(made: Made, model: nn.Module, workers: Workers) -> list[list[Tensor | None]]:
    """The gradients of this worker's slices, one after another, in the first step."""
    trainer = Trainer(state_of(made, "odd-cnn", model), workers)
    found = watched(trainer)
    step(trainer, 1)
    return found


def fresh(kind: type[Net]) -> Net:
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(1)
        return kind()


@pytest.mark.parametrize("name", [*KEEPING, *DRAWING])
def test_a_slice_does_not_know_what_was_computed_before_it(name: str, made: Made) -> None:
    kind = (KEEPING | DRAWING)[name]
    together = slices_of(made, fresh(kind), Workers())
    apart = [slices_of(made, fresh(kind), Alone(rank, 4)) for rank in range(4)]
    for place in range(4):
        for a, b in zip(together[place], apart[place][0], strict=True):
            assert (a is None) == (b is None)
            assert a is None or torch.equal(a, b)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DRAWING)
def test_owned_generators_draw_other_numbers_in_each_slice_and_step_whatever_they_were_seeded_with(
    name: str, made: Made
) -> None:
    model = fresh(DRAWING[name])
    drawn: list[Any] = []
    model.factor = lambda x: drawn.append(type(model).factor(model, x)) or drawn[-1]  # type: ignore
    trainer = Trainer(state_of(made, "odd-cnn", model), Workers())
    for number in (1, 2):
        step(trainer, number)
    assert len(set(drawn)) == 8
    again = fresh(DRAWING[name])
    attributes = Attributes(again, None)
    attributes.set_generators(7, "step", 2, 3)
    assert again.factor(torch.zeros(1)) == drawn[-1]


def test_everything_is_as_it_was_after_the_step(made: Made) -> None:
    """And so it is in the next process that goes on from here, which makes the model anew."""
    model = fresh(Containers)
    trainer = Trainer(state_of(made, "odd-cnn", model), Workers())
    step(trainer, 1)
    assert (model.history, model.counts, model.seen, list(model.last)) == ([], Counter(), set(), [])
    assert model.nested["deep"][0][0].tolist() == [0.0, 0.0]
    assert model.nested["tuple"] == ([0],)


def test_a_view_of_a_parameter_is_not_put_back(made: Made) -> None:
    model = fresh(Net)
    model.view = [model.layer.weight.detach()]  # type: ignore[assignment]
    trainer = Trainer(state_of(made, "odd-cnn", model), Workers())
    for number in (1, 2):
        step(trainer, number)
    other = fresh(Net)
    trainer = Trainer(state_of(made, "odd-cnn", other), Workers())
    for number in (1, 2):
        step(trainer, number)
    assert torch.equal(model.layer.weight, other.layer.weight)


class Keeping:
    """A task that counts what it is asked."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def collate(self, examples: Any) -> Any:
        self.calls += 1
        batch = self.inner.collate(examples)
        return batch | {"image": batch["image"] + self.calls}

    def count(self, batch: Any) -> int:
        self.calls += 1
        return int(self.inner.count(batch))

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        self.calls += 1
        return self.inner.loss(model, batch) * self.calls  # type: ignore[no-any-return]


def test_what_a_task_keeps_reaches_no_other_slice(made: Made) -> None:
    def loss(workers: Workers) -> list[list[Tensor | None]]:
        state = state_of(made, "odd-cnn", fresh(Net))
        state.task = Keeping(state.task)  # type: ignore[assignment]
        trainer = Trainer(state, workers)
        found: list[list[Tensor | None]] = []
        trainer.tree.add = lambda tensors: found.append([t.clone() for t in tensors])  # type: ignore
        with pytest.raises(ValueError, match="unpack"):  # nothing was added to the tree
            step(trainer, 1)
        return found

    together, second = loss(Workers()), loss(Alone(1, 2))
    for a, b in zip(together[2:], second, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))  # type: ignore[arg-type]
