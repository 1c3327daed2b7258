"""Runs under torchrun: on one machine, and on two that are network namespaces with addresses of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

import glassrun as api
from glassrun.errors import ConfigError
from glassrun.keys import derive
from glassrun.record.environment import numerics
from glassrun.train import state
from glassrun.train.meeting import Meeting
from glassrun.train.ranked import _agreed
from glassrun.train.torchrun import Rank
from in_process import trained
from support import Made, alive, bits_of, children, glassrun, kill, wait_for

STEPS = {"train.steps": 40, "train.eval_every": 10, "train.checkpoint_every": 4}
ENVIRONMENT = {
    "TORCHELASTIC_RUN_ID": "test",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
}


@pytest.fixture(scope="module")
def on_one_machine(made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return bits_of(trained(made.recipe("odd-lm", **STEPS), tmp_path_factory.mktemp("one") / "run").path)


def lines_in(run: Path) -> int:
    try:
        return (run / "ledger.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


class Agents:
    """The torchrun agents of a test; `log` is what one of them and its ranks have printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, options: list[str], *command: object, within: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        arguments = [*within, sys.executable, "-m", "torch.distributed.run", *options, "-m", "glassrun", *command]
        with (self.folder / f"{len(self.started)}.log").open("wb") as log:
            agent = subprocess.Popen(
                [str(argument) for argument in arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # torchrun warns and sets it to 1 itself
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        self.started.append(agent)
        return agent

    def log(self, number: int = 0) -> str:
        return (self.folder / f"{number}.log").read_text()

    def end(self) -> None:
        for agent in self.started:
            kill(agent.pid)
            agent.wait()


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    made = Agents(tmp_path)
    yield made
    made.end()


def ranks_of(agent: subprocess.Popen[bytes]) -> list[int]:
    """The processes that torchrun started, by rank."""
    return children(agent.pid)


def workers_of(agent: subprocess.Popen[bytes]) -> list[int]:
    """The workers of these, by rank."""
    return [worker for rank in ranks_of(agent) for worker in children(rank)]


# --- on one machine


@pytest.mark.long
def test_a_killed_worker_and_a_surplus_rank(
    made: Made, on_one_machine: dict[str, Any], agents: Agents, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ["--nproc-per-node=3", "--max-restarts=3"]
    agent = agents.start(options, "train", made.file("odd-lm", **STEPS), "--out", run)
    wait_for(lambda: lines_in(run) >= 9, "step 9")
    assert len(workers_of(agent)) == 3
    kill(workers_of(agent)[1])
    assert agent.wait(timeout=240) == 0, agents.log()
    assert bits_of(run) == on_one_machine
    said = agents.log()
    assert "worker 1 was killed by SIGKILL" in said
    assert "Traceback" not in said
    assert said.count("status      complete") == 1
    sessions = glassrun("show", run, "--json").json["sessions"]
    assert [session["workers"] for session in sessions] == [2, 2]
    assert sessions[1]["why"] == "torchrun started the workers again"

    before = (run / "run.json").read_bytes()
    again = glassrun("train", made.file("odd-lm", **STEPS), "--out", run, **ENVIRONMENT)
    assert again.code == 0, again.err
    assert (run / "run.json").read_bytes() == before


@pytest.mark.long
def test_a_random_seed_is_drawn_once_and_a_folder_can_be_resumed(made: Made, agents: Agents, tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = made.file("odd-cnn", seed="random")
    agent = agents.start(["--nproc-per-node=2"], "train", recipe, "--out", run)
    wait_for(lambda: lines_in(run) >= 1, "the first step")
    kill(agent.pid)
    wait_for(lambda: glassrun("show", run, "--json").json["status"] in ("interrupted", "complete"), "the ranks to end")
    again = agents.start(["--nproc-per-node=2"], "resume", run)
    assert again.wait(timeout=240) == 0, agents.log(1)
    loaded = api.load(run)
    assert loaded.status == "complete"
    assert isinstance(loaded.recipe.seed, int)
    assert loaded.replay(workers=1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--out DIR"),
        (["--out", "run", "--workers", "1"], "--workers 1: torchrun says how many"),
        (["--out", "other"], "holds another run"),
    ],
)
def test_what_is_asked_of_a_rank(arguments: list[str], said: str, made: Made, tmp_path: Path) -> None:
    if "other" in arguments:
        trained(made.recipe("odd-cnn", **{"train.steps": 1}), tmp_path / "other")
    done = glassrun("train", made.file("odd-lm"), *arguments, cwd=tmp_path, **ENVIRONMENT)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err


def rank(**values: Any) -> Rank:
    found = {"rank": 0, "world_size": 4, "local_world_size": 4, "host": "127.0.0.1", "port": 1}
    return Rank(**(found | {"agent_has_store": True} | values))


@pytest.mark.parametrize(
    ("world_size", "shards", "active"), [(1, 4, 1), (2, 4, 2), (3, 4, 2), (4, 4, 4), (5, 4, 4), (7, 8, 4), (9, 1, 1)]
)
def test_as_many_ranks_compute_as_a_power_of_two_allows(world_size: int, shards: int, active: int) -> None:
    assert rank(world_size=world_size).active(shards) == active


def test_the_interface_is_the_one_that_leads_to_rank_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    assert rank().variables() == {"GLOO_SOCKET_IFNAME": "lo"}
    with pytest.raises(ConfigError, match="--local-addr"):
        rank(local_world_size=2).variables()
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine")
    assert rank(local_world_size=2).variables() == {}


def test_machines_that_give_other_bits_are_refused(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "set_numerics", lambda _numerics: None)  # it would set this process

    class Said:
        def hear(self) -> dict[str, Any]:
            return {"config": made.recipe("odd-lm"), "numerics": numerics() | {"cpu": "another"}}

    with pytest.raises(ConfigError, match=r"rank 3 .*cpu: recorded another, here"):
        _agreed(Said(), 3)  # type: ignore[arg-type]


def test_a_start_never_meets_the_one_before_it() -> None:
    """The store keeps what was said before, and followers may be there first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = dist.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    place = {"host": "127.0.0.1", "port": port, "ranks": 3, "serve": False}

    def take_part(rank: int, start: int) -> dict[str, Any]:
        if rank == 0:
            time.sleep(0.3)
        meeting = Meeting(place, rank)
        if rank == 0:
            meeting.say({"start": start})
        heard = meeting.hear()
        meeting.part()
        return heard

    with ThreadPoolExecutor(3) as pool:
        for start in range(3):
            heard = list(pool.map(lambda rank, start=start: take_part(rank, start), (1, 2, 0)))
            assert heard == [{"start": start}] * 3
    del server


@pytest.mark.long
def test_ten_processes_killed_at_random_moments(made: Made, agents: Agents, tmp_path: Path) -> None:
    run, recipe = tmp_path / "run", made.file("odd-lm", **STEPS | {"train.steps": 800})
    options = ["--nproc-per-node=3", "--max-restarts=10", "--monitor-interval=0.5"]
    agent = agents.start(options, "train", recipe, "--out", run)
    for number in range(10):
        if number % 2:
            before = lines_in(run)
            wait_for(lambda before=before: lines_in(run) > before or agent.poll() is not None, "a step")
        time.sleep(derive(6, "kill", number) % 1500 / 1000)
        which = workers_of(agent) if derive(6, "which", number) % 3 else ranks_of(agent)
        if which:
            kill(which[derive(6, "who", number) % len(which)])
    assert agent.wait(timeout=400) == 0, agents.log()
    api.train(recipe, out=tmp_path / "undisturbed", workers=2)
    assert bits_of(run) == bits_of(tmp_path / "undisturbed")


# --- between machines


class Machine:
    """A network namespace with an address: to the programs in it, a machine."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        self.within = ("ip", "netns", "exec", name)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture
def machines() -> Iterator[tuple[Machine, Machine]]:
    """Two machines with a cable between them."""
    if shutil.which("ip") is None:
        pytest.skip("needs the program ip (iproute2) to make network namespaces")
    number = os.getpid() % 60000
    made = [Machine(f"glassrun{i}-{number}", f"10.{77 + number // 250}.{number % 250}.{i}") for i in (1, 2)]
    cables = [f"gr{i}-{number}" for i in (1, 2)]
    try:
        try:
            for machine in made:
                ip("netns", "add", machine.name)
            a, b = made
            ip("link", "add", cables[0], "netns", a.name, "type", "veth", "peer", "name", cables[1], "netns", b.name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode().strip()}")
        for machine, cable in zip(made, cables, strict=True):
            ip("-n", machine.name, "address", "add", f"{machine.address}/24", "dev", cable)
            ip("-n", machine.name, "link", "set", cable, "up")
            ip("-n", machine.name, "link", "set", "lo", "up")
        yield a, b
    finally:
        for machine in made:
            subprocess.run(["ip", "netns", "delete", machine.name], capture_output=True, check=False, timeout=60)


def joining(agents: Agents, host: Machine, run: Path, recipe: Path) -> Callable[[Machine], subprocess.Popen[bytes]]:
    """Starts torchrun on a machine; `host` is where they meet."""

    def join(machine: Machine) -> subprocess.Popen[bytes]:
        options = ["--nnodes=1:2", "--nproc-per-node=1", "--max-restarts=3", "--monitor-interval=0.5"]
        options += ["--rdzv-backend=c10d", f"--rdzv-endpoint={host.address}:29400", f"--local-addr={machine.address}"]
        options += [f"--rdzv-conf=last_call_timeout=3,is_host={int(machine is host)}"]
        return agents.start(options, "train", recipe, "--out", run, within=machine.within)

    return join


def workers_in(run: Path) -> list[int]:
    """How many workers each session had."""
    return [session["workers"] for session in glassrun("show", run, "--json").json["sessions"]]


@pytest.mark.long
@pytest.mark.parametrize("first_rank", ["lost", "left"])
def test_a_lost_machine(
    first_rank: str,
    made: Made,
    on_one_machine: dict[str, Any],
    machines: tuple[Machine, Machine],
    agents: Agents,
    tmp_path: Path,
) -> None:
    """Its agent is killed, and with it all that it had started; rank 0 was there or not: it has the lower address."""
    lost, staying = machines if first_rank == "lost" else machines[::-1]
    run = tmp_path / "run"
    join = joining(agents, staying, run, made.file("odd-lm", **STEPS))
    stays, goes = join(staying), join(lost)
    wait_for(lambda: lines_in(run) >= 9, "step 9")
    doomed = [*ranks_of(goes), *workers_of(goes)]
    assert len(doomed) == 2
    kill(goes.pid)
    wait_for(lambda: not any(map(alive, doomed)), "all on the lost machine to end", 30)
    assert stays.wait(timeout=240) == 0, agents.log()
    assert bits_of(run) == on_one_machine
    assert workers_in(run) == [2, 1]


@pytest.mark.long
def test_a_machine_that_comes_back(
    made: Made, monkeypatch: pytest.MonkeyPatch, machines: tuple[Machine, Machine], agents: Agents, tmp_path: Path
) -> None:
    """The machines count restarts differently then: the one that comes back begins at 0."""
    # Without it torch 2.13 tells a machine that comes later no address, and its agents wait for each other in vain.
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    run = tmp_path / "run"
    recipe = made.file("odd-lm", **STEPS | {"train.steps": 400})
    join = joining(agents, machines[0], run, recipe)
    stays, goes = join(machines[0]), join(machines[1])
    wait_for(lambda: lines_in(run) >= 9, "step 9")
    kill(goes.pid)
    wait_for(lambda: workers_in(run) == [2, 1], "the run to go on")
    comes_back = join(machines[1])
    assert stays.wait(timeout=300) == 0, agents.log()
    assert comes_back.wait(timeout=60) == 0, agents.log(2)
    assert workers_in(run) == [2, 1, 2]
    api.train(recipe, out=tmp_path / "undisturbed", workers=2)
    assert bits_of(run) == bits_of(tmp_path / "undisturbed")
