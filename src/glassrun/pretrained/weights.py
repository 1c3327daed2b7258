"""The tensors of a folder's files: names and shapes first, then one by one into memory that is there already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import safetensors
import torch
from torch import Tensor

from glassrun.errors import ModelError
from glassrun.pretrained.folder import Folder

SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"
_FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
_INTEGERS = {"BOOL": torch.bool, "U8": torch.uint8, "I32": torch.int32, "I64": torch.int64}
_READABLE = _FLOATS | _INTEGERS


class Weights(Protocol):
    """Named tensors of known shapes."""

    where: str
    shapes: dict[str, tuple[int, ...]]

    def read(self, name: str) -> Tensor:
        """One of them, as the file holds it."""
        ...


class SafetensorsWeights:
    """One or several files in the safetensors format; their tensors are mapped, not loaded.

    Arguments:
        paths: the files; together they hold every name once.

    Raises:
        ModelError: a file is damaged, a name is there twice, or a tensor is of a type that is not read.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.where = str(paths[0] if len(paths) == 1 else paths[0].parent)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.file_of: dict[str, Path] = {}
        self._open: dict[Path, Any] = {path: _opened(path) for path in paths}
        for path, opened in self._open.items():
            for name in opened.keys():  # noqa: SIM118 - it is no mapping, its stubs have no types
                piece = opened.get_slice(name)
                if name in self.shapes:
                    raise ModelError(f"{path}: the tensor {name!r} is in {self.file_of[name].name}, too")
                if piece.get_dtype() not in _READABLE:
                    raise ModelError(
                        f"{path}: the tensor {name!r} is of the type {piece.get_dtype()}; what is read is "
                        f"{', '.join(_READABLE)}. Convert it to one of these"
                    )
                self.shapes[name] = tuple(piece.get_shape())
                self.file_of[name] = path

    def read(self, name: str) -> Tensor:
        try:
            tensor: Tensor = self._open[self.file_of[name]].get_tensor(name)
        except safetensors.SafetensorError as error:
            raise _damaged(self.file_of[name], error) from None
        return tensor


class PickledWeights:
    """One or several files that `torch.save` wrote from tensors alone; torch reads them with `weights_only`.

    Nothing in them is called: whatever is no tensor is refused.

    Raises:
        ModelError: a file is damaged, or holds something else.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.where = str(paths[0] if len(paths) == 1 else paths[0].parent)
        self.tensors: dict[str, Tensor] = {}
        self.file_of: dict[str, Path] = {}
        for path in paths:
            for name, tensor in _unpickled(path).items():
                if name in self.tensors:
                    raise ModelError(f"{path}: the tensor {name!r} is in {self.file_of[name].name}, too")
                self.tensors[name] = tensor
                self.file_of[name] = path
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    def read(self, name: str) -> Tensor:
        return self.tensors[name]


def of_folder(folder: Folder) -> Weights:
    """The weights of a folder: safetensors where there are some, in one file or in several with an index.

    Raises:
        ModelError: there are none, or a file is damaged.
    """
    for name in (SAFE, PICKLED):
        if folder.has(name):
            return of_file(folder.file(name))
        index = f"{name}.index.json"
        if folder.has(index):
            return _of_index(folder, index)
    raise ModelError(f"{folder.path}: expected {SAFE} or {PICKLED}, or an index of several such files; found neither")


def of_file(path: Path) -> Weights:
    """The weights of one file: safetensors by that ending, else what `torch.save` wrote."""
    return SafetensorsWeights([path]) if path.suffix == ".safetensors" else PickledWeights([path])


def _of_index(folder: Folder, index: str) -> Weights:
    listed = folder.json(index).get("weight_map")
    where = folder.path / index
    if not isinstance(listed, dict) or not listed or not all(isinstance(name, str) for name in listed.values()):
        raise ModelError(f"{where}: expected weight_map, the file of every tensor, found {listed!r:.100}")
    names = sorted(set(listed.values()))
    if len({Path(name).suffix for name in names}) > 1:
        raise ModelError(f"{where}: expected files of one format, found {', '.join(map(repr, names[:4]))}")
    paths = [folder.file(name) for name in names]
    found = SafetensorsWeights(paths) if paths[0].suffix == ".safetensors" else PickledWeights(paths)
    wrong = sorted(
        name
        for name in listed.keys() | found.file_of.keys()
        if name not in listed or name not in found.file_of or found.file_of[name].name != listed[name]
    )
    if wrong:
        raise ModelError(f"{where}: it does not agree with the files on where {', '.join(map(repr, wrong[:5]))} are")
    return found


def _opened(path: Path) -> Any:
    try:
        return safetensors.safe_open(path, framework="pt")
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from None


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive may raise anything
        what = str(error).partition(". ")[0].partition("\n")[0]
        raise ModelError(
            f"{path}: expected tensors by name and nothing else, as torch.save(model.state_dict(), …) writes them: "
            f"{type(error).__name__}: {what[:200]}"
        ) from None
    if not isinstance(found, dict) or not found:
        raise ModelError(f"{path}: expected tensors by name, found {type(found).__name__}")
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ModelError(
                f"{path}: expected tensors by name, found {name!r:.60}: {type(tensor).__name__}. If the tensors are "
                "inside it, save them alone: torch.save(model.state_dict(), …)"
            )
        dtypes = tuple(_READABLE.values())
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.dtype not in dtypes:
            raise ModelError(f"{path}: the tensor {name!r} is of the type {tensor.dtype}, {tensor.layout}; convert it")
        if tensor.is_meta or tensor.nbytes > tensor.untyped_storage().nbytes():
            shape = " × ".join(map(str, tensor.shape))
            raise ModelError(f"{path}: the tensor {name!r} of {shape} has fewer numbers in the file than it stands for")
    return dict(found)


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path}: damaged, or not of the safetensors format: {' '.join(str(error).split())[:300]}")
