"""Taking a model elsewhere: safetensors with a config, a program of `torch.export`, ONNX."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils._sympy.numbers import int_oo

from glassrun.data.encoding import ImageEncoding, PairEncoding, from_plain
from glassrun.errors import ConfigError, GlassrunError, MissingDependency, ModelError, nearest
from glassrun.pretrained.folder import CONFIG
from glassrun.pretrained.native import describe
from glassrun.pretrained.weights import SAFE
from glassrun.record.files import write_atomic, write_folder_atomic
from glassrun.tasks.base import logits_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from glassrun.record.run_folder import RunFolder

OPSET = 20
TOLERANCE = 1e-4  # of the largest logit, between the model and what was written
_BATCH, _LENGTH = (
    3,
    5,
)  # of the examples that a model is traced with: no axis of them may be taken for a constant 0 or 1


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file or folder.
        difference: the largest between its output and the model's, as a share of the model's largest; None where
            nothing was run.
        limits: of the sizes that the inputs may have, where there are any.
    """

    path: Path
    difference: float | None = None
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """What a model is called with.

    Attributes:
        tensors: examples by name, in the order of the call.
        axes: for each, which axes may have another size, and what these are called.
    """

    tensors: Mapping[str, Tensor]
    axes: Mapping[str, Mapping[int, str]]

    @property
    def arguments(self) -> tuple[Tensor, ...]:
        return tuple(self.tensors.values())


def export_run(folder: RunFolder, model: nn.Module, to: str, out: Path | None) -> Exported:
    """Write a run's model.

    Arguments:
        folder: the run.
        model: as its newest checkpoint holds it.
        to: safetensors, torch-export or onnx.
        out: the folder for safetensors, the file for others; None for `model` with its ending in the run's folder.
            Nothing may stand there.

    Raises:
        BadInput: the form is not known, something stands there, a package is missing, or torch cannot export the model.
    """
    if to not in FORMATS:
        raise ConfigError(f"--to {to!r} is not known; {nearest(to, FORMATS)}")
    ending, write = FORMATS[to]
    out = folder.path / f"model{ending}" if out is None else out
    if out.suffix != ending and ending:
        raise ConfigError(f"{out}: expected a name that ends in {ending}, as others know such files by it")
    try:
        taken = out.exists() or out.is_symlink()
    except OSError as error:
        raise ConfigError(f"{out!s:.200}: cannot be written: {error.strerror}") from None
    if taken:
        raise ConfigError(f"{out}: something is there already, and nothing is overwritten. Give another --out")
    if to == "safetensors":
        return to_safetensors(model, out, describe(folder.recipe.plain()["model"], folder.header["facts"]))
    return write(model, out, inputs_of(from_plain(folder.header["encoding"]), folder.header["facts"]))


def inputs_of(encoding: Any, facts: Mapping[str, int]) -> Inputs:
    """What the models of a built-in task are called with, from a run's encoding and facts."""
    if isinstance(encoding, ImageEncoding):
        shape = (_BATCH, encoding.channels, encoding.height, encoding.width)
        return Inputs({"image": torch.rand(shape, generator=_generator())}, {"image": {0: "batch"}})
    if isinstance(encoding, PairEncoding):
        sizes, most = {name: facts[f"{name}_vocabulary_size"] for name in ("source", "target")}, facts["max_length"]
        axes: dict[str, Mapping[int, str]] = {name: {0: "batch", 1: f"{name} length"} for name in sizes}
        # Of two lengths: of one, torch might take them to be equal always.
        return Inputs(
            {name: _tokens(size, min(_LENGTH + i, most)) for i, (name, size) in enumerate(sizes.items())}, axes
        )
    tokens = _tokens(facts["vocabulary_size"], min(_LENGTH, facts["max_length"]))
    return Inputs({"tokens": tokens}, {"tokens": {0: "batch", 1: "length"}})


def to_safetensors(model: nn.Module, out: Path, config: Mapping[str, Any]) -> Exported:
    """A folder with config.json and model.safetensors, which `glassrun.pretrained.load` reads.

    Arguments:
        model: every parameter and persistent buffer of it is written, a shared one once.
        out: the folder.
        config: of `pretrained.native.describe`.
    """
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
    text = json.dumps(config, indent=1) + "\n"
    write_folder_atomic(out, {SAFE: safetensors.torch.save(tensors, {"format": "pt"}), CONFIG: text.encode()})
    return Exported(out)


def to_torch_export(model: nn.Module, out: Path, inputs: Inputs) -> Exported:
    """A `.pt2` file: `torch.export.load(out).module()` computes what the model does, with no code of ours.

    The examples that the model was traced with are taken out of it: torch would store them as a pickle.

    Raises:
        ModelError: torch cannot trace the model, or the program gives other outputs.
    """
    program = traced(model, inputs)
    program.example_inputs = None
    written = BytesIO()
    with _told("cannot be written as a program of torch.export"):
        torch.export.save(program, written)
        found = torch.export.load(BytesIO(written.getvalue())).module()(*inputs.arguments).detach()
    difference = _difference(model, inputs, found)
    write_atomic(out, written.getvalue())
    return Exported(out, difference, _limits(program, inputs))


