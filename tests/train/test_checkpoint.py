"""Checkpoints: to the bit there and back, every changed byte found, and no pickle anywhere."""

import json
import pickle
import shutil
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from glassrun import config
from glassrun.errors import RunFolderError
from glassrun.record.run_folder import checkpoint_paths
from glassrun.train import checkpoint
from glassrun.train.memory import own_parameters_and_buffers
from glassrun.train.state import State, start

PROPERTY = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RECIPE = {"name": "t", "task": "classify", "data": {"source": "digits"}, "model": {"kind": "cnn"}}
NAMES = ("model.safetensors", "optimizer.safetensors", "state.json")


class Small(nn.Module):
    """Odd widths, tied weights, a frozen parameter, buffers of several kinds."""

    def __init__(self, width: int = 7) -> None:
        super().__init__()
        self.first = nn.Linear(5, width)
        self.norm = nn.BatchNorm1d(width)
        self.second = nn.Linear(width, 13, bias=False)
        self.tied = nn.Linear(width, 13, bias=False)
        self.tied.weight = self.second.weight
        self.frozen = nn.Parameter(torch.randn(3), requires_grad=False)
        self.register_buffer("scratch", torch.randn(3), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tied(self.norm(self.first(x)) + self.frozen[0])


def new_state(kind: str = "adamw", seed: int = 0, model: nn.Module | None = None) -> State:
    recipe = config.load(RECIPE | {"optimizer": {"kind": kind}})
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        module = model or Small()
    own_parameters_and_buffers(module)
    return start(recipe, SimpleNamespace(facts={}), None, module)  # type: ignore[arg-type]


def train(state: State, steps: int) -> None:
    for _ in range(steps):
        generator = torch.Generator().manual_seed(state.step)
        state.optimizer.zero_grad()
        state.model(torch.randn(11, 5, generator=generator)).square().sum().backward()
        state.optimizer.step()
        state.step += 1
    state.optimizer.zero_grad()


def all_bits(state: State) -> dict[str, bytes]:
    tensors = checkpoint.model_tensors(state.model) | {f"carried {name}": t for name, t in state.carried().items()}
    return {name: tensor.contiguous().numpy().tobytes() for name, tensor in tensors.items()}


def save(folder: Path, state: State) -> Path:
    return checkpoint.save(folder, state, chain="c" * 32, metrics_digest="m" * 32).path


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_round_trip_to_the_bit(tmp_path: Path, kind: str) -> None:
    state = new_state(kind)
    train(state, 3)
    path = save(tmp_path, state)
    assert path == tmp_path / "checkpoints" / "step-000003"
    assert sorted(p.name for p in path.iterdir()) == list(NAMES)
    other = new_state(kind, seed=9)
    assert all_bits(other) != all_bits(state)
    read = checkpoint.read(path)
    assert (read.step, read.values["chain"], read.values["metrics"]) == (3, "c" * 32, "m" * 32)
    checkpoint.restore(other, read)
    assert other.step == 3
    assert all_bits(other) == all_bits(state)
    assert other.model.tied.weight is other.model.second.weight
    for one in (state, other):
        train(one, 2)
    assert all_bits(other) == all_bits(state)  # and goes on with the same bits


def test_everything_is_aligned_after_a_restore(tmp_path: Path) -> None:
    state = new_state()
    train(state, 1)
    other = new_state(seed=9)
    checkpoint.restore(other, checkpoint.read(save(tmp_path, state)))
    tensors = [
        *checkpoint.model_tensors(other.model).values(),
        *other.carried().values(),
    ]
    for tensor in tensors:
        assert tensor.data_ptr() % 64 == 0
        assert tensor.is_contiguous()
        assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_special_values_keep_their_bits(tmp_path: Path) -> None:
    state = new_state()
    with torch.no_grad():
        state.model.frozen.copy_(torch.tensor([-0.0, float("nan"), float("-inf")]))
    other = new_state(seed=9)
    checkpoint.restore(other, checkpoint.read(save(tmp_path, state)))
    assert all_bits(other) == all_bits(state)


def test_no_pickle_is_written_or_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("pickle")

    state, other = new_state(), new_state(seed=9)
    train(state, 1)
    for module, names in (
        (pickle, ("dump", "dumps", "load", "loads", "Pickler", "Unpickler")),
        (torch, ("save", "load")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, forbidden)
    path = save(tmp_path, state)
    checkpoint.restore(other, checkpoint.read(path))
    json.loads((path / "state.json").read_bytes())
    for name in NAMES[:2]:
        data = (path / name).read_bytes()
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        ends = sorted(tuple(entry["data_offsets"]) for key, entry in header.items() if key != "__metadata__")
        assert [start for start, _ in ends] == [0, *[end for _, end in ends[:-1]]]
        assert ends[-1][1] == len(data) - 8 - length  # numbers and nothing else


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = new_state()
    train(state, 2)
    return save(tmp_path_factory.mktemp("run"), state)


@pytest.mark.parametrize("name", NAMES)
@PROPERTY
@given(data=st.data())
def test_any_changed_byte_is_found(saved: Path, tmp_path: Path, name: str, data: st.DataObject) -> None:
    whole = (saved / name).read_bytes()
    at, flip = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    copy = tmp_path / saved.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(saved, copy)
    (copy / name).write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
    try:
        read = checkpoint.read(copy)
    except RunFolderError as error:
        assert "damaged" in str(error)  # noqa: PT017
        return
    assert name == "state.json"  # white space between its values
    assert chr(whole[at]).isspace()
    assert read.values == checkpoint.read(saved).values


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", [None, b"", b"{}", b"null", b"[]"])
def test_a_missing_or_empty_file_is_found(saved: Path, tmp_path: Path, name: str, data: bytes | None) -> None:
    copy = shutil.copytree(saved, tmp_path / saved.name)
    (copy / name).unlink() if data is None else (copy / name).write_bytes(data)
    with pytest.raises(RunFolderError, match="this checkpoint is damaged") as caught:
        checkpoint.read(copy)
    assert f"remove the folder {copy}" in str(caught.value)


def test_a_checkpoint_under_another_name_is_found(saved: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(saved, tmp_path / "step-000005")
    with pytest.raises(RunFolderError, match="step 2"):
        checkpoint.read(copy)


def test_a_file_changed_after_it_was_read_is_found(saved: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(saved, tmp_path / saved.name)
    read = checkpoint.read(copy)
    with (copy / "optimizer.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(RunFolderError, match="changed after it was written"):
        checkpoint.restore(new_state(), read)


def test_a_checkpoint_of_another_model_names_the_tensors(saved: Path) -> None:
    with pytest.raises(RunFolderError, match=r"do not fit the model: .*first\.weight"):
        checkpoint.restore(new_state(model=Small(width=11)), checkpoint.read(saved))


def test_a_model_of_another_precision_names_the_tensors(saved: Path) -> None:
    model = Small()
    model.first.double()
    with pytest.raises(RunFolderError, match=r"do not fit the model: first\.bias, first\.weight\."):
        checkpoint.load_model(model, checkpoint.read(saved))


def test_prune_keeps_the_newest(tmp_path: Path) -> None:
    state = new_state()
    for step in (1, 2, 10, 999_999, 1_000_000):
        state.step = step
        save(tmp_path, state)
    (tmp_path / "checkpoints" / "step-notes").mkdir()
    assert [int(p.name[5:]) for p in checkpoint_paths(tmp_path)] == [1, 2, 10, 999_999, 1_000_000]
    checkpoint.prune(tmp_path, 5)
    assert len(checkpoint_paths(tmp_path)) == 5
    checkpoint.prune(tmp_path, 2)
    assert [int(p.name[5:]) for p in checkpoint_paths(tmp_path)] == [999_999, 1_000_000]
    assert (tmp_path / "checkpoints" / "step-notes").is_dir()
