"""Every kind of model in the registry through the same checks, small, on the task that it is for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import glassrun as api
from glassrun.models.registry import MODELS, build
from glassrun.tasks.base import logits_of
from glassrun.train.loop import Trainer
from glassrun.train.state import State, precision
from glassrun.train.workers import Workers
from in_process import state_of, step, watched
from support import Made, bits_of, glassrun

IMAGES = {"recipe": "odd-cnn", "data.image_size": 20}
TEXT = {"recipe": "odd-lm"}
SMALL = {"d_model": 30, "num_heads": 3, "dropout": 0.1}
# A kind's recipe (see `support.Made`) with the fields that it needs, and small arguments.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cnn": (IMAGES, {"channels": [5, 13], "convolutions": 1, "hidden": 30, "dropout": 0.3}),
    "convnext": (IMAGES, {"patch_size": 2, "channels": [6, 10], "blocks": [1, 1], "stochastic_depth": 0.2}),
    "encoder": (TEXT | {"task": "masked-language-model"}, SMALL | {"num_layers": 2}),
    "encoder-decoder": ({"recipe": "odd-pairs"}, {"d_model": 26, "num_heads": 2, "dropout": 0.1}),
    "language-model": (TEXT, SMALL | {"num_layers": 2}),
    "lenet": (IMAGES, {}),
    "llama": (TEXT, {"d_model": 36, "num_heads": 6, "num_key_value_heads": 2, "num_layers": 2, "d_ff": 50}),
    "resnet": (IMAGES, {"stem": "cifar", "stem_channels": 5, "channels": [5, 7], "blocks": [1, 2]}),
    "vgg": (IMAGES, {"channels": [5, 7], "convolutions": [1, 1], "hidden": 30, "dropout": 0.1}),
    "vision-transformer": (IMAGES, SMALL | {"num_layers": 2, "patch_size": 4}),
}


def test_no_kind_is_left_out() -> None:
    assert sorted(CASES) == sorted(MODELS)


def recipe_of(kind: str, **overrides: Any) -> tuple[str, dict[str, Any]]:
    """The name of a small recipe, and what to replace in it."""
    fields, arguments = CASES[kind]
    replaced = {name: value for name, value in fields.items() if name != "recipe"}
    return fields["recipe"], replaced | {"model": {"kind": kind} | arguments} | overrides


@pytest.fixture(params=sorted(CASES))
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def state(kind: str, made: Made) -> State:
    name, overrides = recipe_of(kind)
    return state_of(made, name, **overrides)


def batch_of(state: State, examples: int = 3) -> dict[str, Tensor]:
    return state.task.collate([state.dataset.splits["train"].example(place, 1) for place in range(examples)])


def inputs_of(state: State, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
    names = {"classify": ("image",), "translate": ("source", "target")}.get(str(state.recipe.task), ("inputs",))
    return tuple(batch[name] for name in names)


def logits(state: State, batch: dict[str, Tensor], model: nn.Module | None = None) -> Tensor:
    return logits_of((model or state.model)(*inputs_of(state, batch)))


def test_logits_have_a_place_for_every_example_token_and_class(state: State) -> None:
    batch = batch_of(state)
    last = inputs_of(state, batch)[-1]
    facts = state.facts
    classes = next(facts[n] for n in ("num_classes", "target_vocabulary_size", "vocabulary_size") if n in facts)
    lengths = () if "image" in batch else (last.shape[1],)
    assert logits(state, batch).shape == (3, *lengths, classes)


def test_a_gradient_reaches_every_parameter(state: State) -> None:
    torch.default_generator.manual_seed(1)
    for place in range(8):  # a token that stands in no slice, or a unit that is off in one, has its turn in another
        batch = state.task.collate([state.dataset.splits["train"].example(3 * place + i, 1) for i in range(3)])
        state.task.loss(state.model, batch).backward()  # type: ignore[no-untyped-call]
    left_out = [
        name for name, parameter in state.named_parameters if parameter.grad is None or not parameter.grad.any()
    ]
    assert not left_out


@pytest.mark.parametrize("extreme", ["least", "most", "mixed"])
def test_no_input_makes_nan(state: State, extreme: str) -> None:
    batch = batch_of(state)
    for name, tensor in batch.items():
        least, most = (-1e4, 1e4) if tensor.is_floating_point() else (int(tensor.min()), int(tensor.max()))
        if name == "label":
            continue
        batch[name] = tensor.clone().fill_(most if extreme == "most" else least)
        if extreme == "mixed":
            batch[name][..., ::2] = most
    assert torch.isfinite(logits(state, batch)).all()
    loss = state.task.loss(state.model, batch)
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in state.named_parameters:
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


def test_half_precision_says_nearly_the_same(state: State) -> None:
    batch = batch_of(state)
    state.model.eval()
    with torch.no_grad():
        expected = logits(state, batch)
        with precision("bfloat16"):
            found = logits(state, batch).float()
    # bfloat16 keeps 8 bits: products of 30 to 100 terms in a handful of layers are off by some of the last.
    assert float((found - expected).norm() / expected.norm()) < 0.03


def test_what_is_saved_and_loaded_gives_the_same_bits(state: State) -> None:
    step(Trainer(state, Workers()), 1)
    saved = safetensors.torch.save({name: t.contiguous().clone() for name, t in state.model.state_dict().items()})
    other = build(state.recipe.model, state.facts, seed=99)
    batch = batch_of(state)
    state.model.eval()
    other.eval()
    assert not torch.equal(logits(state, batch), logits(state, batch, other))
    other.load_state_dict(safetensors.torch.load(saved))
    assert torch.equal(logits(state, batch), logits(state, batch, other))


@dataclass(frozen=True)
class Alone(Workers):
    """One worker that keeps what it is asked to tell."""

    told: list[list[int]] = field(default_factory=list)

    def gather(self, values: Any) -> list[list[int]]:
        self.told.append(list(values))
        return [list(values)]


@dataclass(frozen=True)
class SecondOfTwo(Workers):
    """For one step: its first message is the counts, of which the other has the rest; then it hears itself."""

    totals: list[list[int]] = field(default_factory=list)

    def gather(self, values: Any) -> list[list[int]]:
        if self.totals:
            return [[total - own for total, own in zip(self.totals.pop(), values, strict=True)], list(values)]
        return [list(values)] * 2

    def tree_sum(self, partial: Any, tree: Any, told: Any = ()) -> list[list[int]]:  # noqa: ARG002
        return self.gather(told)


@pytest.mark.parametrize("numerics", ["float32", "bfloat16"])
def test_a_slice_has_the_same_gradients_on_one_worker_and_on_two(kind: str, made: Made, numerics: str) -> None:
    name, overrides = recipe_of(kind, numerics={"precision": numerics})

    def slices(workers: Workers) -> list[list[Tensor | None]]:
        trainer = Trainer(state_of(made, name, **overrides), workers)
        found = watched(trainer)
        step(trainer, 1)
        return found

    one = Alone()
    alone = slices(one)
    second = slices(SecondOfTwo(1, 2, one.told[:1]))
    assert (len(alone), len(second)) == (4, 2)
    for expected, gradients in zip(alone[2:], second, strict=True):
        for a, b in zip(expected, gradients, strict=True):
            assert a is not None
            assert b is not None
            assert a.numpy(force=True).tobytes() == b.numpy(force=True).tobytes()


@pytest.mark.long
def test_two_workers_write_what_one_does_and_a_replay_finds_it(kind: str, made: Made, tmp_path: Path) -> None:
    name, overrides = recipe_of(kind)
    runs = [api.train(made.file(name, **overrides), out=tmp_path / str(n), workers=n) for n in (1, 2)]
    assert bits_of(runs[0].path) == bits_of(runs[1].path)
    done = glassrun("replay", runs[1].path, "--workers", 1, "--json")
    assert done.code == 0, done.err
