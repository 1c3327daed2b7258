"""One step of the loop against plain torch: what its loss, its gradients and its masks are."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassrun.data.order import Order
from glassrun.record.fingerprint import Fingerprinter
from glassrun.train.evaluate import Evaluation
from glassrun.train.loading import Examples
from glassrun.train.loop import Outcome, Trainer
from glassrun.train.state import State
from glassrun.train.workers import Workers
from in_process import state_of, step, trained, watched
from support import Made


@pytest.mark.parametrize("name", ["odd-pairs", "odd-lm"])
def test_loss_and_gradients_are_those_of_the_whole_batch(name: str, made: Made) -> None:
    """Slices with unequal numbers of tokens weigh by their tokens, not alike.

    To a relative 1e-5 of the largest entry: the sums over examples have another order in a batch that is not cut.
    """
    state = state_of(made, name, **{"model.dropout": 0.0, "train.steps": 1})
    split = state.dataset.splits["train"]
    examples = [split.example(index, epoch) for epoch, index in Order(7, len(split)).batch(1, 12)]
    batch = state.task.collate(examples)
    counts = {state.task.count(state.task.collate(examples[start : start + 3])) for start in range(0, 12, 3)}
    assert name == "odd-lm" or len(counts) > 1
    expected = state.task.loss(state.model, batch) / state.task.count(batch)
    expected.backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad.clone() for _, parameter in state.named_parameters]  # type: ignore[union-attr]

    trainer = Trainer(state, Workers())
    slices = watched(trainer)
    outcome = step(trainer, 1)
    assert outcome.step.loss == pytest.approx(float(expected.detach()), rel=1e-6)
    for place, gradient in enumerate(gradients):
        total = torch.stack([s[place] for s in slices]).sum(0)  # type: ignore[arg-type, misc]
        torch.testing.assert_close(total, gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))


def test_the_recorded_gradient_is_after_the_tree_and_before_clipping(made: Made) -> None:
    state = state_of(made, "odd-cnn", **{"optimizer.clip_norm": 1e-3})
    trainer = Trainer(state, Workers())
    slices = watched(trainer)
    outcome = step(trainer, 1)
    a, b, c, d = ([t for t in s if t is not None] for s in slices)
    summed = [(w + x) + (y + z) for w, x, y, z in zip(a, b, c, d, strict=True)]
    recorded = outcome.tensors[len(trainer.parameters) :]
    assert recorded == [Fingerprinter()(gradient) for gradient in summed]
    assert outcome.step.gradient_norm == pytest.approx(float(torch.cat([g.flatten() for g in summed]).norm()), rel=1e-5)
    assert outcome.step.gradient_norm > 1e-3


class Masks(nn.Module):
    def __init__(self, seen: list[tuple[bool, ...]]) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.dropout = nn.Dropout(0.5)
        self.see = lambda x: seen.append(tuple((x != 0).flatten().tolist()))

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(torch.ones_like(x.flatten(1)))
        self.see(x)
        return self.layer(x)


def test_dropout_differs_between_steps_and_between_slices_and_comes_again(made: Made) -> None:
    """Twelve slices of three steps, each with masks of their own; another run of the steps draws the same."""
    runs = []
    for _ in range(2):
        seen: list[tuple[bool, ...]] = []
        trainer = Trainer(state_of(made, "odd-cnn", Masks(seen)), Workers())
        for number in (1, 2, 3):
            step(trainer, number)
        runs.append(seen)
    assert len(runs[0]) == len(set(runs[0])) == 12
    assert runs[0] == runs[1]
    other: list[tuple[bool, ...]] = []
    step(Trainer(state_of(made, "odd-cnn", Masks(other), seed=8), Workers()), 1)
    assert not set(other) & set(runs[0])


class Journal:
    """Remembers the steps that it was told."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def step(self, outcome: Outcome) -> None:
        self.steps.append(outcome.step.step)

    def evaluation(self, evaluation: Evaluation) -> None: ...
    def checkpoint(self, state: State) -> None: ...


def test_counts_of_the_next_step_ride_on_the_message_of_this_one(made: Made) -> None:
    """Of a model without buffers: one message a step beside the gradients', and one before the first."""
    sent: list[int] = []

    class Counting(Workers):
        def gather(self, values: Sequence[int]) -> list[list[int]]:
            sent.append(len(values))
            return super().gather(values)

    steps, rarely = 5, {"train.eval_every": 100, "train.checkpoint_every": 100}
    trainer = Trainer(state_of(made, "odd-lm", **{"train.steps": 100, **rarely}), Counting())
    trainer._check_start()
    beginning = len(sent)
    trainer.run(Journal(), steps)
    of_steps = sent[2 * beginning :]
    assert of_steps[0] == 2, "the losses and tokens of the first step"
    assert len(of_steps) == 1 + steps
    assert len(set(of_steps[1:-1])) == 1
    assert of_steps[-1] == of_steps[1] - 2, "after the last step none is coming"


