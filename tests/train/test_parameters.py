"""A forward pass that changes parameters is refused, in training and in evaluation, and the message names them."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from glassrun.errors import ModelError
from glassrun.train.evaluate import evaluate
from glassrun.train.loop import Trainer
from glassrun.train.state import _check_parameters
from glassrun.train.workers import Workers
from in_process import state_of, step
from support import Made


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.frozen = nn.Parameter(torch.arange(3.0), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        self.meddle()
        return self.layer(x.flatten(1)) + self.frozen.sum()

    def meddle(self) -> None:
        pass


class Scaling(Net):
    def meddle(self) -> None:
        self.layer.weight.data.mul_(0.999)


class Rolling(Net):
    """A sum over the words would not see it."""

    def meddle(self) -> None:
        self.frozen.data = self.frozen.data.roll(1)


class Teaching(Net):
    def meddle(self) -> None:
        self.frozen.data = self.frozen.data * 0.99 + 0.01 * self.layer.bias.data[:3]


class Replacing(Net):
    def meddle(self) -> None:
        self.layer.bias = nn.Parameter(self.layer.bias.detach().clone())


class Registering(Net):
    def meddle(self) -> None:
        if not hasattr(self, "projection"):
            self.projection = nn.Linear(3, 3)


class WithBuffers(Net):
    def meddle(self) -> None:
        if not hasattr(self, "norm"):
            self.norm = nn.BatchNorm1d(3, affine=False)


class Thawing(Net):
    def meddle(self) -> None:
        self.frozen.requires_grad = True


class Moving(Net):
    """What was there before is kept: else the next copy may be put into its memory, and be back where it began."""

    before: ClassVar[list[Tensor]] = []

    def meddle(self) -> None:
        self.before.append(self.layer.weight.data)
        self.layer.weight.data = self.layer.weight.data.clone()


MEDDLING = [
    (Scaling, "changed the parameter layer.weight in place"),
    (Rolling, "changed the parameter frozen in place"),
    (Teaching, "changed the parameter frozen in place"),
    (Replacing, "put another parameter in the place of layer.bias"),
    (Registering, "registered the parameter projection.weight"),
    (WithBuffers, "registered the buffer norm.running_mean"),
    (Thawing, "changed requires_grad of the parameter frozen to True"),
    (Moving, "moved the parameter layer.weight"),
]


@pytest.mark.parametrize(("kind", "message"), MEDDLING)
def test_training_refuses_it(kind: type[Net], message: str, made: Made) -> None:
    trainer = Trainer(state_of(made, "odd-cnn", kind()), Workers())
    with pytest.raises(ModelError, match=f"step 1: the forward pass {message}"):
        step(trainer, 1)


@pytest.mark.parametrize(("kind", "message"), MEDDLING)
def test_evaluation_refuses_it(kind: type[Net], message: str, made: Made) -> None:
    with pytest.raises(ModelError, match=message):
        evaluate(state_of(made, "odd-cnn", kind()), "validation", Workers())


def test_it_is_found_in_the_first_step_that_does_it(made: Made) -> None:
    class Later(Net):
        at = 0

        def meddle(self) -> None:
            if Later.at:
                self.frozen.data.add_(1e-7)

    trainer = Trainer(state_of(made, "odd-cnn", Later()), Workers())
    step(trainer, 1)
    Later.at = 1
    with pytest.raises(ModelError, match="step 2: the forward pass changed the parameter frozen"):
        step(trainer, 2)


def test_a_model_that_leaves_them_alone_trains(made: Made) -> None:
    trainer = Trainer(state_of(made, "odd-cnn", Net()), Workers())
    assert step(trainer, 1).problem is None
    assert evaluate(trainer.state, "validation", Workers()) is not None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda net: net.to("meta"), "parameter frozen is on the device meta"),
        (lambda net: net.register_buffer("empty", torch.empty(2, device="meta")), "buffer empty is on the device meta"),
        (lambda net: net.register_buffer("scale", torch.ones(2, requires_grad=True)), "buffer scale requires a grad"),
        (lambda net: net.register_buffer("mask", torch.eye(2).to_sparse()), "buffer mask is of the layout"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused_at_the_start(spoil: Any, message: str) -> None:
    net = Net()
    spoil(net)
    with pytest.raises(ModelError, match=message):
        _check_parameters(net)
