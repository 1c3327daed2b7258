"""What all tests share. The variables that decide bits are set before torch is imported, as a worker has them."""

from __future__ import annotations

import os
import signal
import sys

os.environ.update({"MKL_CBWR": "AUTO", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from glassrun.cli import main
from in_browser import launched
from support import Command, Done, Made, make_data, words
from warm_workers import Server, warm

torch.set_num_threads(1)
# A shell's background job ignores Ctrl-C, and so would the processes that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# The same examples at every run, and however slow the machine is: what fails, fails again.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


@pytest.fixture(autouse=True)
def _numerics_as_before() -> Iterator[None]:
    """A test that prepares a run in this process sets it to the run's numerics."""
    mode, fill = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.set_deterministic_debug_mode(mode)
    torch.utils.deterministic.fill_uninitialized_memory = fill


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Small data that the tests make themselves, and recipes on them with odd widths and three examples a slice."""
    return make_data(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="session")
def worker_server() -> Iterator[Server]:
    """What warm workers come from: for fixtures of a module, which say `with warm(worker_server)`."""
    found = Server()
    yield found
    found.end()


@pytest.fixture
def warm_workers(worker_server: Server) -> Iterator[None]:
    """What a test trains, replays or compares in here has workers that need not import torch (see warm_workers.py)."""
    with warm(worker_server):
        yield


@pytest.fixture
def command(warm_workers: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:  # noqa: ARG001
    """The command line's own function in this process, with warm workers; `support.glassrun` is the cold command."""

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["glassrun", *words(arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code or 0
        assert isinstance(code, int)
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets that lies beside a developer's checkout."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data (real data sets), which is not here")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for the tests of a file; not for longer, for its event loop runs as long as it is open."""
    with launched() as found:
        yield found
