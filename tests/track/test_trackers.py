"""Runs that are tracked, in real processes: what trackers get, and that nothing they do changes a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from glassrun import config
from glassrun.errors import ConfigError
from glassrun.record.run_folder import RunFolder
from glassrun.track.reader import Reader, parameters, tags
from in_process import trained
from support import Command, Done, Made, bits_of, children, glassrun, kill, start, wait_for

needs_mlflow = pytest.mark.skipif(
    find_spec("mlflow") is None, reason="needs mlflow: pip install -c constraints.txt -e '.[mlflow]'"
)
needs_wandb = pytest.mark.skipif(
    find_spec("wandb") is None, reason="needs wandb: pip install -c constraints.txt -e '.[wandb]'"
)


@pytest.fixture(scope="module")
def finished(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that no tracker is told of."""
    return trained(made.recipe("odd-cnn"), tmp_path_factory.mktemp("untracked") / "run").path


@pytest.fixture(scope="module")
def untracked(finished: Path) -> dict[str, Any]:
    """The bits of it."""
    return bits_of(finished)


def train(made: Made, run: Path, track: dict[str, Any], *, report: bool = False, **variables: str) -> Done:
    recipe = made.file("odd-cnn", track=track)
    return glassrun("train", recipe, "--out", run, "--workers", 1, report=report, **variables)


# --- a tracker that fails, in every way ------------------------------------------------------------------------------


@pytest.fixture
def fake(tmp_path: Path) -> dict[str, str]:
    """The environment in which `mlflow` is the fake one."""
    package = tmp_path / "fake" / "mlflow"
    package.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("fake_mlflow.py"), package / "__init__.py")
    (package / "entities.py").write_text("def Metric(*_): ...\nParam = RunTag = Metric\n")
    path = os.pathsep.join([str(package.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, "FAKE_LOG": str(tmp_path / "log"), "FAKE_MLFLOW": ""}


def test_a_tracker_that_works_is_not_mentioned(
    made: Made, fake: dict[str, str], tmp_path: Path, untracked: Any
) -> None:
    done = train(made, tmp_path / "run", {"mlflow": {"uri": "x"}, "wait": 300}, report=True, **fake)
    assert done.code == 0, done.err
    assert "mlflow (" not in done.err
    assert bits_of(tmp_path / "run") == untracked
    calls = Path(fake["FAKE_LOG"]).read_text().split()
    assert calls.count("connect") == 1
    assert calls.count("log_artifact") == 8  # the report, which is written at the end, too
    assert calls[-1] == "set_terminated"


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("raise connect", "nothing was sent: ConnectionError: nobody is there"),
        ("raise log_artifact", "up to step 6 were sent, the rest was not: ConnectionError: nobody is there"),
        ("hang search_runs", "nothing was sent: 2 s were not enough"),
        ("exit log_batch", "nothing was sent: its process ended"),
    ],
)
@pytest.mark.long
def test_a_tracker_that_fails_moves_no_bit_and_stops_nothing(
    behaviour: str, said: str, made: Made, fake: dict[str, str], tmp_path: Path, untracked: Any
) -> None:
    wait = 2 if behaviour.startswith("hang") else 300
    run = tmp_path / "run"
    done = train(made, run, {"mlflow": {"uri": "x"}, "wait": wait}, **(fake | {"FAKE_MLFLOW": behaviour}))
    assert done.code == 0, done.err
    assert bits_of(run) == untracked
    assert said in done.err
    assert f"glassrun track {run}" in done.err
    assert "noise" not in done.err + done.out


@pytest.mark.long
def test_a_run_that_hangs_on_its_tracker_leaves_no_process(made: Made, fake: dict[str, str], tmp_path: Path) -> None:
    """Even if the launcher is killed: then the tracker has its time, and ends."""
    recipe = made.file("odd-cnn", track={"mlflow": {"uri": "x"}, "wait": 1}, **{"train.steps": 10_000})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (fake | {"FAKE_MLFLOW": "hang search_runs"}).items():
            patch.setenv(name, value)
        process = start("train", recipe, "--out", tmp_path / "run", "--workers", 1)
    log = Path(fake["FAKE_LOG"])
    wait_for(lambda: log.exists() and "search_runs" in log.read_text(), "the tracker to hang")
    both = children(process.pid)
    assert len(both) == 2
    ledger = tmp_path / "run" / "ledger.jsonl"
    size = ledger.stat().st_size
    wait_for(lambda: ledger.stat().st_size > size, "the run to go on")
    kill(process.pid)
    process.communicate()
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in both), "both to end")


def test_track_says_what_it_could_not_send(fake: dict[str, str], finished: Path) -> None:
    run = finished
    done = glassrun("track", run, "--mlflow", "x", **(fake | {"FAKE_MLFLOW": "raise log_batch"}))
    assert done.code == 1
    assert done.err.startswith("mlflow (x): nothing was sent: ConnectionError: nobody is there.")
    done = glassrun("track", run, "--mlflow", "x", **fake)
    assert (done.code, done.err) == (0, "")


