"""The recorder in processes of its own: what it imports, kills, reruns, and several ranks."""

import json
import os
import re
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import glassrun
from glassrun.errors import ConfigError
from glassrun.record.run_folder import RunFolder
from glassrun.replay import operations
from glassrun.show import summary
from support import alive, kill, wait_for

LOOP = """
import sys, time
import torch
import glassrun

torch.set_num_threads(1)
torch.manual_seed(1)
model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.ReLU(), torch.nn.Linear(7, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with glassrun.record(sys.argv[1], {"lr": 0.1}, seed=1) as run:

    def train_step(x):
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    train_step = run.replayable(train_step, model)
    for step in range(1, int(sys.argv[2]) + 1):
        x = torch.randn(3, 5)
        loss = train_step(x)
        run.step(model=model, optimizer=optimizer, loss=loss, batch=x)
        print(step, flush=True)
        time.sleep(float(sys.argv[3]))
print("the end", flush=True)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "my_loop.py"
    path.write_text(LOOP)
    return path


def python(*arguments: object, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )


def test_the_three_lines_of_the_readme(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(
        r"^## Three lines in your own loop$.*?^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE
    )
    lines = [line for line in code.splitlines() if "glassrun" in line or "run." in line]
    assert [line.partition("# ")[2] for line in lines] == ["one", "two", "three"]
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = RunFolder.open(tmp_path / "runs" / "mine")
    assert (folder.status, len(folder.lines()), folder.header["notes"]) == ("complete", 20, [])


# --- imports ----------------------------------------------------------------------------------------------------------


def test_recording_brings_in_torch_and_numpy_only(tmp_path: Path) -> None:
    """Compared with a process that imports torch and numpy and trains, every new module is glassrun's or Python's."""
    program = """
        import sys, torch, numpy
        torch.set_num_threads(1)
        if {recorded}:
            import glassrun.record
            run = glassrun.record({path!r}, {{"lr": 0.1}})
            run.__enter__()
        model = torch.nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss = model(torch.ones(1, 2)).sum()
        loss.backward()
        optimizer.step()
        if {recorded}:
            run.step(model=model, optimizer=optimizer, loss=loss, batch=[torch.ones(1, 2), numpy.ones(2), "text"])
            run.__exit__(None, None, None)
        print(" ".join(sorted({{name.partition(".")[0] for name in sys.modules}} - sys.stdlib_module_names)))
    """
    path = str(tmp_path / "run")
    plain, recorded = (
        python("-c", textwrap.dedent(program).format(recorded=recorded, path=path)) for recorded in (False, True)
    )
    assert plain.returncode == recorded.returncode == 0, recorded.stderr
    assert set(recorded.stdout.split()) - set(plain.stdout.split()) == {"glassrun"}
    assert "torch" in plain.stdout.split()


def test_the_package_and_the_function_share_a_name() -> None:
    program = "import glassrun.record\nfrom glassrun.record import recorder as r\n"
    program += "import glassrun\nassert glassrun.record is r.record and callable(glassrun.train), glassrun.record"
    done = python("-c", program)
    assert done.returncode == 0, done.stderr


# --- kills ------------------------------------------------------------------------------------------------------------


def test_a_kill_leaves_an_interrupted_run_with_whole_lines(script: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, script, tmp_path / "run", "100000", "0.001"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert process.stdout is not None
    while int(process.stdout.readline()) < 5:
        pass
    assert summary(tmp_path / "run")["status"] == "running"
    kill(process.pid)
    process.wait()
    process.stdout.close()
    folder = RunFolder.open(tmp_path / "run")
    folder.check()
    assert folder.status == "interrupted"
    assert len(folder.lines()) >= 5
    for name in ("ledger.jsonl", "ledger.tensors"):  # what a kill within a write leaves
        with (tmp_path / "run" / name).open("ab") as file:
            file.write(b'{"torn')
    RunFolder.open(tmp_path / "run").check()


@pytest.mark.long
def test_processes_that_the_loop_forked_do_not_keep_a_killed_run_alive(tmp_path: Path) -> None:
    program = """
        import os, sys, time, torch, glassrun
        torch.set_num_threads(1)
        with glassrun.record(sys.argv[1]):
            child = os.fork()
            if child == 0:
                time.sleep(600)
            print(child, flush=True)
            time.sleep(600)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), tmp_path / "run"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        assert RunFolder.open(tmp_path / "run").status == "running"
        kill(process.pid)
        process.wait()
        assert alive(child)
        assert RunFolder.open(tmp_path / "run").status == "interrupted"
    finally:
        kill(child)
        process.stdout.close()
    wait_for(lambda: not alive(child), "the child's end")


