"""The exponential moving average of the weights: by hand, against torch's, and who uses it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from glassrun.errors import RunFolderError
from glassrun.train import checkpoint
from glassrun.train.average import WeightAverage, weight
from glassrun.train.evaluate import evaluate
from glassrun.train.loop import Trainer
from glassrun.train.workers import Workers
from in_process import state_of, step
from support import Made


def averaged(values: list[list[float]], decay: float) -> tuple[nn.Parameter, WeightAverage]:
    """The average over weights that were these after each step."""
    parameter = nn.Parameter(torch.full((3,), 1e6))  # before the first step: it must leave no trace
    average = WeightAverage([("w", parameter)], decay)
    for number, value in enumerate(values, start=1):
        with torch.no_grad():
            parameter.copy_(torch.tensor(value))
        average.update(number)
    return parameter, average


@settings(max_examples=25)
@given(decay=st.floats(0, 0.9999), steps=st.integers(1, 30))
def test_it_is_the_weighted_mean_of_the_weights_after_each_step(decay: float, steps: int) -> None:
    """To a relative 1e-5 of the largest: up to thirty roundings of float32."""
    values = np.random.default_rng(steps).normal(size=(steps, 3)).astype(np.float32)
    _, average = averaged(values.tolist(), decay)
    shares = decay ** np.arange(steps - 1, -1, -1, dtype=np.float64)
    expected = (shares[:, None] * values).sum(0) / shares.sum()
    np.testing.assert_allclose(average.tensors()["w/average"].numpy(), expected, rtol=1e-5, atol=1e-5)


def test_after_many_steps_it_is_torchs() -> None:
    """To 0.9^200, the share that torch's gives to the first weights."""
    model = nn.Linear(5, 3)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    ours = WeightAverage(list(model.named_parameters()), 0.9)
    generator = torch.Generator().manual_seed(1)
    for number in range(1, 201):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        theirs.update_parameters(model)
        ours.update(number)
    for name, parameter in theirs.module.named_parameters():
        torch.testing.assert_close(ours.tensors()[f"{name}/average"], parameter.detach(), rtol=1e-5, atol=1e-6)


def test_the_first_weights_are_taken_to_the_bit() -> None:
    assert weight(1, 0.999) == 1.0
    _, average = averaged([[0.1, -0.0, 3e-39]], 0.999)
    assert [value.hex() for value in average.tensors()["w/average"].tolist()] == [
        value.hex() for value in torch.tensor([0.1, -0.0, 3e-39]).tolist()
    ]


def test_inside_the_model_holds_the_average_and_afterwards_its_own_weights_in_their_place() -> None:
    parameter, average = averaged([[1.0, 2.0, 4.0], [3.0, -0.0, float("inf")]], 0.5)
    place, before = parameter.data_ptr(), parameter.detach().clone()

    def failing() -> None:
        with average.in_place():
            assert parameter.tolist()[:2] == pytest.approx([(0.5 * 1 + 3) / 1.5, 1 / 1.5])
            raise KeyError("whatever happens inside")

    with pytest.raises(KeyError):
        failing()
    assert parameter.data_ptr() == place
    assert parameter.detach().numpy().tobytes() == before.numpy().tobytes()


def test_an_evaluation_is_the_averages_and_training_goes_on_from_its_own_weights(made: Made) -> None:
    """The same run without an average trains with the same bits; its weights of the first step are evaluated alike."""
    plain = Trainer(state_of(made, "odd-cnn"), Workers())
    with_average = Trainer(state_of(made, "odd-cnn", average={"decay": 0.9}), Workers())
    for number in range(1, 5):
        found, expected = step(with_average, number), step(plain, number)
        assert found.step == expected.step
        own, other = (evaluate(trainer.state, "validation", Workers()) for trainer in (with_average, plain))
        assert (own == other) == (number == 1)
    assert with_average.state.average is not None
    mean = {name.removesuffix("/average"): t for name, t in with_average.state.average.tensors().items()}
    with torch.no_grad():
        for name, parameter in plain.state.named_parameters:
            parameter.copy_(mean[name])
    assert evaluate(with_average.state, "validation", Workers()) == evaluate(plain.state, "validation", Workers())


def test_a_checkpoint_holds_both_and_a_model_can_be_filled_with_either(made: Made, tmp_path: Path) -> None:
    trainer = Trainer(state_of(made, "odd-cnn", average={"decay": 0.5}), Workers())
    for number in (1, 2):
        step(trainer, number)
    read = checkpoint.read(checkpoint.save(tmp_path, trainer.state, chain="", metrics_digest="").path)
    model = state_of(made, "odd-cnn").model
    checkpoint.load_model(model, read)
    own = dict(trainer.state.named_parameters)
    assert all(torch.equal(parameter, own[name]) for name, parameter in model.named_parameters())
    checkpoint.load_average(model, read, 0.5)
    means = trainer.state.average.tensors()  # type: ignore[union-attr]
    assert all(torch.equal(parameter, means[f"{name}/average"]) for name, parameter in model.named_parameters())
    assert not all(torch.equal(parameter, own[name]) for name, parameter in model.named_parameters())


def test_a_checkpoint_without_an_average_is_refused_where_one_is_wanted(made: Made, tmp_path: Path) -> None:
    trainer = Trainer(state_of(made, "odd-cnn"), Workers())
    step(trainer, 1)
    read = checkpoint.read(checkpoint.save(tmp_path, trainer.state, chain="", metrics_digest="").path)
    with pytest.raises(RunFolderError, match="it holds no averaged weights"):
        checkpoint.restore(state_of(made, "odd-cnn", average={"decay": 0.5}), read)
    with pytest.raises(RunFolderError, match="it holds no averaged weights"):
        checkpoint.load_average(trainer.state.model, read, 0.5)
    state = state_of(made, "odd-cnn", average={"decay": 0.5})
    other = checkpoint.read(checkpoint.save(tmp_path / "other", state, chain="", metrics_digest="").path)
    with pytest.raises(RunFolderError, match="optimizer's state"):
        checkpoint.restore(state_of(made, "odd-cnn"), other)
