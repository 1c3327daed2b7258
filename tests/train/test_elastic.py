"""Workers are killed and the run goes on by itself with the same bits; one that computes something else is found."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import glassrun as api
from glassrun.errors import ModelError, WorkerLost
from glassrun.keys import derive
from glassrun.record.fingerprint import Fixed
from glassrun.train.disagreement import disagreement, word_sum
from glassrun.train.elastic import endure, left
from in_process import trained
from support import Command, Done, Made, alive, bits_of, children, glassrun, kill, start, wait_for

STEPS = {"train.steps": 40, "train.eval_every": 10, "train.checkpoint_every": 4}


# --- the policy, without processes


class Attempts:
    """Attempts that end as given: a number of workers killed and of steps recorded by then, an error, or None: done."""

    def __init__(self, *ends: tuple[int, int] | Exception | None) -> None:
        self.ends = list(ends)
        self.workers: list[int] = []
        self.whys: list[str | None] = []
        self.steps = 0
        self.notes: list[str] = []

    def __call__(self, workers: int, why: str | None) -> dict[str, Any]:
        self.workers.append(workers)
        self.whys.append(why)
        end = self.ends.pop(0)
        if isinstance(end, tuple):
            killed, self.steps = end
            raise WorkerLost(f"loss {len(self.workers)}", killed=killed)
        if end is not None:
            raise end
        return {"event": "done"}

    def endure(self, workers: int) -> dict[str, Any]:
        return endure(self, workers, lambda: self.steps, lambda event: self.notes.append(event["text"]))


@pytest.mark.parametrize(
    ("first", "killed", "then"),
    [(2, 1, 1), (4, 1, 2), (4, 2, 2), (4, 3, 1), (4, 4, 1), (8, 1, 4), (8, 5, 2), (1, 1, 1)],
)
def test_goes_on_with_the_largest_power_of_two_that_is_left(first: int, killed: int, then: int) -> None:
    attempts = Attempts((killed, 3), None)
    assert attempts.endure(first) == {"event": "done"}
    assert attempts.workers == [first, then]
    assert attempts.whys == [None, "loss 1"]
    assert attempts.notes == [f"loss 1; going on by itself with {then} worker{'s' if then > 1 else ''}"]
    assert left(first, killed) == then


def test_goes_on_for_ever_while_steps_come_of_it() -> None:
    attempts = Attempts(*((1, step) for step in range(1, 31)), None)
    attempts.endure(1)
    assert len(attempts.workers) == 31


@pytest.mark.parametrize(("first", "attempts_made"), [(1, 3), (2, 4), (8, 6)])
def test_gives_up_after_three_fruitless_losses_on_one_worker(first: int, attempts_made: int) -> None:
    attempts = Attempts(*[(1, 0)] * 10)
    with pytest.raises(WorkerLost, match=f"loss {attempts_made}"):
        attempts.endure(first)
    assert len(attempts.workers) == attempts_made


def test_a_new_step_between_losses_starts_the_count_again() -> None:
    attempts = Attempts((1, 5), (1, 5), (1, 5), (1, 6), (1, 6), (1, 6), (1, 6))
    with pytest.raises(WorkerLost, match="loss 7"):
        attempts.endure(1)


@pytest.mark.parametrize("error", [ModelError("raised"), WorkerLost("failed by itself")])
def test_does_not_try_again_what_was_raised(error: Exception) -> None:
    attempts = Attempts(error, None)
    with pytest.raises(type(error), match=str(error)):
        attempts.endure(2)
    assert attempts.workers == [2]


# --- killed


@pytest.fixture(scope="module")
def never_killed(made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return bits_of(trained(made.recipe("odd-lm", **STEPS), tmp_path_factory.mktemp("never") / "run").path)


def lines_in(run: Path) -> int:
    try:
        return (run / "ledger.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def trained_while(run: Path, recipe: Path, workers: int, disturb: Callable[[list[int]], None]) -> Done:
    """Train; `disturb` gets the workers' process numbers as soon as all are there."""
    launcher = start("train", recipe, "--out", run, "--workers", workers)
    wait_for(lambda: len(children(launcher.pid)) >= workers, "the workers")
    crew = children(launcher.pid)
    disturb(crew)
    _, err = launcher.communicate(timeout=240)
    wait_for(lambda: not any(map(alive, crew)), "the first workers to end", 30)
    return Done(launcher.returncode, "", err.decode())