# --- how it was started, and running it again -------------------------------------------------------------------------


def rerun(run: Path, job: dict[str, Any], tmp_path: Path) -> tuple[subprocess.CompletedProcess[str], Any]:
    """Start a recorded program again, as its `run.json` says, with a job."""
    command = RunFolder.open(run).header["command"]
    result = tmp_path / "result.json"
    (tmp_path / "job.json").write_text(json.dumps({"result": str(result), "entry": command["entry"]} | job))
    done = subprocess.run(
        [command["python"], *command["arguments"]],
        cwd=command["folder"],
        env=os.environ | {"GLASSRUN_RERUN": str(tmp_path / "job.json")},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )
    return done, json.loads(result.read_text()) if result.exists() else None


def test_a_program_is_run_again_up_to_a_step(script: Path, tmp_path: Path) -> None:
    recorded = python(script.name, "run", 5, 0, cwd=tmp_path)
    assert recorded.stdout.endswith("the end\n"), recorded.stderr
    folder = RunFolder.open(tmp_path / "run")
    assert folder.header["replayable"] is True
    assert folder.header["command"] == {
        "hash_seed": os.environ.get("PYTHONHASHSEED"),
        "python": sys.executable,
        "arguments": ["my_loop.py", "run", "5", "0"],
        "folder": str(tmp_path),
        "entry": 1,
    }
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    done, found = rerun(tmp_path / "run", {"step": 3, "trace": None}, tmp_path)
    assert (done.returncode, done.stdout) == (0, "1\n2\n"), done.stderr
    assert found["steps"] == {str(line.step.step): line.step.fields() for line in folder.lines()[:3]}
    assert found["initial"] == folder.header["initial"]
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before
    done, found = rerun(tmp_path / "run", {"step": 9}, tmp_path)
    assert done.returncode == 0
    assert list(found["steps"]) == ["1", "2", "3", "4", "5"]


def test_the_operations_of_the_step_are_traced_and_ours_are_not(script: Path, tmp_path: Path) -> None:
    assert python(script, tmp_path / "run", 3, 0).returncode == 0
    traces = []
    for name in ("first", "second"):
        done, _ = rerun(tmp_path / "run", {"step": 2, "trace": str(tmp_path / name)}, tmp_path)
        assert done.returncode == 0, done.stderr
        traces.append(operations.read(tmp_path / name))
    assert traces[0] == traces[1]
    assert [(found.name, found.module) for found in traces[0] if found.module and not found.backward][:2] == [
        ("aten.t.default", "0 (Linear)"),
        ("aten.addmm.default", "0 (Linear)"),
    ]
    assert all("my_loop.py" in found.line for found in traces[0] if found.module)
    names = {found.name for found in traces[0]}
    assert not names & {"aten.linalg_vector_norm.default", "aten.cat.default"}  # the recorder's reading of gradients


@pytest.mark.long
def test_flags_are_set_when_the_rerun_enters(tmp_path: Path) -> None:
    program = """
        import sys, torch, glassrun
        with glassrun.record(sys.argv[1]):
            print(torch.get_num_threads(), torch.get_float32_matmul_precision(),
                  torch.are_deterministic_algorithms_enabled(), float(torch.tensor(1e-38) * 0.1) == 0, torch.rand(1))
    """
    (tmp_path / "flags.py").write_text(textwrap.dedent(program))
    assert python("flags.py", "run", cwd=tmp_path).returncode == 0
    flags = {
        "threads": 2,
        "float32_matmul_precision": "medium",
        "deterministic_algorithms": True,
        "flush_denormal": True,
        "seed": 5,
    }
    runs = [rerun(tmp_path / "run", {"step": 1, "flags": flags}, tmp_path)[0].stdout for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0].startswith("2 medium True True ")
    done, _ = rerun(tmp_path / "run", {"step": 1, "flags": dict.fromkeys(flags)}, tmp_path)
    assert "highest False False" in done.stdout
    done, _ = rerun(tmp_path / "run", {"step": 1, "flags": {"nonsense": 1}}, tmp_path)
    assert "the flag 'nonsense' is not known" in done.stderr


