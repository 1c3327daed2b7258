"""Train a recipe on real data, measure what the field measures, and store the figure for docs/results.md.

    python studies/recipes.py fashion-cnn --data fashion-mnist
    python studies/recipes.py translate --data multi30k-en-de

`--data` is the folder that holds the files under their usual names; `--run DIR` is where the run lies, or goes: one
that is complete is measured as it is, one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import glassrun
from glassrun import predict
from glassrun.data.text import read_text
from glassrun.errors import GlassrunError
from glassrun.run import Run

STORED = Path(__file__).parent / "recipes.json"
BEAMS = 4


@dataclass(frozen=True)
class Target:
    """What a recipe is held against.

    Arguments:
        what: the measure, with its data.
        reference: the figure to reach, and where it comes from.
        data: of a folder, the recipe's data fields.
        measure: of a finished run and the folder, the figure as it is written.
        more: commands that give the figure, beside the training.
    """

    what: str
    reference: str
    data: Callable[[Path], Mapping[str, str]]
    measure: Callable[[Run, Path], str]
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A figure that was measured; what `minutes` are, `_minutes` says."""

    recipe: str
    what: str
    result: str
    reference: str
    minutes: float
    hardware: str
    chain: str
    date: str
    commands: list[str]


def accuracy(run: Run, folder: Path) -> str:  # noqa: ARG001 - every measure is called alike
    """Of the official test images."""
    last = [line for line in run.metrics if line["split"] == "test"][-1]
    return f"{int(last['accuracy'] * 1e4) / 100:.2f} % of {last['examples']} test images"


def bits_per_character(run: Run, folder: Path) -> str:  # noqa: ARG001
    """On the last tenth of the text; rounded up."""
    last = [line for line in run.metrics if line["split"] == "validation"][-1]
    return f"{-int(-last['bits_per_character'] * 1e4 // 1) / 1e4:.4f} bits per character on the last tenth"


def bleu(run: Run, folder: Path) -> str:
    """Of the test sentences of 2016, with beam search."""
    sides = [read_text(folder / f"test_2016_flickr.{side}.gz").removesuffix("\n").split("\n") for side in ("en", "de")]
    scored = predict.score(run, *sides, {"beams": BEAMS})
    return str(scored.bleu)


def fashion(reference: str) -> Target:
    return Target("accuracy on Fashion-MNIST", reference, lambda folder: {"data.path": str(folder)}, accuracy)


def shakespeare(reference: str) -> Target:
    return Target(
        "tinyshakespeare", reference, lambda folder: {"data.path": str(folder / "input.txt")}, bits_per_character
    )


def pairs(folder: Path) -> dict[str, str]:
    names = {"data.path": "train", "data.validation": "val", "data.test": "test_2016_flickr"}
    return {key: ",".join(str(folder / f"{name}.{side}.gz") for side in ("en", "de")) for key, name in names.items()}


TARGETS = {
    "fashion-cnn": fashion("93.5 % in 20 minutes"),
    "fashion-vit": fashion("91 %"),
    "fashion-resnet": fashion("94 %"),
    "translate": Target(
        "Multi30k, English to German, test 2016, lower-cased",
        "35 BLEU in 60 minutes; 31.7 by a plain `nn.Transformer` of 2.1 M parameters, greedy, in 30 minutes",
        pairs,
        bleu,
        (f"glassrun predict RUN --lines test_2016_flickr.en.gz --references test_2016_flickr.de.gz --beams {BEAMS}",),
    ),
    "shakespeare-bpe": shakespeare("`shakespeare-char`"),
    "shakespeare-char": shakespeare("nanoGPT's small CPU configuration: loss 1.88, 2.71 bits per character"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a recipe on real data and store what it reaches.")
    parser.add_argument("recipe", choices=TARGETS)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--run", type=Path, metavar="DIR")
    given = parser.parse_args()
    try:
        row = measured(given.recipe, given.data.absolute(), given.run)
    except GlassrunError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    rows = json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else []
    rows = [*(other for other in rows if other["recipe"] != row.recipe), asdict(row)]
    order = list(TARGETS)
    rows.sort(key=lambda other: order.index(other["recipe"]))
    STORED.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{row.recipe}: {row.result}, {row.minutes} minutes")


def measured(name: str, folder: Path, out: Path | None) -> Row:
    """Train as far as that is left to do, and measure."""
    target = TARGETS[name]
    values = target.data(folder)
    out = out or Path("runs") / name
    run = glassrun.resume(out, hear=_say) if out.exists() else glassrun.train(name, values, out=out, hear=_say)
    environment = run.folder.header["environment"]
    settings = "".join(f" --set {key}={value.replace(str(folder) + os.sep, '')}" for key, value in values.items())
    return Row(
        recipe=name,
        what=target.what,
        result=target.measure(run, folder),
        reference=target.reference,
        minutes=_minutes(run),
        hardware=f"{environment['cpus']} cores of {environment['numerics']['cpu']}",
        chain=run.ledger[-1].chain,
        date=str(run.folder.header["sessions"][-1]["started"])[:10],
        commands=[f"glassrun train {name}{settings.replace(str(folder), 'fashion-mnist')}", *target.more],
    )


def _minutes(run: Run) -> float:
    """From the start of the workers to the last evaluation; of a run that was interrupted, of its steps alone."""
    sessions = run.folder.header["sessions"]
    if len(sessions) > 1:
        return round(sum(line.seconds for line in run.ledger) / 60, 1)
    started = datetime.fromisoformat(sessions[0]["started"]).timestamp()
    return round((run.folder.metrics_path.stat().st_mtime - started) / 60, 1)


def _say(event: Mapping[str, Any]) -> None:
    if event["event"] == "evaluation":
        print(event, flush=True)


if __name__ == "__main__":
    main()
