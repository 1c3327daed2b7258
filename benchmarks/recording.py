"""What recording costs: whole runs with it and without it, in turn.

    python benchmarks/recording.py [--pairs 5] [--out benchmarks/results/DATE-recording.json] [--text FILE]

1. `shakespeare-char` by `glassrun train` on two workers, against the same arithmetic with no fingerprint and no folder.
   The text is FILE, or is made up.
2. A decoder of 4.8 M parameters at 16 × 256 tokens in a plain loop, with the recorder's three lines and without.
3. The fingerprints of 10 M fp32 parameters and of as many gradients, on one core.

Each pair of runs is made one after the other, the order of the two changing from pair to pair, because other load on
the machine comes and goes. What is compared is the time from the first step's beginning to the end; the start-up, in
which the folder is made, is told beside it.

Where other load leaves no clock to trust, processor time still tells. For the recipe, recorded and unrecorded steps are
made in turn in the same processes (`in_turn`); for the decoder, the recorder's part of each step is timed between two
hooks of the optimizer and around `run.step`, on one thread (`own_cpu`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from machine import machine

HERE = Path(__file__).parent
IN_TURN_STEPS, DECODER_STEPS = 200, 12


def main() -> None:
    """Run the three parts, print what came out, write it down."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pairs", type=int, default=5)
    options.add_argument("--steps", type=int, default=400, help="of shakespeare-char")
    options.add_argument("--text", type=Path)
    options.add_argument("--out", type=Path)
    # One part, in a process of its own.
    options.add_argument("--decoder", choices=["on", "off"], help=argparse.SUPPRESS)
    options.add_argument("--own", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.decoder:
        print(json.dumps(decoder(recorded=given.decoder == "on")))
        return
    if given.own:
        print(json.dumps(own_cpu_of_the_decoder()))
        return
    with tempfile.TemporaryDirectory() as scratch:
        text = given.text or made_up_text(Path(scratch) / "text.txt")
        found = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": " ".join(["python", "benchmarks/recording.py", *sys.argv[1:]]),
            "machine": machine(),
            "shakespeare-char": {
                "in_turn": {f"workers_{n}": in_turn(text, IN_TURN_STEPS, n) for n in (1, 2)},
                **pairs(given.pairs, lambda on: shakespeare(text, given.steps, Path(scratch), on)),
            },
            "decoder": {
                "own_cpu": process("--own"),
                **pairs(given.pairs, lambda on: process("--decoder", "on" if on else "off", threads=2)),
            },
            "fingerprints": fingerprints(),
        }
    print(json.dumps(found, indent=1))
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


def pairs(count: int, run: Callable[[bool], dict[str, float]]) -> dict[str, Any]:
    """Both ways, in turn; the cost is the median over the pairs of how much longer the recorded run took."""
    runs: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for number in range(count):
        for on in (number % 2 == 0, number % 2 == 1):
            runs[on].append(run(on))
    longer = [100 * (on["seconds"] / off["seconds"] - 1) for on, off in zip(runs[True], runs[False], strict=True)]
    steps = {on: statistics.median(found["step_ms"] for found in runs[on]) for on in runs}
    return {
        "longer_percent_median_of_pairs": round(statistics.median(longer), 2),
        "longer_percent_of_each_pair": [round(value, 2) for value in longer],
        "longer_percent_of_median_steps": round(100 * (steps[True] / steps[False] - 1), 2),
        "on": runs[True],
        "off": runs[False],
    }


def shakespeare(text: Path, steps: int, scratch: Path, on: bool) -> dict[str, float]:
    """One run of the recipe on two workers."""
    from glassrun import config
    from glassrun.train.launch import launch

    recipe = config.load("shakespeare-char", {"data.path": str(text), "train.steps": steps})
    job = {"do": "unrecorded", "import_path": [str(HERE)]}
    if on:
        out = scratch / f"run-{time.time_ns()}"
        job = {"do": "glassrun.train.writer", "begin": "new", "out": str(out), "import_path": []}
    began: list[float] = []

    def hear(event: dict[str, Any]) -> None:
        if event["event"] == "begin":
            began.append(time.perf_counter())

    started = time.perf_counter()
    launch(job | {"config": recipe.plain()}, recipe.numerics, 2, hear)
    seconds = time.perf_counter() - began[0]
    return {
        "start_up_seconds": round(began[0] - started, 2),
        "seconds": round(seconds, 3),
        "step_ms": round(1000 * seconds / steps, 3),
    }