def test_a_rerun_finds_its_recorder_among_several(tmp_path: Path) -> None:
    program = """
        import sys, torch, glassrun
        weight = torch.nn.Parameter(torch.ones(2))
        optimizer = torch.optim.SGD([weight], lr=0.1)
        for name in ("a", "b"):
            with glassrun.record(f"{sys.argv[1]}-{name}") as run:
                for _ in range(2):
                    weight.sum().backward()
                    optimizer.step()
                    run.step(optimizer=optimizer, loss=0.0)
    """
    (tmp_path / "two.py").write_text(textwrap.dedent(program))
    done = python("two.py", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    second = RunFolder.open(tmp_path / "run-b")
    assert second.header["command"]["entry"] == 2
    assert second.header["replayable"] is False
    _, found = rerun(tmp_path / "run-b", {"step": 2}, tmp_path)
    assert found["steps"] == {str(line.step.step): line.step.fields() for line in second.lines()}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"step": "x", "result": "y"}'])
def test_a_job_that_is_none_is_told(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job.json").write_text(text)
    monkeypatch.setenv("GLASSRUN_RERUN", str(tmp_path / "job.json"))
    with pytest.raises(ConfigError, match="GLASSRUN_RERUN="), glassrun.record(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_a_job_that_is_not_there_ends_the_program(script: Path, tmp_path: Path) -> None:
    done = python(script, tmp_path / "run", 1, 0, GLASSRUN_RERUN=str(tmp_path / "job.json"))
    assert done.returncode == 1
    assert "ConfigError: GLASSRUN_RERUN=" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_module_and_a_text_can_be_run_again_and_standard_input_cannot(script: Path, tmp_path: Path) -> None:
    assert python("-X", "dev", "-m", "my_loop", "module", 1, 0, cwd=tmp_path).returncode == 0
    assert python("-c", LOOP, "text", 1, 0, cwd=tmp_path).returncode == 0
    with script.open() as source:
        done = subprocess.run([sys.executable, "-", "stdin", "1", "0"], cwd=tmp_path, stdin=source, timeout=300)
    assert done.returncode == 0
    module, text, stdin = (RunFolder.open(tmp_path / name).header for name in ("module", "text", "stdin"))
    assert module["command"]["arguments"] == ["-X", "dev", "-m", "my_loop", "module", "1", "0"]
    assert text["command"]["arguments"][0] == "-c"
    assert stdin["command"] is None
    assert "standard input" in stdin["notes"][0]


# --- ranks ------------------------------------------------------------------------------------------------------------

RANKS = """
import os, sys
import torch
import torch.distributed as dist
import glassrun

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(1)
model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.Linear(7, 2))
model = torch.nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with glassrun.record(sys.argv[1], seed=1) as run:
    for step in range(1, 4):
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))[2 * rank : 2 * rank + 2]
        loss = model(x).square().mean()
        loss.backward()
        if sys.argv[2] == "gradient" and step == 2 and rank == 1:
            model.module[2].bias.grad[0] += 1
        optimizer.step()
        optimizer.zero_grad()
        if sys.argv[2] == "parameter" and step == 2 and rank == 1:
            model.module[0].weight.data[0, 0] = 0.5
        run.step(model=model, optimizer=optimizer, loss=loss, batch=x)
        print(float(loss).hex(), flush=True)
dist.destroy_process_group()
"""


def ranks(folder: Path, *arguments: str, world_size: int = 2) -> list[subprocess.CompletedProcess[str]]:
    (folder / "ranks.py").write_text(RANKS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, folder / "ranks.py", *arguments],
            env=os.environ
            | {"RANK": str(rank), "WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            | {"GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(world_size)
    ]
    found = []
    for process in started:
        out, err = process.communicate(timeout=300)
        found.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    return found


def test_two_ranks_write_one_ledger(tmp_path: Path) -> None:
    done = ranks(tmp_path, str(tmp_path / "run"), "alike")
    assert [rank.returncode for rank in done] == [0, 0], done[0].stderr + done[1].stderr
    folder = RunFolder.open(tmp_path / "run")
    folder.check()
    assert folder.status == "complete"
    losses = [[float.fromhex(text) for text in rank.stdout.split()] for rank in done]
    lines = folder.lines()
    assert [line.step.loss for line in lines] == [(a + b) / 2 for a, b in zip(*losses, strict=True)]
    assert [line.step.examples for line in lines] == [4, 4, 4]
    assert folder.tensors()[0][0] == "parameter 0.weight float32 7x5"  # no trace of the wrapper
    assert folder.header["sessions"][0]["workers"] == 2
    assert folder.header["command"] is None
    notes = " ".join(folder.header["notes"])
    assert "one of several processes" in notes
    assert "buffer 1.running_mean float32 7 on rank 1 is not the one on rank 0" in notes

    refused = ranks(tmp_path, str(tmp_path / "run"), "alike")
    assert "nothing is overwritten" in refused[0].stderr
    assert "rank 0 could not make this folder" in refused[1].stderr
    assert RunFolder.open(tmp_path / "run").lines() == lines


@pytest.mark.long
def test_two_ranks_again_are_the_same_run(tmp_path: Path) -> None:
    chains = []
    for name in ("first", "again"):
        done = ranks(tmp_path, str(tmp_path / name), "alike")
        assert [rank.returncode for rank in done] == [0, 0], done[0].stderr + done[1].stderr
        chains.append(RunFolder.open(tmp_path / name).lines()[-1].chain)
    assert chains[0] == chains[1]


@pytest.mark.parametrize(
    ("fault", "name"), [("gradient", "gradient 2.bias float32 2"), ("parameter", "parameter 0.weight float32 7x5")]
)
@pytest.mark.long
def test_a_rank_that_differs_is_named_with_its_first_tensor(tmp_path: Path, fault: str, name: str) -> None:
    done = ranks(tmp_path, str(tmp_path / "run"), fault)
    for rank in done:
        assert rank.returncode == 1
        assert f"Diverged: step 2: {name} on rank 1 is not the one on rank 0" in rank.stderr
    found = summary(tmp_path / "run")
    assert (found["status"], found["steps"]) == ("stopped", 1)
    assert name in found["reason"]


def test_ranks_that_do_not_know_each_other_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    told = pytest.raises(ConfigError, match=r"Call init_process_group before glassrun\.record")
    with told, glassrun.record(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_compiled_step_and_model_are_recorded(tmp_path: Path) -> None:
    program = """
        import sys, torch, glassrun
        torch.set_num_threads(1)
        torch.manual_seed(1)
        model = torch.nn.Linear(2, 2)
        compiled = torch.compile(model, backend="eager")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        step = torch.compile(optimizer.step, backend="eager")
        with glassrun.record(sys.argv[1]) as run:
            for _ in range(2):
                loss = compiled(torch.ones(1, 2)).sum()
                loss.backward()
                step()
                optimizer.zero_grad()
                run.step(model=compiled, optimizer=optimizer, loss=loss)
        assert run.notes == [], run.notes
    """
    text = textwrap.dedent(program)
    plain = text.replace('torch.compile(optimizer.step, backend="eager")', "optimizer.step")
    assert plain != text
    for name, source in (("compiled", text), ("plain", plain)):
        done = python("-c", source, tmp_path / name)
        assert done.returncode == 0, done.stderr
    compiled, by_hand = (RunFolder.open(tmp_path / name).lines() for name in ("compiled", "plain"))
    assert [line.step for line in compiled] == [line.step for line in by_hand]