def sessions_of(run: Path) -> list[dict[str, Any]]:
    sessions: list[dict[str, Any]] = json.loads((run / "run.json").read_text())["sessions"]
    return sessions


@pytest.mark.parametrize(
    ("who", "workers", "after_lines", "then"),
    [
        ("first", 2, 9, 1),
        pytest.param("last", 4, 1, 2, marks=pytest.mark.long),
        pytest.param("last", 1, 22, 1, marks=pytest.mark.long),
        pytest.param("two of them", 4, 13, 2, marks=pytest.mark.long),
    ],
)
def test_goes_on_by_itself_with_the_same_bits(
    who: str,
    workers: int,
    after_lines: int,
    then: int,
    made: Made,
    never_killed: dict[str, Any],
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"

    def disturb(crew: list[int]) -> None:
        wait_for(lambda: lines_in(run) >= after_lines, f"step {after_lines}")
        for victim in {"first": crew[:1], "last": crew[-1:], "two of them": crew[1:3]}[who]:
            kill(victim)

    done = trained_while(run, made.file("odd-lm", **STEPS), workers, disturb)
    assert done.code == 0, done.err
    assert bits_of(run) == never_killed
    said = [line for line in done.err.splitlines() if line.startswith("note: ")]
    assert len(said) == 1, done.err
    assert "was killed by SIGKILL" in said[0]
    assert said[0].endswith(f"going on by itself with {then} worker{'s' if then > 1 else ''}")
    assert done.err.count("run         ") == 1
    first, second = sessions_of(run)
    assert (first["workers"], first["after_step"], "why" in first) == (workers, 0, False)
    assert (second["workers"], second["after_step"] % 4) == (then, 0)
    assert "was killed by SIGKILL" in second["why"]


@pytest.mark.long
def test_killed_before_anything_is_written(made: Made, never_killed: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = trained_while(run, made.file("odd-lm", **STEPS), 2, lambda crew: kill(crew[0]))
    assert done.code == 0, done.err
    assert bits_of(run) == never_killed


MODELS = '''
import ctypes
import gc
import os
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

HERE = Path(__file__).parent


def is_rank(rank):
    return rank == (dist.get_rank() if dist.is_initialized() else 0)


def once(name):
    # for the first of all processes that asks
    try:
        os.close(os.open(HERE / name, os.O_CREAT | os.O_EXCL))
        return True
    except FileExistsError:
        return False


def flip(tensor, bit):
    # through the memory, so that neither autograd nor a version counter sees it
    tensor.detach().numpy().view(np.uint32).reshape(-1)[3] ^= np.uint32(1 << bit)


class Plain(nn.Module):
    """Calls `disturb` after its forward number `at`, counted over training alone."""

    count = 0

    def __init__(self, num_classes, at=0, rank=0, name=""):
        super().__init__()
        self.first = nn.Linear(64, 7)
        self.second = nn.Linear(7, num_classes)
        self.frozen = nn.Parameter(torch.ones(5), requires_grad=False)
        self.at, self.rank, self.name = at, rank, name

    def forward(self, x):
        Plain.count += self.training
        out = self.second(torch.relu(self.first(x.flatten(1)))) * self.frozen.mean()
        if Plain.count == self.at and is_rank(self.rank) and (self.name == "always" or once(self.name)):
            self.disturb()
        return out

    def disturb(self):
        pass


class Crashing(Plain):
    def disturb(self):
        ctypes.string_at(0)


class Raising(Plain):
    def disturb(self):
        raise OSError("the disk is on fire")


class FlippingParameter(Plain):
    def disturb(self):
        flip(self.second.weight, 7)


class FlippingFrozen(Plain):
    def disturb(self):
        flip(self.frozen, 20)


class FlippingOptimizer(Plain):
    def disturb(self):
        # in the evaluation that follows the step's last forward
        if self.training:
            os.remove(HERE / self.name)
            return
        (optimizer,) = [found for found in gc.get_objects() if isinstance(found, torch.optim.AdamW)]
        flip(optimizer.state[self.first.weight]["exp_avg"], 3)
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    folder.joinpath("faulty.py").write_text(MODELS)
    return folder


@pytest.fixture
def faulty(made: Made, place: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """Writes the recipe of a faulty model; each fault happens once, whatever processes follow."""
    monkeypatch.chdir(place)

    def written(kind: str, at: int, rank: int = 0, *, always: bool = False) -> Path:
        name = "always" if always else str(derive(0, request.node.name))
        model = {"import": f"faulty:{kind}", "at": at, "rank": rank, "name": name}
        steps = {"train.steps": 12, "train.eval_every": 4, "train.checkpoint_every": 4}
        return made.file("odd-cnn", model=model, **steps)

    return written


@pytest.fixture(scope="module")
def never_disturbed(made: Made, place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The model without a fault; a fault's arguments are part of the config and so of the chain, which is left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        steps = {"train.steps": 12, "train.eval_every": 4, "train.checkpoint_every": 4}
        recipe = made.recipe("odd-cnn", model={"import": "faulty:Plain"}, **steps)
        return comparable(trained(recipe, tmp_path_factory.mktemp("never") / "run").path)


def comparable(run: Path) -> dict[str, Any]:
    return {key: value for key, value in bits_of(run).items() if key != "chain"}


@pytest.mark.long
def test_a_worker_that_crashes_is_replaced(faulty: Any, never_disturbed: dict[str, Any], tmp_path: Path) -> None:
    done = glassrun("train", faulty("Crashing", 11, 1), "--out", tmp_path / "run", "--workers", 2)
    assert done.code == 0, done.err
    assert "worker 1 was killed by SIGSEGV; going on by itself with 1 worker" in done.err
    assert comparable(tmp_path / "run") == never_disturbed


@pytest.mark.long
def test_a_worker_that_always_crashes_is_given_up(faulty: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = glassrun("train", faulty("Crashing", 3, always=True), "--out", run, "--workers", 2)
    assert done.code == 1
    assert f"worker 0 was killed by SIGSEGV. What was done is kept; go on with: glassrun resume {run}" in done.err
    assert "Traceback" not in done.err
    assert [session["workers"] for session in sessions_of(run)] == [2, 1, 1, 1]


def test_a_worker_that_raises_is_not_replaced(faulty: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = glassrun("train", faulty("Raising", 11, 1), "--out", run, "--workers", 2)
    assert done.code == 2
    assert "the disk is on fire" in done.err
    assert "Traceback" not in done.err
    assert "going on" not in done.err
    assert len(sessions_of(run)) == 1


@pytest.mark.long
def test_a_replay_whose_worker_is_killed_begins_again(made: Made, never_killed: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    api.train(made.file("odd-lm", **STEPS), out=run, workers=1)
    replaying = start("replay", run, "--workers", 2)
    wait_for(lambda: len(children(replaying.pid)) >= 2, "the workers")
    kill(children(replaying.pid)[1])
    out, err = replaying.communicate(timeout=240)
    assert replaying.returncode == 0, (out + err).decode()
    assert "going on by itself with 1 worker" in err.decode()
    assert bits_of(run) == never_killed


# --- a worker that computes something else

VALUES = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50)


@given(VALUES, st.integers(0, 49), st.integers(0, 63))
def test_one_flipped_bit_changes_the_sum(values: list[int], place: int, bit: int) -> None:
    tensors = [torch.tensor(values), torch.tensor([1.5, -2.5, 3.5])]
    fixed = Fixed(tensors)
    before = word_sum(fixed)
    words = tensors[0].numpy().view(np.uint64)
    words[place % len(values)] ^= np.uint64(1 << bit)
    assert word_sum(fixed) != before
    assert word_sum(fixed) == word_sum(Fixed(tensors))


def test_the_sum_covers_every_tensor_and_the_odd_end() -> None:
    tensors = [torch.zeros(3), torch.zeros(5, dtype=torch.bfloat16), torch.zeros(1), torch.zeros(8)]
    fixed = Fixed(tensors)
    assert word_sum(Fixed([])) == word_sum(fixed) == 0
    for tensor in tensors:
        tensor[-1] = 1.0
        assert word_sum(fixed) != 0
        tensor.data = torch.zeros(tensor.shape, dtype=tensor.dtype)
        assert word_sum(fixed) == 0


def test_the_minority_and_the_first_tensor_are_named() -> None:
    names = ["a float32 2", "b float32 3", "c float32 5"]
    found = disagreement(7, names, [[1, 2, 3], [1, 2, 3], [1, 9, 8], [1, 2, 3]])
    assert str(found).startswith(
        "step 7: worker 2 of 4 computed something else than the others, first in b float32 3: "
        "0000000000000009 there, 0000000000000002 elsewhere. The step is not recorded."
    )
    assert "worker 0 and worker 3 of 8" in str(
        disagreement(7, names, [[1, 2, 4], *[[1, 2, 3]] * 2, [0, 2, 3]] + [[1, 2, 3]] * 4)
    )
    undecided = str(disagreement(7, names, [[1, 2, 3], [1, 2, 4]]))
    assert "first in c float32 5: 0000000000000003 on worker 0, 0000000000000004 on worker 1" in undecided


@pytest.mark.parametrize(
    ("kind", "workers", "at", "rank", "step", "said"),
    [
        ("FlippingParameter", 2, 10, 1, 5, ["first in second.weight float32 10x7", "worker 1's do not follow"]),
        pytest.param(
            "FlippingParameter",
            2,
            1,
            0,
            1,
            ["first in second.weight float32 10x7", "worker 0's do not follow"],
            marks=pytest.mark.long,
        ),
        pytest.param(
            "FlippingParameter",
            4,
            7,
            2,
            7,
            ["worker 2 of 4 computed something else", "first in second.weight"],
            marks=pytest.mark.long,
        ),
        pytest.param(
            "FlippingFrozen", 2, 14, 1, 7, ["first in frozen float32 5", "cannot be told"], marks=pytest.mark.long
        ),
        pytest.param(
            "FlippingOptimizer",
            2,
            16,
            1,
            8,
            ["first in optimizer state first.weight/exp_avg float32 7x64"],
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_flipped_bit_is_found_and_nothing_is_lost(
    kind: str,
    workers: int,
    at: int,
    rank: int,
    step: int,
    said: list[str],
    faulty: Any,
    never_disturbed: dict[str, Any],
    command: Command,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    done = command("train", faulty(kind, at, rank), "--out", run, "--workers", workers)
    assert done.code == 1, done.err
    assert f"stopped: step {step}: " in done.err
    for text in said:
        assert text in done.err
    assert f"glassrun resume {run}" in done.err
    assert "Traceback" not in done.err
    assert lines_in(run) == (step if kind == "FlippingOptimizer" else step - 1)
    assert command("show", run, "--json").json["status"] == "interrupted"
    resumed = command("resume", run, "--workers", 1)
    assert resumed.code == 0, resumed.err
    assert comparable(run) == never_disturbed


@pytest.mark.long
def test_twenty_workers_killed_at_random_moments(made: Made, tmp_path: Path) -> None:
    """One launcher, that nobody touches, outlives them all; every second kill waits for a step, the others do not."""
    run, recipe = tmp_path / "run", made.file("odd-lm", **STEPS | {"train.steps": 800})
    launcher = start("train", recipe, "--out", run, "--workers", 4)
    for number in range(20):
        if number % 2:
            before = lines_in(run)
            wait_for(lambda before=before: lines_in(run) > before or launcher.poll() is not None, "a step")
        time.sleep(derive(5, "kill", number) % 1500 / 1000)
        crew = children(launcher.pid)
        if crew:
            kill(crew[derive(5, "who", number) % len(crew)])
    _, err = launcher.communicate(timeout=300)
    assert launcher.returncode == 0, err.decode()
    assert len(sessions_of(run)) > 10
    api.train(recipe, out=tmp_path / "undisturbed", workers=2)
    assert bits_of(run) == bits_of(tmp_path / "undisturbed")
