"""Snapshots: looking moves nothing, the files follow from the run alone, and what is damaged is said to be."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from torch import Tensor, nn

from glassrun import config
from glassrun.errors import ConfigError, ModelError, RunFolderError
from glassrun.record.snapshots import path_of, paths, planned
from glassrun.train import snapshots
from glassrun.train.loop import Trainer
from glassrun.train.probe import probe_of
from glassrun.train.state import State
from glassrun.train.workers import Workers
from in_process import state_of, step, trained
from support import Made, alive, bits_of, children, glassrun, kill, start, wait_for

NAMES = ["odd-cnn", "odd-lm", "odd-pairs", "odd-encoder", "odd-vit", "odd-llama"]


def all_of(state: State) -> dict[str, Tensor]:
    tensors = {name: tensor.detach().clone() for name, tensor in state.model.named_parameters()}
    tensors |= {name: tensor.clone() for name, tensor in state.model.named_buffers()}
    return tensors | {name: tensor.clone() for name, tensor in state.carried().items()}


def generators() -> tuple[Any, ...]:
    numbers = np.random.get_state()  # noqa: NPY002 - the generator that must not have moved
    return torch.default_generator.get_state().tolist(), numbers[1].tolist(), numbers[2:], random.getstate()


@pytest.mark.parametrize("name", NAMES)
def test_looking_moves_nothing(name: str, made: Made) -> None:
    changes = {"average": {"decay": 0.5}} if name == "odd-cnn" else {}
    plain, watched = state_of(made, name, **changes), state_of(made, name, **changes)
    trainers = [Trainer(state, Workers.join(0, 1, None)) for state in (plain, watched)]
    for number in (1, 2):
        assert step(trainers[0], number).step == step(trainers[1], number).step
        before, modes = generators(), [module.training for module in watched.model.modules()]
        taken = snapshots.take(watched, "chain")
        assert generators() == before
        assert [module.training for module in watched.model.modules()] == modes
        assert taken.step == number
    for tensor, other in zip(all_of(plain).values(), all_of(watched).values(), strict=True):
        assert torch.equal(tensor, other)


def test_the_maps_are_those_of_the_model(made: Made) -> None:
    """The first layer's weights, from the block's own parameters by the formula."""
    state = state_of(made, "odd-lm")
    taken = snapshots.take(state, "chain")
    probe = probe_of(state.task, state.dataset)
    model = state.model.eval()
    caught: list[Tensor] = []
    block = next(module for module in model.modules() if type(module).__name__ == "MultiHeadAttention")
    hook = block.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
    with torch.no_grad():
        model(*probe.inputs)
        hook.remove()
        query, key, _ = block.projections(caught[0])[0].unflatten(-1, (3, block.num_heads, block.d_k)).unbind(1)
        scores = torch.einsum("qhd,khd->hqk", query, key) / block.d_k**0.5
        weights = scores.masked_fill(torch.ones(13, 13).triu(1).bool(), -torch.inf).softmax(-1)
    found = taken.arrays["attention.0"]
    assert found.shape == (3, 13, 13)
    np.testing.assert_allclose(found, weights.numpy(), atol=2e-6)
    assert taken.values["attention"][0]["queries"] == list(probe.read)
    assert "".join(probe.read).replace("␣", " ") == probe.text


def test_an_image_model_shows_filters_maps_and_the_input(made: Made) -> None:
    state = state_of(made, "odd-cnn")
    taken = snapshots.take(state, "chain")
    first = next(module for module in state.model.modules() if isinstance(module, nn.Conv2d))
    assert np.array_equal(taken.arrays["filters"], first.weight.detach().numpy())
    assert taken.arrays["input"].shape == (1, 8, 8)
    assert [taken.arrays[f"maps.{number}"].shape for number in (0, 1)] == [(5, 8, 8), (12, 4, 4)]
    assert taken.values["text"] == ""


def test_a_translation_names_its_tokens(made: Made) -> None:
    state = state_of(made, "odd-pairs")
    entries = snapshots.take(state, "chain").values["attention"]
    by_name = {entry["name"]: entry for entry in entries}
    assert {entry["kind"] for entry in entries} == {"self", "cross"}
    cross = next(entry for entry in entries if entry["kind"] == "cross")
    decoder = next(entry for name, entry in by_name.items() if "decoder" in name and entry["kind"] == "self")
    encoder = next(entry for name, entry in by_name.items() if "encoder" in name)
    assert cross["keys"] == encoder["keys"] == encoder["queries"]
    assert (decoder["queries"][0], cross["queries"][-1]) == ("⟨", "⟩")
    assert decoder["queries"][1:] == cross["queries"][:-1]


def test_the_bound_holds_and_names_what_is_left_out(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_of(made, "odd-lm")
    whole = snapshots.take(state, "chain")
    assert whole.values["left_out"] == []
    monkeypatch.setattr(snapshots, "_MOST_BYTES", whole.arrays["attention.0"].nbytes)
    bounded = snapshots.take(state, "chain")
    kept = [entry["name"] for entry in bounded.values["attention"]]
    assert len(kept) == 1
    assert kept + bounded.values["left_out"] == [entry["name"] for entry in whole.values["attention"]][::-1]


def test_written_and_read(made: Made, tmp_path: Path) -> None:
    taken = snapshots.take(state_of(made, "odd-cnn"), "chain")
    path = snapshots.write(tmp_path, taken)
    found, first = snapshots.read(path), path.read_bytes()
    assert (found.step, found.values) == (taken.step, taken.values)
    assert {name: array.tobytes() for name, array in found.arrays.items()} == {
        name: array.tobytes() for name, array in taken.arrays.items()
    }
    assert snapshots.write(tmp_path, taken).read_bytes() == first
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("place", ["end", "middle", "start", "missing"])
def test_damage_is_told(place: str, made: Made, tmp_path: Path) -> None:
    path = snapshots.write(tmp_path, snapshots.take(state_of(made, "odd-cnn"), "chain"))
    data = bytearray(path.read_bytes())
    if place == "end":
        del data[-7:]
    elif place == "middle":
        data[-200] ^= 1
    elif place == "start":
        data[:8] = b"\xff" * 8
    path.write_bytes(data)
    if place == "missing":
        path.unlink()
    with pytest.raises(RunFolderError, match="this snapshot is damaged"):
        snapshots.read(path)


def test_each_changed_byte_is_told(tmp_path: Path) -> None:
    """Of the arrays, their names and shapes, and of what stands beside them."""
    values = {
        "chain": "c",
        "split": "test",
        "text": "a b",
        "attention": [],
        "maps": ["0"],
        "filters": "",
        "left_out": [],
    }
    taken = snapshots.Snapshot(3, values, {"maps.0": np.arange(6, dtype=np.float32).reshape(1, 2, 3)})
    path = snapshots.write(tmp_path, taken)
    whole = path.read_bytes()
    assert snapshots.read(path).values == values
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(RunFolderError, match="this snapshot is damaged"):
            snapshots.read(path)
    path.write_bytes(whole.replace(b"[1,2,3]", b"[1,3,2]"))
    with pytest.raises(RunFolderError, match="its digest is not the recorded one"):
        snapshots.read(path)


@pytest.mark.parametrize(
    "metadata", [None, {"glassrun": "[1]"}, {"glassrun": "["}, {"glassrun": "{}"}, {"glassrun": "[" * 9999}]
)
def test_a_file_that_is_no_snapshot_is_told(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    path = path_of(tmp_path, 3)
    path.parent.mkdir()
    path.write_bytes(safetensors.numpy.save({"input": np.zeros((1, 2, 3), np.float32)}, metadata))
    with pytest.raises(RunFolderError, match=r"this snapshot is damaged: (?!'NoneType)"):
        snapshots.read(path)


def test_steps_are_spread_evenly() -> None:
    for steps in (1, 2, 7, 100):
        for count in range(2, 12):
            found = planned(count, steps)
            assert (found[0], found[-1]) == (1, steps)
            assert len(found) == len(set(found)) == min(count, steps)
            gaps = {b - a for a, b in pairwise(found)}
            assert max(gaps, default=0) - min(gaps, default=0) <= 1


def test_a_task_of_the_users_own_is_refused_in_words(made: Made) -> None:
    state = state_of(made, "odd-lm")
    state.recipe = state.recipe.model_copy(update={"task": config.ImportedTask.model_validate({"import": "a:B"})})
    with pytest.raises(ModelError, match="built-in tasks"):
        snapshots.take(state, "chain")


def test_the_field_is_free_and_checked(made: Made) -> None:
    recipe = config.load(made.recipe("odd-lm"))
    with_snapshots = config.load(made.recipe("odd-lm"), {"record.snapshots": 5})
    assert with_snapshots.record.snapshots == 5
    assert with_snapshots.digest() == recipe.digest()
    with pytest.raises(ConfigError, match=r"record\.snapshots.*greater than or equal to 0.*-1"):
        config.load(made.recipe("odd-lm"), {"record.snapshots": -1})


STEPS = {"train.steps": 11, "train.eval_every": 5, "train.checkpoint_every": 4}


def files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "snapshots").iterdir()}


def test_a_run_with_snapshots_is_one_without_and_going_on_writes_the_same_files(made: Made, tmp_path: Path) -> None:
    recipe = made.recipe("odd-cnn", **STEPS)
    plain, whole = trained(recipe, tmp_path / "plain"), trained(recipe, tmp_path / "whole", record__snapshots=6)
    assert sorted(files(whole.path)) == [path_of(Path(), n).name for n in planned(6, 11)]
    assert not (plain.path / "snapshots").exists()
    for name in ("ledger.tensors", "metrics.jsonl"):
        assert (plain.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert [line.chain for line in plain.ledger] == [line.chain for line in whole.ledger]

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 7:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        trained(recipe, tmp_path / "stopped", stop, record__snapshots=6)
    last = path_of(tmp_path / "stopped", 5)
    assert paths(tmp_path / "stopped")[-1] == last
    last.write_bytes(b"torn")  # a snapshot after the newest checkpoint is made again
    assert files(trained(recipe, tmp_path / "stopped", record__snapshots=6).path) == files(whole.path)


@pytest.mark.long
def test_killed_and_on_other_workers_the_files_are_the_same(made: Made, tmp_path: Path) -> None:
    changes = {"train.steps": 40, "train.eval_every": 10, "train.checkpoint_every": 15, "record": {"snapshots": 6}}
    whole = trained(made.recipe("odd-cnn", **changes), tmp_path / "whole")
    killed = tmp_path / "killed"
    launcher = start("train", made.file("odd-cnn", **changes), "--out", killed, "--workers", 2)
    wait_for(lambda: path_of(killed, 24).exists() or launcher.poll() is not None, "the snapshot of step 24")
    crew = children(launcher.pid)
    for victim in [launcher.pid, *crew]:
        kill(victim)
    launcher.communicate(timeout=60)
    wait_for(lambda: not any(map(alive, crew)), "the workers to end with their launcher", 30)
    assert glassrun("resume", killed, "--workers", 4).code == 0
    assert files(killed) == files(whole.path)
    assert bits_of(killed) == bits_of(whole.path)
    assert glassrun("replay", killed, "--workers", 2).code == 0
    assert files(killed) == files(whole.path)


def test_a_model_with_nothing_to_show_is_trained_all_the_same(made: Made, tmp_path: Path) -> None:
    notes: list[str] = []
    (tmp_path / "blind.py").write_text(
        "import torch\n"
        "class Blind(torch.nn.Module):\n"
        "    def __init__(self, num_classes, image_height, image_width, **_):\n"
        "        super().__init__()\n"
        "        self.linear = torch.nn.Linear(image_height * image_width, num_classes)\n"
        "    def forward(self, image):\n"
        "        return self.linear(image.flatten(1))\n"
    )
    recipe = made.recipe("odd-cnn", model={"import": "blind:Blind"})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        run = trained(
            recipe,
            tmp_path / "run",
            lambda event: notes.append(event["text"]) if event["event"] == "note" else None,
            record__snapshots=3,
        )
    assert run.status == "complete"
    assert paths(run.path) == []
    assert len([note for note in notes if "no snapshots are kept" in note]) == 1