def process(*arguments: object, threads: int = 1) -> dict[str, float]:
    """One part in a process of its own."""
    variables = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "MKL_CBWR": "AUTO"}
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | variables)
    return dict(json.loads(done.stdout))


class Decoder:
    """A language model of 4.8 M parameters, and a plain loop's step."""

    def __init__(self) -> None:
        import torch

        from glassrun.models.language_model import LanguageModel

        torch.manual_seed(1)
        self.model = LanguageModel(65, 256, num_layers=6, d_model=256, num_heads=4, d_ff=1024)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        assert 4.6e6 < parameters < 5e6, f"{parameters} parameters"

    def step(self) -> dict[str, Any]:
        """What `run.step` takes."""
        import torch

        tokens = torch.randint(65, (16, 257))
        logits = self.model(tokens[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"model": self.model, "optimizer": self.optimizer, "loss": loss, "batch": tokens}


def decoder(*, recorded: bool) -> dict[str, float]:
    """A plain loop; the first step is not counted, in which memory is taken and, recorded, the folder is completed."""
    import glassrun

    loop, times = Decoder(), []
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        run = stack.enter_context(glassrun.record(Path(scratch) / "run")) if recorded else None
        for _ in range(DECODER_STEPS + 1):
            started = time.perf_counter()
            done = loop.step()
            if run:
                run.step(**done)
            times.append(time.perf_counter() - started)
    return {"seconds": round(sum(times[1:]), 3), "step_ms": round(1000 * statistics.median(times[1:]), 2)}


def own_cpu_of_the_decoder() -> dict[str, float]:
    """The recorder's hook is between two hooks of ours, for hooks run in the order in which they were made."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    import glassrun

    loop, marks, own, rest = Decoder(), [], [], []

    def mark(*_: Any) -> None:
        marks.append(time.process_time())

    with tempfile.TemporaryDirectory() as scratch:
        before = register_optimizer_step_pre_hook(mark)
        with glassrun.record(Path(scratch) / "run") as run:
            after = register_optimizer_step_pre_hook(mark)
            for _ in range(DECODER_STEPS + 1):
                mark()
                done = loop.step()
                mark()
                run.step(**done)
                mark()
        before.remove()
        after.remove()
    for started, reads, updates, steps, ended in zip(*(marks[place::5] for place in range(5)), strict=True):
        own.append(updates - reads + ended - steps)
        rest.append(ended - started - own[-1])
    return shares(own[1:], rest[1:])


def in_turn(text: Path, steps: int, workers: int) -> dict[str, Any]:
    """Recorded and unrecorded steps of the recipe in turn, in the same processes."""
    from glassrun import config
    from glassrun.train.launch import launch

    recipe = config.load("shakespeare-char", {"data.path": str(text)})
    job = {"do": "in_turn", "import_path": [str(HERE)], "config": recipe.plain(), "steps": steps}
    done = launch(job, recipe.numerics, workers, lambda _: None)
    return {name: done[name] for name in ("processor", "clock")}


def shares(own: list[float], rest: list[float]) -> dict[str, float]:
    """Medians over the steps."""
    recording, step = statistics.median(own), statistics.median(rest)
    return {
        "recording_ms": round(1000 * recording, 2),
        "step_without_ms": round(1000 * step, 2),
        "percent": round(100 * recording / step, 2),
    }


def fingerprints() -> dict[str, float]:
    """Of 10 M fp32 parameters and as many gradients, in tensors of half a million, on one thread."""
    import torch

    from glassrun.record.fingerprint import Fingerprinter

    torch.set_num_threads(1)
    tensors = [torch.randn(500_000) for _ in range(40)]
    fingerprinter = Fingerprinter()
    times = []
    for _ in range(30):
        started = time.perf_counter()
        for tensor in tensors:
            fingerprinter(tensor)
        times.append(1000 * (time.perf_counter() - started))
    return {"ms_median": round(statistics.median(times), 2), "ms_least": round(min(times), 2)}


def made_up_text(path: Path) -> Path:
    """As long as tinyshakespeare, of 65 characters."""
    letters = "".join(map(chr, range(32, 96))) + "\n"
    path.write_text("".join(random.Random(1).choices(letters, k=1_115_394)), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