def test_track_of_nothing_is_bad_input(finished: Path, command: Command, tmp_path: Path) -> None:
    for arguments, said in (([finished], "--mlflow"), ([tmp_path / "no"], "no such run folder")):
        done = command("track", *arguments)
        assert done.code == 2
        assert said in done.err
        assert "Traceback" not in done.err


def test_a_tracker_whose_package_is_missing_is_bad_input_before_training(made: Made, tmp_path: Path) -> None:
    """The package is hidden from a process that has it."""
    recipe = str(made.file("odd-cnn", track={"mlflow": {}}))
    script = (
        "import sys, importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'mlflow' else real(name, *rest)\n"
        f"sys.argv[1:] = ['train', {recipe!r}, '--out', 'run', '--no-report']\n"
        "from glassrun.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install 'glassrun[mlflow]'" in done.stderr
    assert not (tmp_path / "run").exists()


# --- the recipe ------------------------------------------------------------------------------------------------------


def test_where_a_run_is_tracked_is_free(made: Made) -> None:
    recipes = [
        config.load(made.recipe("odd-cnn"), overrides)
        for overrides in ({}, {"track.mlflow.uri": "http://a"}, {"track.wandb.mode": "online", "track.wait": 1})
    ]
    assert len({recipe.digest() for recipe in recipes}) == 1
    for recipe in recipes:
        assert config.load(recipe.plain(), {"track.wandb.project": "p"}).track.wandb


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("track.mlflow.uri", "http://me:secret@host/", "MLFLOW_TRACKING_PASSWORD"),
        ("track.mlflow.url", "http://host/", "did you mean 'uri'"),
        ("track.wandb.mode", "on", "track.wandb.mode"),
        ("track.wait", -1, "track.wait"),
        ("track.clearml", {}, "unknown key"),
    ],
)
def test_a_wrong_field_is_bad_input(key: str, value: Any, said: str, made: Made) -> None:
    with pytest.raises(ConfigError, match=said):
        config.load(made.recipe("odd-cnn"), {key: value})


# --- MLflow ----------------------------------------------------------------------------------------------------------


