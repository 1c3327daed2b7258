"""A trace: every operation of a stretch of PyTorch code, with the fingerprints of what went in and what came out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from glassrun.record import fingerprint
from glassrun.record.fingerprint import Fingerprinter, stored_name
from glassrun.replay.operations import RANDOM_STATE, Operation

_TORCH = str(Path(torch.__file__).parent)
_NOT_OURS = (_TORCH, "<")  # torch's own frames, and code that comes from no file
_SILENT = (fingerprint.__file__, __file__)  # what looks at the step is no part of it
# What these change in place is overwritten whole, so what stood there before is no input.
_OVERWRITING = ("copy_", "fill_", "zero_", "normal_", "uniform_", "random_", "bernoulli_", "exponential_", "set_")

Place = tuple[str, str]  # module and source line


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation that is dispatched inside the `with` in `operations`.

    Tensors of `torch.empty` and its like hold whatever the memory held: until something is written there, they count
    neither as outputs nor as inputs. Backward operations are named by the forward operation that they belong to,
    through the sequence number that autograd gives to both.

    Arguments:
        model: its modules name the operations called in their forward.
    """

    def __init__(self, model: nn.Module | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []
        self._modules = {id(module): name for name, module in model.named_modules()} if model is not None else {}
        self._fingerprinter = Fingerprinter()
        self._forward: dict[int, Place] = {}
        self._unwritten: dict[int, int] = {}  # storage address to how many bytes of it nothing was written to
        self._roots = sorted({str(Path(entry).absolute()) for entry in sys.path if entry}, key=len, reverse=True)

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        place = self._place()
        if place is None or str(operator).startswith("profiler."):
            return operator(*args, **kwargs)
        node: Any = torch._C._current_autograd_node()
        if node is None:
            self._forward.setdefault(torch._C._autograd._get_sequence_nr() - 1, place)
        else:
            place = self._forward.get(node._sequence_nr(), place)
        written = _written(operator, args, kwargs)
        overwritten = written if _overwrites(operator) else []
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if not any(leaf is tensor for tensor in overwritten)]
        inputs = [self._print(leaf) for leaf in leaves if isinstance(leaf, Tensor)]
        if torch.Tag.nondeterministic_seeded in getattr(operator, "tags", ()):
            inputs.append(f"{RANDOM_STATE} {self._fingerprinter(_generator(leaves).get_state()):016x}")
        result = operator(*args, **kwargs)
        outputs = self._outputs(str(operator), tree_leaves(result), written)
        module, line = place
        scalars = " ".join(_scalar(leaf) for leaf in leaves if not isinstance(leaf, Tensor))
        self.operations.append(
            Operation(
                str(operator), module, line, node is not None, _views(operator), scalars, tuple(inputs), tuple(outputs)
            )
        )
        return result

    def _outputs(self, name: str, results: list[Any], written: list[Tensor]) -> list[str]:
        tensors = [leaf for leaf in results if isinstance(leaf, Tensor)]
        if "empty" in name:
            for tensor in tensors:
                self._unwritten[_address(tensor)] = tensor.untyped_storage().nbytes()
            return []
        for tensor in written:
            left = self._unwritten.get(_address(tensor), 0) - tensor.nbytes
            if left > 0:
                self._unwritten[_address(tensor)] = left
            else:
                self._unwritten.pop(_address(tensor), None)
        scalars = [_scalar(leaf) for leaf in results if leaf is not None and not isinstance(leaf, Tensor)]
        made = [tensor for tensor in tensors if not any(tensor is changed for changed in written)]
        return [self._print(tensor) for tensor in [*written, *made]] + scalars

    def _print(self, tensor: Tensor) -> str:
        """Dtype, shape and fingerprint."""
        what = stored_name("", tensor).strip()
        if tensor.device.type == "meta" or tensor.numel() == 0:
            return what
        if tensor.layout != torch.strided:
            return f"{what} {self._fingerprinter(tensor.to_dense()):016x}"
        return what if _address(tensor) in self._unwritten else f"{what} {self._fingerprinter(tensor):016x}"

    def _place(self) -> Place | None:
        """Module and source line of the innermost call; None for what is no part of the step."""
        frame: FrameType | None = sys._getframe(2)
        line = module = ""
        while frame is not None and not (line and module):
            file = frame.f_code.co_filename
            if not line and not file.startswith(_NOT_OURS):
                if file in _SILENT:
                    return None
                line = f"{self._relative(file)}:{frame.f_lineno} in {frame.f_code.co_name}"
            owner = frame.f_locals.get("self") if not module else None
            if isinstance(owner, nn.Module) and id(owner) in self._modules:
                module = f"{self._modules[id(owner)] or 'the model itself'} ({type(owner).__name__})"
            frame = frame.f_back
        return module, line

    def _relative(self, file: str) -> str:
        """A file by its path as a module: it says the same wherever the package lies."""
        root = next((root for root in self._roots if file.startswith(f"{root}/")), None)
        return file[len(root) + 1 :] if root else file


def _written(operator: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The tensors among the arguments that the operator changes in place, as its schema says."""
    found: list[Tensor] = []
    for place, argument in enumerate(operator._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = kwargs.get(argument.name, args[place] if place < len(args) else None)
            found += [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
    return found


def _views(operator: Any) -> bool:
    """Whether what it returns is its input's own memory, unchanged."""
    aliases = [value.alias_info for value in operator._schema.returns]
    return bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)


def _overwrites(operator: Any) -> bool:
    name, overload = operator._schema.name.rpartition("::")[2], operator._overloadname
    return name in _OVERWRITING or "out" in overload.split("_")


def _generator(leaves: list[Any]) -> torch.Generator:
    """The generator that an operation draws from: the one it is given, else torch's default one."""
    return next((leaf for leaf in leaves if isinstance(leaf, torch.Generator)), torch.default_generator)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0


def _scalar(value: Any) -> str:
    """An argument that is no tensor, exactly, and without anything that differs from process to process."""
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, (bool, int, str, bytes, complex, type(None), torch.dtype, torch.device, torch.layout)):
        return str(value)
    return type(value).__name__
