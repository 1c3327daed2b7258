"""Help for tests that run real processes: small data, small recipes, the command line, kills."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassrun.keys import derive
from glassrun.show import summary

WORDS = [
    "glass",
    "run",
    "step",
    "shard",
    "tree",
    "bits",
    "ledger",
    "chain",
    "seed",
    "order",
    "kiln",
    "furnace",
    "bead",
    "pane",
]


@dataclass(frozen=True)
class Made:
    """A folder with a text and two parallel files, and recipes on them."""

    folder: Path

    def recipe(self, name: str, /, **overrides: Any) -> dict[str, Any]:
        """A small recipe by name; overrides replace whole fields, as {"train.steps": 3}."""
        recipe = json.loads(json.dumps(self._recipes()[name]))
        for key, value in overrides.items():
            section, _, field = key.partition(".")
            if field:
                recipe[section][field] = value
            else:
                recipe[section] = value
        return recipe

    def file(self, name: str, /, **overrides: Any) -> Path:
        """The same as a file."""
        recipe = self.recipe(name, **overrides)
        path = self.folder / f"{name}-{derive(0, json.dumps(recipe)):x}.json"
        path.write_text(json.dumps(recipe))
        return path

    def _recipes(self) -> dict[str, Any]:
        common = {
            "seed": 7,
            "batch": {"size": 12, "shards": 4},  # three examples a slice
            "optimizer": {"kind": "adamw", "lr": 3e-3, "clip_norm": 1.0},
            "schedule": {"kind": "warmup-cosine", "warmup_steps": 2},
            "train": {"steps": 6, "eval_every": 2, "checkpoint_every": 2},
        }
        return {
            "odd-cnn": {
                "name": "odd-cnn",
                "task": "classify",
                "data": {"source": "images", "path": f"{self.folder / 'images'},{self.folder / 'labels'}"},
                "model": {"kind": "cnn", "channels": [5, 13], "convolutions": 1, "hidden": 30, "dropout": 0.3},
                **common,
            },
            "odd-lm": {
                "name": "odd-lm",
                "task": "language-model",
                "data": {"source": "text", "path": str(self.folder / "text.txt"), "context": 13},
                "model": {"kind": "language-model", "num_layers": 2, "d_model": 30, "num_heads": 3, "dropout": 0.1},
                **common,
            },
            "odd-llama": {
                "name": "odd-llama",
                "task": "language-model",
                "data": {"source": "text", "path": str(self.folder / "text.txt"), "context": 13},
                "model": {
                    "kind": "llama",
                    "num_layers": 2,
                    "d_model": 30,
                    "num_heads": 3,
                    "num_key_value_heads": 1,
                    "d_ff": 37,
                    "dropout": 0.1,
                    "window": 7,
                    "qk_norm": True,
                    "rotary_scaling": {"kind": "llama3", "factor": 2.0, "original_length": 8},
                },
                **common,
            },
            "odd-encoder": {
                "name": "odd-encoder",
                "task": "masked-language-model",
                "data": {"source": "text", "path": str(self.folder / "text.txt"), "context": 13},
                "model": {"kind": "encoder", "num_layers": 2, "d_model": 30, "num_heads": 3, "dropout": 0.1},
                **common,
            },
            "odd-vit": {
                "name": "odd-vit",
                "task": "classify",
                "data": {"source": "images", "path": f"{self.folder / 'images'},{self.folder / 'labels'}"},
                "model": {
                    "kind": "vision-transformer",
                    "patch_size": 2,
                    "num_layers": 2,
                    "d_model": 30,
                    "num_heads": 3,
                    "dropout": 0.1,
                },
                **common,
            },
            "odd-pairs": {
                "name": "odd-pairs",
                "task": "translate",
                "data": {"source": "pairs", "path": f"{self.folder / 'source.txt'},{self.folder / 'target.txt'}"},
                "model": {"kind": "encoder-decoder", "d_model": 26, "num_heads": 2, "dropout": 0.1},
                **common,
            },
        }


def make_data(folder: Path) -> Made:
    """Write a text of 6,000 words, 300 pairs (a sentence and its words turned round) and 400 images as idx files."""

    def word(*place: int) -> str:
        return WORDS[derive(1, "word", *place) % len(WORDS)]

    folder.joinpath("text.txt").write_text(
        "\n".join(" ".join(word(line, i) for i in range(10)) for line in range(600)), encoding="utf-8"
    )
    rows = [[word(row, i, 0) for i in range(1 + derive(1, "length", row) % 5)] for row in range(300)]
    folder.joinpath("source.txt").write_text("\n".join(" ".join(row) for row in rows), encoding="utf-8")
    folder.joinpath("target.txt").write_text("\n".join(" ".join(row[::-1]) for row in rows), encoding="utf-8")
    labels = bytes(derive(1, "label", image) % 10 for image in range(400))
    # Each class is a bright row or column on a noisy ground.
    pixels = bytes(
        derive(1, "pixel", image, row, column) % 90 + 150 * ((row if label < 5 else column) == label % 5 + 1)
        for image, label in enumerate(labels)
        for row in range(8)
        for column in range(8)
    )
    folder.joinpath("images").write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 400, 8, 8) + pixels)
    folder.joinpath("labels").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 400) + labels)
    return Made(folder)


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Done]


def words(arguments: tuple[object, ...], *, report: bool = False) -> list[str]:
    """The words of a command; a report of what it trains, which takes its time, if asked for."""
    if arguments[:1] in (("train",), ("resume",)) and not report:
        arguments = (*arguments, "--no-report")
    return [str(argument) for argument in arguments]


def glassrun(*arguments: object, cwd: Path | None = None, report: bool = False, **variables: str) -> Done:
    """Run the command line in a process of its own; the fixture `command` runs it in this one."""
    process = subprocess.run(
        [sys.executable, "-m", "glassrun", *words(arguments, report=report)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        timeout=500,
    )
    return Done(process.returncode, process.stdout, process.stderr)


def bits_of(run: Path) -> dict[str, Any]:
    """Everything of a run that must not depend on how it was run."""
    shown = summary(run)
    return {
        "status": shown["status"],
        "steps": shown["steps"],
        "chain": shown["chain"],
        "parameters": shown["params_fingerprint"],
        "metrics": (run / "metrics.jsonl").read_bytes(),
        "tensors": (run / "ledger.tensors").read_bytes(),
    }


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """Begin a command in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "glassrun", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def children(process: int) -> list[int]:
    """The processes that a process started, in the order of their numbers."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            if parent == process:
                found.append(int(entry.name))
    return sorted(found)


def wait_for(condition: Any, what: str, seconds: float = 120.0) -> None:
    """Wait until a condition holds; a failure says what was waited for."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.01)


def alive(process: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(process: int) -> None:
    """SIGKILL, also if it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