class Server:
    """An MLflow server on loopback that keeps runs in an SQLite file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        store = ["--backend-store-uri", f"sqlite:///{self.folder}/runs.db", "--artifacts-destination", str(self.folder)]
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *store, *place],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        )
        wait_for(self._answers, "the MLflow server", seconds=300)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _answers(self) -> bool:
        assert self._process.poll() is None, "the MLflow server ended"
        time.sleep(0.2)
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            return urllib.request.urlopen(f"{self.uri}/health", timeout=5).read() == b"OK"
        return False

    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    def runs(self, experiment: str) -> list[Any]:
        client = self.client()
        found = client.get_experiment_by_name(experiment)
        return list(client.search_runs([found.experiment_id])) if found else []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.start()
    yield made
    made.kill()


def agrees(server: Server, found: Any, run: Path) -> None:
    """Everything of the run folder is in MLflow, and nothing twice."""
    folder, client = RunFolder.open(run), server.client()
    assert found.data.params == {name: str(value) for name, value in parameters(folder).items()}
    assert tags(folder).items() <= found.data.tags.items()
    expected: dict[str, list[tuple[int, int, float]]] = {}
    for row in Reader(folder).rows():
        for name, value in row.values.items():
            expected.setdefault(name, []).append((row.step, row.time, value))
    for name, values in expected.items():
        history = client.get_metric_history(found.info.run_id, name)
        assert sorted((metric.step, metric.timestamp, metric.value) for metric in history) == values
    own = {path.name for path in run.iterdir() if path.is_file()} - {".lock"}
    assert {item.path for item in client.list_artifacts(found.info.run_id) if not item.is_dir} == own
    here = run.parent / "downloaded"
    here.mkdir(exist_ok=True)
    for name in ("ledger.jsonl", "code.zip"):
        loaded = Path(client.download_artifacts(found.info.run_id, name, str(here)))
        assert loaded.read_bytes() == (run / name).read_bytes()


@needs_mlflow
def test_mlflow_holds_the_run_and_sending_it_again_changes_nothing(
    made: Made, server: Server, tmp_path: Path, untracked: Any
) -> None:
    run = tmp_path / "run"
    done = train(made, run, {"mlflow": {"uri": server.uri, "checkpoint": True}, "wait": 300}, report=True)
    assert done.code == 0, done.err
    assert "mlflow (" not in done.err
    assert bits_of(run) == untracked
    (found,) = server.runs("odd-cnn")
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "run"
    agrees(server, found, run)
    paths = [item.path for item in server.client().list_artifacts(found.info.run_id, "checkpoints/step-000006")]
    assert "checkpoints/step-000006/model.safetensors" in paths
    assert glassrun("track", run).code == 0
    (again,) = server.runs("odd-cnn")
    agrees(server, again, run)


@needs_mlflow
def test_a_server_that_is_killed_halfway_gets_the_rest_later(made: Made, server: Server, tmp_path: Path) -> None:
    """The numbers that came before, the run goes on without it to the same bits, and `glassrun track` completes it."""
    steps = {"train.steps": 400, "train.eval_every": 100, "train.checkpoint_every": 100}
    trained(made.recipe("odd-cnn", **steps), tmp_path / "untracked")
    run = tmp_path / "run"
    track = {"mlflow": {"uri": server.uri, "experiment": "halfway"}, "wait": 300}
    process = start("train", made.file("odd-cnn", track=track, **steps), "--out", run, "--workers", 1)
    wait_for(lambda: (run / "ledger.jsonl").exists() and (run / "ledger.jsonl").stat().st_size > 0, "the first step")
    # The run is held, so that the server is killed while there is something left to train.
    worker = next(child for child in children(process.pid) if "glassrun.train.worker" in _command(child))
    os.kill(worker, signal.SIGSTOP)
    wait_for(lambda: server.runs("halfway") and "train/loss" in server.runs("halfway")[0].data.metrics, "some numbers")
    server.kill()
    os.kill(worker, signal.SIGCONT)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert b"the rest was not: " in err
    assert f"Send it with: glassrun track {run}".encode() in err
    assert bits_of(run) == bits_of(tmp_path / "untracked")
    server.start()
    done = glassrun("track", run)
    assert (done.code, done.err) == (0, "")
    (found,) = server.runs("halfway")
    assert found.info.status == "FINISHED"
    agrees(server, found, run)


def _command(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")


@needs_mlflow
def test_a_server_that_takes_requests_and_never_answers(made: Made, tmp_path: Path, untracked: Any) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = train(made, tmp_path / "run", {"mlflow": {"uri": uri}, "wait": 3})
    assert done.code == 0, done.err
    assert f"mlflow ({uri}): nothing was sent: " in done.err
    assert bits_of(tmp_path / "run") == untracked


@needs_mlflow
@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "nonsense://here"])
def test_an_address_where_nothing_is(uri: str, made: Made, tmp_path: Path, untracked: Any) -> None:
    done = train(made, tmp_path / "run", {"mlflow": {"uri": uri}, "wait": 60})
    assert done.code == 0, done.err
    assert f"mlflow ({uri}): nothing was sent: " in done.err
    assert bits_of(tmp_path / "run") == untracked


# --- Weights & Biases ------------------------------------------------------------------------------------------------

_BLOCK = 32768


def records(path: Path) -> Iterator[Any]:
    """The records of a `.wandb` file: a header of 7 bytes, then LevelDB's log format in blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, whole = 7, b""
    while at + 7 <= len(data):
        if _BLOCK - at % _BLOCK < 7:
            at += _BLOCK - at % _BLOCK
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


@needs_wandb
def test_wandb_offline_leaves_files_that_hold_the_run_and_asks_no_network(
    made: Made, tmp_path: Path, untracked: Any
) -> None:
    run = tmp_path / "run"
    with socket.socket() as outside:  # where all that wants to leave would have to go
        outside.bind(("127.0.0.1", 0))
        outside.listen(50)
        outside.setblocking(False)
        uri = f"http://127.0.0.1:{outside.getsockname()[1]}"
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "WANDB_BASE_URL"), uri)
        done = train(made, run, {"wandb": {"project": "glass"}, "wait": 300}, report=True, **proxies)
        with pytest.raises(BlockingIOError):
            outside.accept()
    assert done.code == 0, done.err
    assert "wandb (" not in done.err
    assert bits_of(run) == untracked
    folder = RunFolder.open(run)
    (path,) = (run / "wandb").glob(f"offline-run-*/run-{folder.header['id']}.wandb")
    found = list(records(path))
    (begun,) = (record.run for record in found if record.WhichOneof("record_type") == "run")
    assert (begun.project, begun.run_id, begun.display_name) == ("glass", folder.header["id"], "run")
    rows: dict[int, dict[str, float]] = {}
    for record in found:
        if record.WhichOneof("record_type") == "history":
            values = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
            }
            own = {name: value for name, value in values.items() if "/" in name}
            rows.setdefault(values["step"], {}).update(own)
    assert rows == {row.step: dict(row.values) for row in Reader(folder).rows()}
    kept = {item.name for item in (path.parent / "files").iterdir()}
    assert {"run.json", "config.yaml", "ledger.jsonl", "metrics.jsonl", "report.html", "code.zip"} <= kept
    assert (path.parent / "files" / "ledger.jsonl").read_bytes() == (run / "ledger.jsonl").read_bytes()
    told = {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for record in found
        for item in (*record.run.config.update, *record.config.update)
    }
    assert told["glassrun.chain"] == untracked["chain"]
    assert told["optimizer.lr"] == 3e-3
