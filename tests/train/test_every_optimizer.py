"""Every optimizer, with averaged weights, under the numerical contract: what may move no bit, and does not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import glassrun as api
from glassrun import config
from glassrun.record.fingerprint import Fingerprinter
from glassrun.train import checkpoint
from glassrun.train.evaluate import evaluate
from glassrun.train.loop import Trainer
from glassrun.train.workers import Workers
from in_process import state_of, step
from support import Made, bits_of, glassrun, kill, start, wait_for

STEPS = 6
LATE = 3  # the first step in which the late layer takes part


class Late(nn.Module):
    """Odd widths, a convolution, batch norm, and a layer that has no gradient before step `LATE`."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.first = nn.Linear(192, 13)
        self.late = nn.Linear(13, 13)
        self.last = nn.Linear(13, 10)
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(torch.relu(self.norm(self.convolution(x))).flatten(1)))
        if self.training:
            self.steps += 1
        if int(self.steps) >= LATE:
            x = x + torch.relu(self.late(x))
        return self.last(x)


def trainer_of(made: Made, kind: str, dtype: torch.dtype = torch.float32) -> Trainer:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        module = Late().to(dtype)
    extra = {"average": {"decay": 0.9}, "train.label_smoothing": 0.1, "train.steps": STEPS}
    return Trainer(state_of(made, "odd-cnn", module, optimizer={"kind": kind, "weight_decay": 0.1}, **extra), Workers())


def bits(trainer: Trainer) -> dict[str, int]:
    """Everything that a checkpoint holds."""
    tensors = checkpoint.model_tensors(trainer.state.model) | trainer.state.carried()
    return {name: Fingerprinter()(tensor) for name, tensor in tensors.items()}


def elsewhere() -> list[Tensor]:
    """Memory of odd sizes, so that what is made next lies at other places."""
    draw = random.Random(7)
    return [torch.full((draw.randrange(1, 5000),), float("nan")) for _ in range(200)][::2]


def test_the_late_layer_is_late(made: Made) -> None:
    trainer = trainer_of(made, "adamw")
    names = [name for name in trainer.ledger_names if name.startswith("gradient late")]
    for number in range(1, STEPS + 1):
        prints = dict(zip(trainer.ledger_names, step(trainer, number).tensors, strict=True))
        assert all((prints[name] is None) == (number < LATE) for name in names)


@pytest.mark.parametrize("kind", config.OPTIMIZERS)
def test_a_run_gone_on_with_from_any_checkpoint_has_the_bits_of_the_one_that_never_stopped(
    kind: str, made: Made, tmp_path: Path
) -> None:
    """From before and after the first gradient of the late layer, in memory at other places."""
    trainer = trainer_of(made, kind)
    outcomes: list[Any] = []
    for number in range(1, STEPS + 1):
        outcomes.append(step(trainer, number))
        if number in (LATE - 1, LATE + 1):
            checkpoint.save(tmp_path, trainer.state, chain="", metrics_digest="")
    evaluated = evaluate(trainer.state, "validation", Workers())
    for number in (LATE - 1, LATE + 1):
        held = elsewhere()
        again = trainer_of(made, kind)
        checkpoint.restore(again.state, checkpoint.read(tmp_path / "checkpoints" / f"step-{number:06d}"))
        for name, tensor in (checkpoint.model_tensors(again.state.model) | again.state.carried()).items():
            assert tensor.data_ptr() % 64 == 0, name
            assert tensor.is_contiguous(), name
            assert tensor.untyped_storage().nbytes() == tensor.nbytes, name
        for following in range(number + 1, STEPS + 1):
            outcome = step(again, following)
            assert outcome.step == outcomes[following - 1].step
            assert outcome.tensors == outcomes[following - 1].tensors
        assert bits(again) == bits(trainer)
        assert evaluate(again.state, "validation", Workers()) == evaluated
        del held


@pytest.mark.parametrize("kind", config.OPTIMIZERS)
def test_half_precision_goes_on_with_the_same_bits(kind: str, made: Made, tmp_path: Path) -> None:
    """Parameters in bfloat16, whose average is in float32."""

    class InHalf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(3)
                self.layer = nn.Linear(64, 10).to(torch.bfloat16)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.flatten(1).to(torch.bfloat16)).float()

    def fresh() -> Trainer:
        values = {"optimizer": {"kind": kind}, "average": {"decay": 0.9}, "train.steps": 4}
        return Trainer(state_of(made, "odd-cnn", InHalf(), **values), Workers())

    trainer, again = fresh(), fresh()
    for number in (1, 2):
        step(trainer, number)
    checkpoint.save(tmp_path, trainer.state, chain="", metrics_digest="")
    checkpoint.restore(again.state, checkpoint.read(tmp_path / "checkpoints" / "step-000002"))
    assert {t.dtype for name, t in again.state.carried().items() if name.endswith("/average")} == {torch.float32}
    for number in (3, 4):
        assert step(again, number).step == step(trainer, number).step
    assert bits(again) == bits(trainer)


EXTRAS = {
    "average": {"decay": 0.9},
    "train.label_smoothing": 0.1,
    "data.augment": [
        {"kind": "flip"},
        {"kind": "crop", "padding": 2},
        {"kind": "cutout", "size": 3},
        {"kind": "mixup"},
    ],
    "data.workers": 2,
}


@pytest.mark.long
def test_with_real_workers_everything_at_once(made: Made, tmp_path: Path) -> None:
    """Muon, averaged weights, smoothed and mixed labels, augmented images."""
    recipe = made.recipe("odd-cnn", optimizer={"kind": "muon", "lr": 3e-3}, **EXTRAS)
    one = api.train(recipe, out=tmp_path / "one", workers=1)
    two = api.train(recipe | {"data": recipe["data"] | {"workers": 0}}, out=tmp_path / "two", workers=2)
    assert bits_of(one.path) == bits_of(two.path)
    replayed = one.replay(workers=2, first=5)
    assert replayed, replayed.difference


@pytest.mark.long
@pytest.mark.parametrize("kind", config.OPTIMIZERS)
def test_with_real_workers_killed_and_resumed(kind: str, made: Made, tmp_path: Path) -> None:
    values = EXTRAS | {
        "optimizer": {"kind": kind, "lr": 3e-3},
        "train": {"steps": 60, "eval_every": 30, "checkpoint_every": 2},
    }
    whole = api.train(made.recipe("odd-cnn", **values), out=tmp_path / "whole", workers=1)
    run = tmp_path / "killed"
    process = start("train", made.file("odd-cnn", **values), "--out", run, "--workers", 2)
    wait_for(lambda: len(list(run.glob("checkpoints/step-*"))) > 2, "the second checkpoint")
    kill(process.pid)
    process.communicate()
    wait_for(lambda: api.load(run).status != "running", "the end of its workers")
    done = glassrun("resume", run, "--workers", 4)
    assert done.code == 0, done.err
    assert bits_of(run) == bits_of(whole.path)
    replayed = whole.replay(workers=2)
    assert replayed, replayed.difference
