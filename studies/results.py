"""Write docs/results.md from the stored results of the studies and of the recipes.

python studies/results.py
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from glassrun.look.stored import Setting, Stored, results, select, settings, spread

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
RECIPES = ROOT / "studies" / "recipes.json"

_HEAD = """# Results

Every number here was measured by the command beside it, under the [numerical contract](contract.md): the same command
gives the same numbers on the same hardware and versions, but for times and for runs that draw their seed. This page is
written by `python studies/results.py` from the stored results. `make studies` runs all studies again,
`python studies/NAME.py --seeds 4,5,6` one of them with other seeds, and `--set section.key=value` on other data; each
prints its spread and its verdict.
"""

_ABOUT_RECIPES = """## Recipes

One run each, with the recipe's own seed. The column 95 % is the interval that the choice of test examples leaves open
(Wilson's of a share, a bootstrap of BLEU, blocks of text of bits per character); another seed moves the figure as well.
The minutes go from the start of the workers to the last evaluation. `fashion-cnn` was alone on its machine, and
`translate`, `fashion-vit` and `fashion-resnet` all but alone; the others were trained beside the studies, which made
them longer. The chain is the last value of the run's ledger and stands for its whole history. The references are what
this project set out to reach, unless they name their source. The data are not shipped: Fashion-MNIST is at
<https://github.com/zalandoresearch/fashion-mnist>, Multi30k at <https://github.com/multi30k/dataset>, tinyshakespeare
at <https://github.com/karpathy/char-rnn>.
"""

_ABOUT_STUDIES = """## Studies

Of every setting the mean over the seeds, and in brackets the least and the greatest. What decides a verdict is written
in the study's script. Most ask for the same sign with every seed, which is harder to meet with more of them; with
three, and where there is no effect at all, chance meets it in one case of eight. Where the rate is not what is varied,
it is the recipe's, or was chosen once for all settings of a study: at a rate of its own a setting may do better.
"""


def page() -> str:
    """The text of docs/results.md."""
    parts = [_HEAD, _ABOUT_RECIPES, *_recipes(), _ABOUT_STUDIES, *map(_study, results())]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _recipes() -> Iterator[str]:
    if not RECIPES.exists():
        return
    rows = json.loads(RECIPES.read_text(encoding="utf-8"))
    head = ["recipe", "what", "result", "95 %", "reference", "minutes", "hardware", "chain"]
    yield _table(head, [_recipe_row(row) for row in rows])
    for row in rows:
        commands = "\n".join(f"$ {line}" for line in row["commands"])
        yield f"`{row['recipe']}`, {row['date']}:\n\n```console\n{commands}\n```\n"


def _recipe_row(row: Mapping[str, Any]) -> list[str]:
    return [
        f"`{row['recipe']}`",
        row["what"],
        row["result"],
        row["interval"],
        row["reference"],
        f"{row['minutes']:.1f}",
        row["hardware"],
        f"`{row['chain'][:16]}`",
    ]


def _study(result: Stored) -> str:
    verdict = "Supported" if result.verdict.supported else "**Not supported**"
    machine = f"{result.machine['cores']} cores of {result.machine['cpu']}, torch {result.machine['torch']}"
    lines = [
        f"### {result.claim.name}",
        "",
        f"{result.claim.text} ({result.claim.source}.)",
        "",
        f"{verdict}: {result.verdict.text}.",
        "",
        f"{result.trained}. `{result.command}`, seeds {', '.join(map(str, result.seeds))}, {result.seconds / 60:.1f} "
        f"minutes of training on {machine}, {result.date}; shown in `glassrun exhibit {result.claim.exhibit}`."
        + _chain(result),
        "",
    ]
    return "\n".join([*lines, *_tables(result)])


def _chain(result: Stored) -> str:
    """That of most runs: of a run that drew its seed nobody can make the chain again."""
    chains = Counter(found.chain for found in result.measurements if found.chain)
    if not chains:
        return ""
    return f" A chain is `{chains.most_common(1)[0][0][:16]}`; all are in the result's file."


def _tables(result: Stored) -> Iterator[str]:
    """A table for each set of factors, since some values are of parts of a setting."""
    found = list(settings(result.measurements))
    for factors in dict.fromkeys(tuple(setting) for setting in found):
        own = [setting for setting in found if tuple(setting) == factors]
        names = list(dict.fromkeys(name for m in result.measurements if m.setting in own for name in m.values))
        yield _table([*factors, *names], [_row(result, setting, names) for setting in own])


def _row(result: Stored, setting: Setting, names: list[str]) -> list[str]:
    own = [found for found in result.measurements if found.setting == setting]
    return [*(_level(level) for level in setting.values()), *(_cell(select(own, name, {})) for name in names)]


def _level(level: str | float) -> str:
    return level if isinstance(level, str) else f"{level:g}"


def _cell(values: list[float | None]) -> str:
    over = spread(values)
    lost = sum(value is None for value in values)
    text = "" if over is None else _number(over.mean)
    if over is not None and over.least != over.greatest:
        text += f" ({_number(over.least)} to {_number(over.greatest)})"
    return text + (f"{', ' if text else ''}{lost} without" if lost else "")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() and abs(value) >= 1000 else f"{value:.4g}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE}")
