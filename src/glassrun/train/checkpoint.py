"""Checkpoints: the state after a step as safetensors and digests; whole or absent, copied into place when read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from glassrun.digest import canonical_json, digest_bytes
from glassrun.errors import RunFolderError
from glassrun.record.checkpoint_files import FORMAT, MODEL, OPTIMIZER, STATE, Checkpoint, damaged, path_of
from glassrun.record.checkpoint_files import read as read
from glassrun.record.files import remove_folder, write_folder_atomic
from glassrun.record.fingerprint import Fingerprinter, combine, stored_name
from glassrun.record.run_folder import checkpoint_paths
from glassrun.train import optimizer as optimizers
from glassrun.train.average import KEY, WeightAverage
from glassrun.train.loop import initial_fingerprints
from glassrun.train.state import State


def save(folder: Path, state: State, *, chain: str, metrics_digest: str) -> Checkpoint:
    """Write `checkpoints/step-NNNNNN` under a run folder.

    Raises:
        RunFolderError: the disk is full.
    """
    path = path_of(folder, state.step)
    tensors = {
        MODEL: safetensors.torch.save(model_tensors(state.model)),
        OPTIMIZER: safetensors.torch.save(state.carried()),
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


def restore(state: State, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint into a state and see that it has the recorded fingerprints.

    Raises:
        RunFolderError: it is damaged, or belongs to another model.
    """
    load_model(state.model, checkpoint)
    try:
        averages, tensors = _split(safetensors.torch.load(checkpoint.file(OPTIMIZER)))
        optimizers.restore_state(state.optimizer, state.named_parameters, tensors)
        if state.average:
            _restore_average(state.average, averages, checkpoint)
    except (safetensors.SafetensorError, KeyError) as error:
        raise damaged(checkpoint.path / OPTIMIZER, str(error)) from None
    state.step = checkpoint.step
    if optimizer_fingerprint(state, Fingerprinter()) != checkpoint.values["fingerprints"].get("optimizer"):
        raise damaged(checkpoint.path, "the optimizer's state does not have the recorded fingerprint")


def load_average(model: nn.Module, checkpoint: Checkpoint, decay: float) -> None:
    """Copy a checkpoint's averaged weights into a model of the same form.

    Raises:
        RunFolderError: there are none, or they belong to another model.
    """
    average = WeightAverage(optimizers.trained(model), decay)
    try:
        averages, _ = _split(safetensors.torch.load(checkpoint.file(OPTIMIZER)))
        _restore_average(average, averages, checkpoint)
    except (safetensors.SafetensorError, KeyError) as error:
        raise damaged(checkpoint.path / OPTIMIZER, str(error)) from None
    average.write()


def _restore_average(average: WeightAverage, saved: dict[str, Tensor], checkpoint: Checkpoint) -> None:
    if not saved:
        raise RunFolderError(
            f"{checkpoint.path}: it holds no averaged weights, which the section `average` asks for: the run that "
            "wrote it averaged none. Start from step 1, or leave the section out"
        )
    average.restore(saved)


def _split(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The averaged weights, and the optimizer's state."""
    averages = {name: tensor for name, tensor in tensors.items() if name.endswith(f"/{KEY}")}
    return averages, {name: tensor for name, tensor in tensors.items() if name not in averages}


def load_model(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint's parameters and buffers into a model of the same form; see that they are the recorded ones.

    Raises:
        RunFolderError: they are not, or belong to another model.
    """
    path = checkpoint.path / MODEL
    try:
        tensors = safetensors.torch.load(checkpoint.file(MODEL))
    except safetensors.SafetensorError as error:
        raise damaged(path, str(error)) from None
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
    _check_fingerprints(model, checkpoint)


def _check_fingerprints(model: nn.Module, checkpoint: Checkpoint) -> None:
    fingerprinter = Fingerprinter()
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    frozen = [(name, p) for name, p in model.named_parameters() if not p.requires_grad]
    groups: dict[str, list[tuple[str, Tensor]]] = {
        "parameters": [*trained],
        "buffers": [*model.named_buffers(), *frozen],
    }
    for what, tensors in groups.items():
        found = combine((stored_name(name, tensor), fingerprinter(tensor)) for name, tensor in tensors)
        if found != checkpoint.values["fingerprints"].get(what):
            raise damaged(
                checkpoint.path, f"its {what} do not have the fingerprint recorded for step {checkpoint.step}"
            )


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and every buffer, also one that is not persistent; shared ones once."""
    return {name: tensor.detach() for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def optimizer_fingerprint(state: State, fingerprinter: Fingerprinter) -> str:
    """One fingerprint over the optimizer's state, and the averaged weights if there are any."""
    return combine((stored_name(name, tensor), fingerprinter(tensor)) for name, tensor in state.carried().items())
