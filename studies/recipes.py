"""Train a recipe on real data, measure what the field measures, and store the figure for docs/results.md.

    python studies/recipes.py fashion-cnn --data fashion-mnist
    python studies/recipes.py translate --data multi30k-en-de

`--data` is the folder that holds the files under their usual names; `--run DIR` is where the run lies, or goes: one
that is complete is measured as it is, one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from sacrebleu.metrics.bleu import BLEU

import glassrun
from glassrun import predict
from glassrun.data.text import read_text
from glassrun.errors import GlassrunError
from glassrun.run import Run
from glassrun.tasks.language_model import LanguageModelling

STORED = Path(__file__).parent / "recipes.json"
BEAMS = 4
RESAMPLES = 1000  # of the test sentences
WINDOWS = 32  # of the held-out text in a block, so long that blocks are all but independent of one another
NORMAL = 1.959964  # 95 % of a normal distribution lie within so many standard deviations


@dataclass(frozen=True)
class Target:
    """What a recipe is held against.

    Arguments:
        what: the measure, with its data.
        reference: the figure to reach, and where it comes from.
        data: of a folder, the recipe's data fields.
        measure: of a finished run and the folder, the figure as it is written and what the choice of test examples
            leaves open of it: an interval that holds 95 % of what other examples of their kind would give.
        more: commands that give the figure, beside the training.
    """

    what: str
    reference: str
    data: Callable[[Path], Mapping[str, str]]
    measure: Callable[[Run, Path], tuple[str, str]]
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A figure that was measured; what `minutes` are, `_minutes` says."""

    recipe: str
    what: str
    result: str
    interval: str
    reference: str
    minutes: float
    hardware: str
    chain: str
    date: str
    commands: list[str]


def accuracy(run: Run, folder: Path) -> tuple[str, str]:  # noqa: ARG001 - every measure is called alike
    """Of the official test images; rounded down."""
    last = [line for line in run.metrics if line["split"] == "test"][-1]
    low, high = (100 * end for end in wilson(last["accuracy"], last["examples"]))
    result = f"{int(last['accuracy'] * 1e4) / 100:.2f} % of {last['examples']} test images"
    return result, f"{low:.2f} to {high:.2f}"


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of independent examples.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    squared = NORMAL**2 / count
    half = NORMAL * math.sqrt(share * (1 - share) / count + squared / (4 * count))
    return (share + squared / 2 - half) / (1 + squared), (share + squared / 2 + half) / (1 + squared)


def bits_per_character(run: Run, folder: Path) -> tuple[str, str]:  # noqa: ARG001
    """On the last tenth of the text; rounded up."""
    last = [line for line in run.metrics if line["split"] == "validation"][-1]
    bits = last["bits_per_character"]
    half = NORMAL * ratio_error(*blocks_of_text(run))
    result = f"{math.ceil(bits * 1e4) / 1e4:.4f} bits per character on the last tenth"
    return result, f"{bits - half:.4f} to {bits + half:.4f}"


def blocks_of_text(run: Run) -> tuple[list[float], list[float]]:
    """The bits and the characters of one block of the held-out text after another."""
    task, windows = LanguageModelling(run.dataset), run.dataset.splits["validation"]
    bits, characters = [], []
    with torch.no_grad():
        for start in range(0, len(windows), WINDOWS):
            block = range(start, min(start + WINDOWS, len(windows)))
            found = task.evaluate(run.model, task.collate([windows.example(index, 0) for index in block]))
            bits.append(found["loss"] / math.log(2))
            characters.append(found["characters"])
    return bits, characters


def ratio_error(above: Sequence[float], below: Sequence[float]) -> float:
    """The standard error of Σ above / Σ below over independent blocks.

    Source: Cochran 1977, "Sampling Techniques", section 2.11, for blocks out of many.
    """
    count, ratio = len(above), sum(above) / sum(below)
    off = sum((top - ratio * bottom) ** 2 for top, bottom in zip(above, below, strict=True))
    return math.sqrt(off * count / (count - 1)) / sum(below)


def bleu(run: Run, folder: Path) -> tuple[str, str]:
    """Of the test sentences of 2016, with beam search; the interval by sacrebleu's bootstrap over the sentences."""
    sources, references = (
        read_text(folder / f"test_2016_flickr.{side}.gz").removesuffix("\n").split("\n") for side in ("en", "de")
    )
    scored = predict.score(run, sources, references, {"beams": BEAMS})
    again = BLEU(lowercase=True).corpus_score(scored.translations, [references], n_bootstrap=RESAMPLES)
    mean, half = (float(number) for number in re.findall(r"μ = ([0-9.]+) ± ([0-9.]+)", str(again))[0])
    return str(scored.bleu), f"{mean - half:.1f} to {mean + half:.1f}"


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
    result, interval = target.measure(run, folder)
    settings = "".join(f" --set {key}={value.replace(str(folder) + os.sep, '')}" for key, value in values.items())
    return Row(
        recipe=name,
        what=target.what,
        result=result,
        interval=interval,
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
