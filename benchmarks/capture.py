"""What looking into a model costs: a pass with one layer's attention captured beside the plain pass.

    python benchmarks/capture.py [--rounds 30] [--out benchmarks/results/DATE-capture.json]

In every round each contender of a model takes its turn, in an order that moves on by one; compared are the times of the
same round, so that what else the machine does meets all alike. On one thread. Time is the processor's, which other
programs disturb less than the clock. Given are the median of the ratios over the rounds and the quartiles; the last
contender captures all layers, for comparison.
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
from machine import machine
from torch import Tensor, nn

from glassrun.capturing.capture import capture

MOST = 2.0  # times the plain pass, for one layer


def models() -> dict[str, tuple[nn.Module, Tensor, str]]:
    """A model, what it is called with, and the layer that is captured."""
    from glassrun.models.language_model import LanguageModel
    from glassrun.models.vision_transformer import VisionTransformer

    torch.manual_seed(1)
    words = LanguageModel(65, 256, num_layers=6, d_model=256, num_heads=4, d_ff=1024)
    images = VisionTransformer(3, 64, 64, 10, patch_size=8, num_layers=6, d_model=192, num_heads=3, d_ff=768)
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
    return {
        "language model, 256 tokens": (words.eval(), torch.randint(65, (1, 256)), "layers.3"),
        "language model, 8 × 64 tokens": (words.eval(), torch.randint(65, (8, 64)), "layers.3"),
        "vision transformer, 8 images": (images.eval(), torch.randn(8, 3, 64, 64), "layers.3"),
        "nn.TransformerEncoder, 256 tokens": (
            nn.TransformerEncoder(layer, 6).eval(),
            torch.randn(1, 256, 256),
            "layers.3",
        ),
    }


def main() -> None:
    """Print a line for each model, and write all down."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    torch.set_num_threads(1)
    found = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", "benchmarks/capture.py", *sys.argv[1:]]),
        "machine": machine(),
        "models": {},
    }
    for name, (model, inputs, layer) in models().items():
        result = found["models"][name] = measured(model, inputs, layer, given.rounds)
        low, high = result["quartiles"]
        print(f"{name}: {result['ratio']:.2f} ({low:.2f} to {high:.2f}), ms: {result['milliseconds']}", flush=True)
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")
    if any(result["ratio"] > MOST for result in found["models"].values()):
        sys.exit(f"more than {MOST} times the plain pass")


def measured(model: nn.Module, inputs: Tensor, layer: str, rounds: int) -> dict[str, Any]:
    """The contenders of one model in turn."""

    @torch.no_grad()
    def plain() -> Any:
        return model(inputs)

    contenders: dict[str, Callable[[], Any]] = {
        "plain": plain,
        "one layer": lambda: capture(model, inputs, attention=layer),
        "all layers": lambda: capture(model, inputs),
    }
    for call in contenders.values():
        call()
    names, times = list(contenders), {name: list[float]() for name in contenders}
    for number in range(rounds):
        for place in range(len(names)):
            name = names[(number + place) % len(names)]
            started = time.process_time()
            contenders[name]()
            times[name].append(time.process_time() - started)
    ratios = [one / without for one, without in zip(times["one layer"], times["plain"], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "milliseconds": {name: round(1000 * statistics.median(values), 2) for name, values in times.items()},
        "ratio": round(statistics.median(ratios), 3),
        "quartiles": [round(quartiles[0], 3), round(quartiles[2], 3)],
    }


if __name__ == "__main__":
    main()