def to_onnx(model: nn.Module, out: Path, inputs: Inputs) -> Exported:
    """An ONNX file, run once in onnxruntime where that is installed.

    Raises:
        MissingDependency: onnx or onnxscript is not installed.
        ModelError: torch cannot export the model, or onnxruntime gives other outputs.
    """
    for package in ("onnx", "onnxscript"):
        if find_spec(package) is None:
            raise MissingDependency(package, "ONNX", extra="onnx")
    program = traced(model, inputs)
    with _told("cannot be written as ONNX"):
        found = torch.onnx.export(
            program, input_names=list(inputs.tensors), output_names=["logits"], opset_version=OPSET, verbose=False
        )
        assert found is not None, "what torch returns where no file is named"
        _name_axes(found.model.graph, inputs)
        data = found.model_proto.SerializeToString()
    difference = None
    if find_spec("onnxruntime") is not None:
        difference = _difference(model, inputs, _run_onnx(data, inputs))
    write_atomic(out, data)
    return Exported(out, difference, _limits(program, inputs))


# What a file of each form ends in, and what writes it.
FORMATS: dict[str, tuple[str, Callable[..., Exported]]] = {
    "safetensors": ("", to_safetensors),
    "torch-export": (".pt2", to_torch_export),
    "onnx": (".onnx", to_onnx),
}


def traced(model: nn.Module, inputs: Inputs) -> ExportedProgram:
    """The model as torch's program of operations, its named axes of any size as far as the model lets them.

    Raises:
        ModelError: torch cannot trace it.
    """
    shapes: Any = tuple(dict.fromkeys(inputs.axes.get(name, {}), torch.export.Dim.AUTO) for name in inputs.tensors)
    with torch.no_grad(), _told("cannot be traced by torch.export"):
        if not isinstance(model(*inputs.arguments), Tensor):
            model, shapes = _Logits(model), (shapes,)
        return torch.export.export(model, inputs.arguments, dynamic_shapes=shapes)


class _Logits(nn.Module):
    """A model whose output is an object with logits, as one that gives these."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        return logits_of(self.model(*inputs))


def _limits(program: ExportedProgram, inputs: Inputs) -> tuple[str, ...]:
    """Axes that were to have any size and do not."""
    nodes = {node.name: node for node in program.graph.nodes}
    found = []
    for name, input_name in zip(program.graph_signature.user_inputs, inputs.tensors, strict=True):
        for axis, called in inputs.axes.get(input_name, {}).items():
            size = nodes[name].meta["val"].shape[axis]
            if isinstance(size, int) or size.node.expr.is_number:
                found.append(f"{input_name}: {called} is {size}")
                continue
            bounds = program.range_constraints[size.node.expr]
            if bounds.lower > 2:  # torch says 2 where it means any
                found.append(f"{input_name}: {called} is at least {bounds.lower}")
            if bounds.upper < int_oo:
                found.append(f"{input_name}: {called} is at most {bounds.upper}")
    return tuple(found)


def _name_axes(graph: Any, inputs: Inputs) -> None:
    """Put our names of the axes in the place of torch's."""
    names = {
        str(value.shape[axis]): name
        for value in graph.inputs
        for axis, name in inputs.axes.get(value.name, {}).items()
        if not isinstance(value.shape[axis], int)
    }
    for value in [*graph.inputs, *graph.outputs]:
        for axis, size in enumerate(value.shape):
            if str(size) in names:
                value.shape[axis] = names[str(size)]


def _run_onnx(data: bytes, inputs: Inputs) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.tensors.items()})
    return torch.from_numpy(found)


def _difference(model: nn.Module, inputs: Inputs, found: Tensor) -> float:
    """How far what was written is from the model on the examples, as a share of the largest output."""
    with torch.no_grad():
        expected = logits_of(model(*inputs.arguments)).double()
    difference = float((found.double() - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
    if not difference <= TOLERANCE:  # nor NaN
        raise ModelError(
            f"what would have been written gives other outputs than the model: they differ by {difference:.2e} of the "
            f"largest, expected at most {TOLERANCE:.0e}. Nothing was written"
        )
    return difference


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever torch raises as one line; its remarks on missing packages and its own deprecations are left out."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except GlassrunError:
        raise
    except Exception as error:
        first = " ".join(str(error).split())[:400]
        raise ModelError(f"the model {what}: {type(error).__name__}: {first}") from error
    finally:
        exporter.setLevel(level)


def _tokens(vocabulary_size: int, length: int) -> Tensor:
    return torch.randint(vocabulary_size, (_BATCH, length), generator=_generator())


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)
