"""Everything that a run's arithmetic works on: model, optimizer, task, data; made from a recipe alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glassrun.config import Numerics, Recipe
from glassrun.data import registry as data_registry
from glassrun.data.recorded import Recorded
from glassrun.errors import ConfigError, ModelError
from glassrun.generators import set_generators
from glassrun.models import registry as model_registry
from glassrun.tasks import registry as task_registry
from glassrun.tasks.base import Task
from glassrun.train import optimizer as optimizers
from glassrun.train.average import WeightAverage
from glassrun.train.memory import own_parameters_and_buffers

_NO_MEMORY = "allocate memory"  # in what torch raises where the machine has not got it


@dataclass
class State:
    """A run's data, task, model, optimizer and averaged weights, and the last step that was done to them."""

    recipe: Recipe
    seed: int
    dataset: Any
    task: Task
    model: nn.Module
    optimizer: optimizers.Optimizer
    step: int = 0
    average: WeightAverage | None = None

    @property
    def facts(self) -> dict[str, int]:
        """What the model was told."""
        return task_registry.facts_of(self.task, self.dataset)

    @property
    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        return optimizers.trained(self.model)

    def carried(self) -> dict[str, Tensor]:
        """What the next step needs beside parameters and buffers: the optimizer's state, and the averaged weights."""
        found = optimizers.state_tensors(self.optimizer, self.named_parameters)
        return found | (self.average.tensors() if self.average else {})

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the model holds the averaged weights, if there are any."""
        return self.average.in_place() if self.average else nullcontext()


def set_numerics(numerics: Numerics) -> None:
    """Set this process to a recipe's numerics; what is read when torch is imported was set by the launcher."""
    torch.set_num_threads(numerics.threads)
    # The same as use_deterministic_algorithms(True), which also imports the compiler: over a second.
    torch.set_deterministic_debug_mode("error")
    # Filling memory that is about to be written only takes time; the contract never reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision(numerics.float32_matmul_precision)
    for operation in (torch.backends.mkldnn.conv, torch.backends.mkldnn.rnn):  # type: ignore[attr-defined]
        operation.fp32_precision = "ieee"
    torch.set_flush_denormal(False)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def load_data(recipe: Recipe, recorded: Recorded | None = None) -> Any:
    """The recipe's data set; `recorded` is what its run says of it, if that has begun."""
    dataset = data_registry.load(recipe.data, seed_of(recipe), recorded)
    if len(dataset.splits["train"]) == 0:
        raise ConfigError("data: the training split is empty")
    return dataset


def prepare(recipe: Recipe, dataset: Any) -> State:
    """Task, model and optimizer of a recipe, as they are before the first step."""
    seed = seed_of(recipe)
    # Memory that a factory takes and forgets to fill would differ from process to process: NaN stops the run instead.
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    set_generators(seed, "init")
    task = task_registry.build(recipe.task, dataset, recipe.train.label_smoothing)
    model = _built(recipe, task_registry.facts_of(task, dataset))
    set_numerics(recipe.numerics)  # again: a module of the user's may have set something when it was imported
    _check_parameters(model)
    own_parameters_and_buffers(model)
    _check_batch_norm(model, recipe)
    model.train()
    if not optimizers.trained(model):
        raise ModelError("the model has no parameter to train")
    return start(recipe, dataset, task, model)


def _built(recipe: Recipe, facts: Mapping[str, int]) -> nn.Module:
    try:
        return model_registry.build(recipe.model, facts, seed_of(recipe))
    except RuntimeError as error:
        if _NO_MEMORY not in str(error):
            raise
        asked = re.search(r"allocate (\d+) bytes", str(error))
        what = f": one tensor of it takes {int(asked[1]):,} bytes" if asked else ""
        raise ModelError(f"the model does not fit this machine's memory{what}. Make it smaller") from None


def start(recipe: Recipe, dataset: Any, task: Task, model: nn.Module) -> State:
    """The state of a model before the first step."""
    optimizer = optimizers.build(recipe, model, task_registry.facts_of(task, dataset))
    average = WeightAverage(optimizers.trained(model), recipe.average.decay) if recipe.average else None
    return State(recipe, seed_of(recipe), dataset, task, model, optimizer, average=average)


def seed_of(recipe: Recipe) -> int:
    assert isinstance(recipe.seed, int), "seed: random is resolved before a run starts"
    return recipe.seed


def _check_parameters(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        _check_memory("parameter", name, parameter)
        if parameter.requires_grad and not parameter.is_floating_point():
            raise ModelError(f"the parameter {name} is {parameter.dtype}: only floating ones are trained")
    for name, buffer in model.named_buffers():
        _check_memory("buffer", name, buffer)
        if buffer.requires_grad:
            raise ModelError(
                f"the buffer {name} requires a gradient, but nothing trains a buffer: make it a torch.nn.Parameter "
                "if it is to be trained, or register it detached"
            )


def _check_memory(kind: str, name: str, tensor: torch.Tensor) -> None:
    if isinstance(tensor, (nn.parameter.UninitializedParameter, nn.parameter.UninitializedBuffer)):
        raise ModelError(f"the {kind} {name} has no shape yet: give lazy layers their sizes")
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        what = f"on the device {tensor.device}" if tensor.device.type != "cpu" else f"of the layout {tensor.layout}"
        raise ModelError(
            f"the {kind} {name} is {what}: expected a dense tensor on the CPU with its values in it: let the "
            "factory make it so"
        )


def _check_batch_norm(model: nn.Module, recipe: Recipe) -> None:
    if recipe.batch.slice_size > 1:
        return
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(
                f"batch: size {recipe.batch.size} in {recipe.batch.shards} shards gives one example a slice, and batch "
                f"norm ({name}) normalises over a slice: it needs at least two. Take a larger size or fewer shards"
            )


@contextmanager
def precision(name: str) -> Iterator[None]:
    """The forward's precision; opened anew for each slice, so that no cast is kept from one to the next."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=name == "bfloat16"):
        yield
