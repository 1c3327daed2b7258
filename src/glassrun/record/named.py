"""The tensors of a loop that is not ours, by name: what its models and optimizers hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from glassrun.errors import ModelError
from glassrun.record.fingerprint import stored_name
from glassrun.record.readings import readable

Models = nn.Module | Mapping[str, nn.Module] | Sequence[nn.Module] | None
Optimizers = Any  # an optimizer, several in a list or a mapping, or what stands for one (it has `param_groups`)


@dataclass(frozen=True)
class Named:
    """Tensors by name; a tensor that several modules share once, under its first name.

    Attributes:
        parameters: of the models, then those that only an optimizer has.
        buffers: of the models.
        outside: the names of parameters that only an optimizer has.
    """

    parameters: dict[str, Tensor] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)

    @property
    def stored_parameters(self) -> list[str]:
        """The names of the parameters with dtype and shape."""
        return [stored_name(name, tensor) for name, tensor in self.parameters.items()]


def named(models: Models, optimizers: Optimizers) -> Named:
    """Parameters and buffers of models and optimizers.

    A single model's names are its own; those of several begin with their key or place. What wraps a model to train it
    in parallel or compiled leaves no trace in the names.

    Raises:
        ModelError: a tensor has no bytes of its own here, as a part of a tensor that is cut over ranks.
    """
    found = Named()
    known: set[int] = set()

    def add(there: dict[str, Tensor], name: str, tensor: Tensor) -> bool:
        new = id(tensor) not in known
        if new:
            known.add(id(tensor))
            there[name] = tensor
        return new

    for prefix, model in _models(models):
        for name, parameter in model.named_parameters(prefix):
            add(found.parameters, name, parameter)
        for name, buffer in model.named_buffers(prefix):
            add(found.buffers, name, buffer)
    for place, optimizer in enumerate(listed(optimizers)):
        for number, group in enumerate(optimizer.param_groups):
            for position, parameter in enumerate(group["params"]):
                name = f"optimizer{place}.group{number}.parameter{position}"
                if add(found.parameters, name, parameter):
                    found.outside.append(name)
    for name, tensor in [*found.parameters.items(), *found.buffers.items()]:
        if not readable(tensor):
            raise ModelError(
                f"{name}: expected a whole tensor in memory, found a {type(tensor).__name__} of the layout "
                f"{tensor.layout} on {tensor.device}. The recorder does not see into tensors that are cut over ranks "
                "(FSDP, tensor parallel), are quantized, or have no memory"
            )
    return found


def as_one(models: Models) -> nn.Module | None:
    """A module that holds all of them, under the names that `named` gives."""
    if models is None or isinstance(models, nn.Module):
        return models and _unwrapped(models)
    return nn.ModuleDict({name.replace(".", "_"): model for name, model in _models(models)})


def listed(optimizers: Optimizers) -> list[Any]:
    """None, one or several as a list."""
    if optimizers is None:
        return []
    if isinstance(optimizers, Mapping):
        return list(optimizers.values())
    return list(optimizers) if isinstance(optimizers, Sequence) else [optimizers]


def _models(models: Models) -> Iterator[tuple[str, nn.Module]]:
    if models is None:
        return
    if isinstance(models, nn.Module):
        yield "", _unwrapped(models)
        return
    entries = models.items() if isinstance(models, Mapping) else enumerate(models)
    for key, model in entries:
        yield str(key), _unwrapped(model)


def _unwrapped(model: nn.Module) -> nn.Module:
    """What is trained in parallel or compiled, without its wrapper."""
    # The class of torch.compile is known by its name: its module takes seconds to import.
    while isinstance(model, (DataParallel, DistributedDataParallel)) or type(model).__name__ == "OptimizedModule":
        inner = model.module if isinstance(model, (DataParallel, DistributedDataParallel)) else model._orig_mod
        assert isinstance(inner, nn.Module), "a wrapper holds a module"
        model = inner
    return model
