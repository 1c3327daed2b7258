"""Checkpoints: the state after a step as safetensors and digests; whole or absent, copied into place when read."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from glassrun.digest import canonical_json, digest_bytes
from glassrun.errors import RunFolderError
from glassrun.record.files import remove_folder, write_folder_atomic
from glassrun.record.fingerprint import Fingerprinter, combine, stored_name
from glassrun.record.run_folder import checkpoint_paths
from glassrun.train import optimizer as optimizers
from glassrun.train.loop import initial_fingerprints
from glassrun.train.state import State

FORMAT = 1
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder and what its `state.json` says; the tensors are read by `restore`."""

    path: Path
    step: int
    values: dict[str, Any]


def path_of(folder: Path, step: int) -> Path:
    """Where a run folder keeps the checkpoint of a step."""
    return folder / "checkpoints" / f"step-{step:06d}"


def save(folder: Path, state: State, *, chain: str, metrics_digest: str) -> Checkpoint:
    """Write `checkpoints/step-NNNNNN` under a run folder.

    Raises:
        RunFolderError: the disk is full.
    """
    path = path_of(folder, state.step)
    tensors = {
        MODEL: safetensors.torch.save(model_tensors(state.model)),
        OPTIMIZER: safetensors.torch.save(optimizers.state_tensors(state.optimizer, state.named_parameters)),
    }
    fingerprinter = Fingerprinter()
    values: dict[str, Any] = {
        "format": FORMAT,
        "step": state.step,
        "chain": chain,
        "metrics": metrics_digest,
        "fingerprints": initial_fingerprints(state, fingerprinter)
        | {"optimizer": optimizer_fingerprint(state, fingerprinter)},
        "files": {name: digest_bytes(data) for name, data in tensors.items()},
    }
    text = json.dumps({**values, "checksum": digest_bytes(canonical_json(values).encode())}, indent=1) + "\n"
    write_folder_atomic(path, {**tensors, STATE: text.encode()})
    return Checkpoint(path, state.step, values)


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and what a kill left half written."""
    for path in (folder / "checkpoints").glob(".*.partial"):
        shutil.rmtree(path, ignore_errors=True)
    for path in checkpoint_paths(folder)[:-keep]:
        remove_folder(path)


def latest(folder: Path, *, at_most: int | None = None) -> Checkpoint | None:
    """The newest checkpoint (not after step `at_most`), or None.

    Raises:
        RunFolderError: it is damaged.
    """
    candidates = [p for p in checkpoint_paths(folder) if at_most is None or int(p.name[5:]) <= at_most]
    return read(candidates[-1]) if candidates else None


def read(path: Path) -> Checkpoint:
    """A checkpoint, its `state.json` and the digests of its files checked.

    Raises:
        RunFolderError: a file is missing or was changed.
    """
    try:
        values = json.loads((path / STATE).read_bytes())
        checksum = values.pop("checksum")
        if checksum != digest_bytes(canonical_json(values).encode()):
            raise ValueError("its checksum does not match its content")
        step = int(values["step"])
        if values["format"] != FORMAT or f"step-{step:06d}" != path.name:
            raise ValueError(f"it is of format {values['format']} and step {step}")
        texts = [values["chain"], values["metrics"], *(values["files"][name] for name in (MODEL, OPTIMIZER))]
        texts += [values["fingerprints"][what] for what in ("parameters", "buffers", "optimizer")]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a digest or a fingerprint in it is no text")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path / STATE, str(error)) from None
    for name in (MODEL, OPTIMIZER):
        _bytes(path, name, values["files"])
    return Checkpoint(path, step, values)


def restore(state: State, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint into a state and see that it has the recorded fingerprints.

    Raises:
        RunFolderError: it is damaged, or belongs to another model.
    """
    load_model(state.model, checkpoint)
    try:
        tensors = safetensors.torch.load(_bytes(checkpoint.path, OPTIMIZER, checkpoint.values["files"]))
        optimizers.restore_state(state.optimizer, state.named_parameters, tensors)
    except (safetensors.SafetensorError, KeyError) as error:
        raise _damaged(checkpoint.path / OPTIMIZER, str(error)) from None
    state.step = checkpoint.step
    fingerprinter = Fingerprinter()
    found = initial_fingerprints(state, fingerprinter) | {"optimizer": optimizer_fingerprint(state, fingerprinter)}
    for what, fingerprint in found.items():
        if fingerprint != checkpoint.values["fingerprints"].get(what):
            raise _damaged(checkpoint.path, f"the {what} do not have the recorded fingerprint")


def load_model(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint's parameters and buffers into a model of the same form."""
    path = checkpoint.path / MODEL
    try:
        tensors = safetensors.torch.load(_bytes(checkpoint.path, MODEL, checkpoint.values["files"]))
    except safetensors.SafetensorError as error:
        raise _damaged(path, str(error)) from None
    own = model_tensors(model)
    if {name: (t.shape, t.dtype) for name, t in own.items()} != {n: (t.shape, t.dtype) for n, t in tensors.items()}:
        wrong = sorted(
            name
            for name in own.keys() | tensors.keys()
            if name not in own
            or name not in tensors
            or (own[name].shape, own[name].dtype) != (tensors[name].shape, tensors[name].dtype)
        )
        raise RunFolderError(
            f"{path}: these tensors do not fit the model: {', '.join(wrong[:5])}. The code of the model was changed "
            "since the run was recorded (its own code is in code.zip)"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and every buffer, also one that is not persistent; shared ones once."""
    return {name: tensor.detach() for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def optimizer_fingerprint(state: State, fingerprinter: Fingerprinter) -> str:
    """One fingerprint over the optimizer's state."""
    tensors = optimizers.state_tensors(state.optimizer, state.named_parameters)
    return combine((stored_name(name, tensor), fingerprinter(tensor)) for name, tensor in tensors.items())


def _bytes(path: Path, name: str, digests: dict[str, str]) -> bytes:
    try:
        data = (path / name).read_bytes()
    except OSError as error:
        raise _damaged(path / name, error.strerror or str(error)) from None
    if digest_bytes(data) != digests.get(name):
        raise _damaged(path / name, "its digest is not the recorded one: it was changed after it was written")
    return data


def _damaged(path: Path, reason: str) -> RunFolderError:
    folder = path if path.name.startswith("step-") else path.parent
    return RunFolderError(
        f"{path}: this checkpoint is damaged: {reason}. Restore it from a copy, or remove the folder {folder} "
        "to go on from the checkpoint before it"
    )
