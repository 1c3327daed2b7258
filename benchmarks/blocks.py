"""How fast our blocks are beside others that do the same: forward and backward, in one interleaved run.

    python benchmarks/blocks.py [--rounds 30] [--only TEXT] [--out benchmarks/results/DATE-blocks.json]

In every round each contender of a contest takes its turn, in an order that moves on by one; compared are the times of
the same round, so that what else the machine does meets all alike. On one thread, as a worker computes. Time is the
processor's, which other programs disturb less than the clock.

A ratio is ours to the fastest of the others: below 1 ours is faster. Given are the median over the rounds and the
quartiles. Peers that are not installed are left out, and named.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from contests import OURS, X_INSTALLED, Contender, Contest, X, contests
from torch import nn

LEAST_SECONDS = 0.01  # a turn is repeated until it takes so long: shorter ones drown in what the clock cannot tell


def main() -> None:
    """Print a line for each contest, and write all down."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--only", default="", help="contests whose name holds this")
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    torch.set_num_threads(1)
    if not X_INSTALLED:
        print(f"not installed, left out: {X} (pip install x-transformers)")
    found = {}
    for contest in contests():
        if given.only in contest.name:
            found[contest.name] = result = measure(contest, given.rounds)
            print(line(contest.name, result), flush=True)
    if given.out:
        written = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": " ".join(["python", "benchmarks/blocks.py", *sys.argv[1:]]),
            "machine": machine(),
            "blocks": found,
        }
        given.out.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def measure(contest: Contest, rounds: int) -> dict[str, Any]:
    """Milliseconds of each contender (the median), and our ratio to the fastest of the others."""
    contenders = contest.contenders()
    same_work(contest.name, contenders)
    turns = {name: turn(contender) for name, contender in contenders.items()}
    for take in turns.values():
        take(3)
    repeats = max(1, round(LEAST_SECONDS / min(take(3) for take in turns.values())))
    names, times = list(turns), {name: list[float]() for name in turns}
    for number in range(rounds):
        for place in range(len(names)):
            name = names[(number + place) % len(names)]
            times[name].append(turns[name](repeats))
    medians = {name: statistics.median(values) for name, values in times.items()}
    fastest = min((name for name in names if name != OURS), key=medians.__getitem__)
    ratios = [ours / theirs for ours, theirs in zip(times[OURS], times[fastest], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "milliseconds": {name: round(1000 * value, 4) for name, value in medians.items()},
        "fastest_peer": fastest,
        "ratio": round(statistics.median(ratios), 3),
        "quartiles": [round(quartiles[0], 3), round(quartiles[2], 3)],
    }


def turn(contender: Contender) -> Callable[[int], float]:
    """A function that calls the contender forward and backward so many times: seconds of one."""
    output = contender.call(*contender.inputs)
    gradient = torch.ones_like(output) if output.requires_grad else None
    trained = list(contender.inputs) + parameters(contender)

    def take(repeats: int) -> float:
        started = time.process_time()
        for _ in range(repeats):
            found = contender.call(*contender.inputs)
            if gradient is not None:
                found.backward(gradient)
        seconds = (time.process_time() - started) / repeats
        for tensor in trained:
            tensor.grad = None
        return seconds

    return take


def same_work(name: str, contenders: dict[str, Contender]) -> None:
    """A peer with other parameters would do other work; biases, which some leave out, hardly count."""
    counts = {who: sum(p.numel() for p in parameters(contender)) for who, contender in contenders.items()}
    counts = {who: count for who, count in counts.items() if count}
    if counts and max(counts.values()) > 1.02 * min(counts.values()):
        sys.exit(f"{name}: the contenders differ in their parameters: {counts}")


def parameters(contender: Contender) -> list[nn.Parameter]:
    """Those of a module, or of the modules that a function calls."""
    call: Any = contender.call
    inside = [cell.cell_contents for cell in getattr(call, "__closure__", None) or ()]
    modules = [call] if isinstance(call, nn.Module) else [part for part in inside if isinstance(part, nn.Module)]
    return [parameter for module in modules for parameter in module.parameters()]


def line(name: str, result: dict[str, Any]) -> str:
    """One contest as text."""
    times = ", ".join(f"{who} {value:.3g}" for who, value in result["milliseconds"].items())
    low, high = result["quartiles"]
    return f"{name}: {result['ratio']:.2f} ({low:.2f} to {high:.2f}) of {result['fastest_peer']}; ms: {times}"


if __name__ == "__main__":
    main()
