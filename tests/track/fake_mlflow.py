"""Stands in for the package mlflow, with a client that does what the environment says: for failures of every kind."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class MlflowClient:
    def __init__(self, tracking_uri: str | None) -> None:
        self.behave("connect")
        self.uri = tracking_uri

    def behave(self, what: str) -> None:
        with Path(os.environ["FAKE_LOG"]).open("a") as file:
            file.write(f"{what}\n")
        kind, _, where = os.environ["FAKE_MLFLOW"].partition(" ")
        if what == where:
            print("noise on standard output", flush=True)
            {"hang": lambda: time.sleep(10**6), "exit": lambda: os._exit(3), "raise": self.refuse}[kind]()

    @staticmethod
    def refuse() -> None:
        raise ConnectionError("nobody is there")

    def __getattr__(self, name: str) -> Any:
        self.behave(name)
        found = SimpleNamespace(experiment_id="1", info=SimpleNamespace(run_id="1"))
        return lambda *_, **__: [found] if name == "search_runs" else found