def test_a_step_is_recorded_though_the_next_batch_cannot_be_made(made: Made) -> None:
    trainer = Trainer(state_of(made, "odd-cnn"), Workers())
    examples, journal = trainer.batches.examples, Journal()

    def failing(step: int) -> Examples:
        if step == 3:
            raise OSError("the disk is gone")
        return examples(step)

    trainer.batches.examples = failing  # type: ignore[method-assign]
    with pytest.raises(OSError, match="the disk is gone"):
        trainer.run(journal, 4)
    assert journal.steps == [1, 2]


class Reusing(nn.Module):
    """Uses one weight twice: under autocast the second use takes the first one's cast from a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)
        self.last = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.layer(torch.tanh(self.layer(x.flatten(1))))))


def test_autocast_keeps_no_cast(made: Made) -> None:
    """A cast that was kept from the slices of one step would be of the weights before its update."""
    torch.default_generator.manual_seed(3)
    state = state_of(made, "odd-cnn", Reusing(), numerics={"precision": "bfloat16"})
    trainer = Trainer(state, Workers())
    slices = watched(trainer)
    step(trainer, 1)
    batches = trainer.batches.slices(trainer.batches.examples(2))
    alone = []
    for batch in batches.batches:
        model = copy.deepcopy(state.model)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(batch["image"]), batch["label"], reduction="sum") / 12
        loss.backward()  # type: ignore[no-untyped-call]
        alone.append([parameter.grad for parameter in model.parameters()])
    trainer.train_step(batches)
    for found, expected in zip(slices[4:], alone, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))  # type: ignore[arg-type]


class Half(nn.Module):
    """A layer in half precision whose slices' gradients are 256, 1, 1 and 1: bfloat16 has no 257."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(7, dtype=dtype))
        self.register_buffer("mean", torch.zeros(3, dtype=dtype))
        self.full = nn.Parameter(torch.zeros(10))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype, made: Made) -> None:
    trainer = Trainer(state_of(made, "odd-cnn", Half(dtype)), Workers())
    many = 2048.0 if dtype == torch.float16 else 256.0
    for value in (many, 1.0, 1.0, 1.0):
        trainer.tree.add([torch.full((7,), value, dtype=dtype), None])
    total = trainer.tree.take().tensors()[0]
    assert total is not None
    assert total.dtype == torch.float32
    assert total.tolist() == [many + 3] * 7
    assert [name.split()[2] for name in trainer.ledger_names if "weight" in name] == [
        str(dtype).removeprefix("torch."),
        "float32",
    ]
    trainer.update([total / many, None], 0.25)  # the optimizer gets it in the parameter's own precision
    assert trainer.parameters[0].dtype == dtype
    assert float(trainer.parameters[0][0].detach()) < 0


def test_numerics_are_set_again_after_the_users_modules_were_imported(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.joinpath("meddling_with_numerics.py").write_text(
        "import torch\ntorch.set_num_threads(2)\ntorch.set_float32_matmul_precision('medium')\n"
        "torch.backends.mkldnn.conv.fp32_precision = 'bf16'\ntorch.set_flush_denormal(True)\n"
        "torch.use_deterministic_algorithms(False)\n\n\n"
        "def model(num_classes):\n    torch.set_num_threads(2)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, num_classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    state_of(made, "odd-cnn", model={"import": "meddling_with_numerics:model"})
    assert torch.get_num_threads() == 1
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.mkldnn.conv.fp32_precision == "ieee"
    assert torch.are_deterministic_algorithms_enabled()
    assert float(torch.tensor([1e-40]) * 1.0) > 0


def test_an_imported_factory_starts_from_the_seed(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.joinpath("drawing_at_the_start.py").write_text(
        "import random\nimport numpy\nimport torch\n\n\n"
        "def model(num_classes):\n    layer = torch.nn.Linear(64, num_classes)\n"
        "    layer.bias.data[:3] = torch.tensor([random.random(), numpy.random.rand(), torch.rand(()).item()])\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), layer)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def started(seed: int) -> tuple[Tensor, Tensor]:
        state = state_of(made, "odd-cnn", seed=seed, model={"import": "drawing_at_the_start:model"})
        weight, bias = (parameter.detach() for _, parameter in state.named_parameters)
        return weight, bias

    first, again, other = started(1), started(1), started(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not bool((first[1] == other[1])[:3].any())


def test_other_load_on_the_machine_moves_no_bit(made: Made, tmp_path: Path) -> None:
    recipe = made.recipe("odd-lm", **{"train.steps": 3})
    alone = trained(recipe, tmp_path / "alone")
    busy = subprocess.Popen([sys.executable, "-c", "while True: sum(range(10**6))"])
    try:
        beside = trained(recipe, tmp_path / "beside")
    finally:
        busy.kill()
        busy.wait()
    assert alone.ledger[-1].chain == beside.ledger[-1].chain
    for name in ("metrics.jsonl", "ledger.tensors"):
        assert (alone.path / name).read_bytes() == (beside.path / name).read_bytes()
