"""Data locks: a file that says, key by key, which data a recipe is for, to be kept beside the recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from glassrun.config import Recipe
from glassrun.data import keys, manifest
from glassrun.data.keys import Finding, Keys
from glassrun.data.registry import load
from glassrun.data.source import Dataset, Split
from glassrun.data.text import EvaluationWindows, TrainingWindows
from glassrun.digest import digest_value
from glassrun.errors import ConfigError, DataError

FORMAT = 1
_MADE = ("dates", "sentences")  # sources whose examples are made from the seed


@dataclass(frozen=True)
class Lock:
    """What data were when they were locked.

    Arguments:
        recipe: its name.
        seed: that dates or sentences were made from.
        data: the recipe's section without what is free, such as paths.
        manifest: see `data.manifest`.
        keys: of every split.
    """

    recipe: str
    seed: int
    data: Mapping[str, Any]
    manifest: Mapping[str, Any]
    keys: Keys

    @property
    def source(self) -> str:
        return str(self.data["source"])

    def encode(self) -> bytes:
        """The file: JSON, one key a line, so that a version control system shows what changed."""
        values = {"format": FORMAT} | vars(self) | {"keys": {n: [k.hex() for k in own] for n, own in self.keys.items()}}
        return (json.dumps(values | {"checksum": digest_value(values)}, indent=1, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True)
class Check:
    """How data compare with a lock: `findings` by example, and `others`, one line for each difference beside them."""

    findings: tuple[Finding, ...]
    others: tuple[str, ...]
    lines: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether the data are the locked ones."""
        return not self.findings and not self.others


def lock(recipe: Recipe) -> Lock:
    """Lock the data that a recipe names, as they are now.

    Raises:
        BadInput: they cannot be read, or depend on a seed that the recipe leaves open.
    """
    seed = _seed(recipe)
    dataset = load(recipe.data, seed)
    return Lock(recipe.name, seed, recipe.data.contract(), dataset.manifest, keys.keys_of(dataset.splits))


def check(recipe: Recipe, locked: Lock) -> Check:
    """Compare the data that a recipe names, as they are now, with a lock.

    Raises:
        BadInput: they cannot be read, or the lock is of another source.
    """
    return compare(locked, recipe, load(recipe.data, _seed(recipe)))


def compare(locked: Lock, recipe: Recipe, dataset: Dataset) -> Check:
    """Compare a recipe's data, which are loaded already, with a lock.

    Raises:
        ConfigError: the lock is of another source.
    """
    section = recipe.data.contract()
    if section["source"] != locked.source:
        raise ConfigError(
            f"data: the recipe reads the source {section['source']}, but the lock (of the recipe {locked.recipe}) is "
            f"of the source {locked.source}: choose the lock of this recipe, or write one: glassrun data lock"
        )
    found = keys.keys_of(dataset.splits)
    findings = tuple(keys.compare(locked.keys, found))
    others = [f"data.{line}" for line in manifest.differences(locked.data, section)]
    if locked.source in _MADE and locked.seed != _seed(recipe):
        others.append(f"seed: recorded {locked.seed}, here {_seed(recipe)}")
    if manifest.manifest_digest(locked.manifest) != manifest.manifest_digest(dataset.manifest):
        others += _beside_the_splits(locked.manifest, dataset.manifest)
    lines = [*keys.describe(findings, locked.source), *_first_in_texts(locked.keys, found, dataset.splits), *others]
    return Check(findings, tuple(others), tuple(lines))


def refuse_others(recipe: Recipe, dataset: Dataset) -> None:
    """See that a recipe's data are those of its `data.lock`, if it has one.

    Raises:
        DataError: they are not; the message names what differs.
    """
    if recipe.data.lock is None:
        return
    found = compare(read(Path(recipe.data.lock)), recipe, dataset)
    if not found:
        raise DataError(
            f"{recipe.data.lock}: the data are not the locked ones: {'; '.join(found.lines[:5])}. Put the locked data "
            "in place, or lock these: glassrun data lock"
        )


def default_path(recipe: Recipe) -> Path:
    """Where a recipe's lock lies: what `data.lock` says, else NAME.data.json in the working folder."""
    return Path(recipe.data.lock or f"{recipe.name}.data.json")


def read(path: Path) -> Lock:
    """A lock file, by whomever it was written.

    Raises:
        DataError: it is missing, damaged, changed, or no lock.
    """
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such lock file. Write one with glassrun data lock RECIPE --out {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as a data lock: {error}. Restore it from a copy") from None
    # To Python, true is 1: in a file that somebody else wrote it is another value.
    if not isinstance(values, dict) or values.get("format") is True or values.get("format") != FORMAT:
        found = f"format {values.get('format')!r}" if isinstance(values, dict) else f"a {type(values).__name__}"
        raise DataError(f"{path}: expected a data lock of format {FORMAT}, found {found}")
    try:
        if values.pop("checksum", None) != digest_value(values):
            raise DataError(
                f"{path}: its checksum does not match its content: it was changed by hand or is damaged. Restore it "
                "from a copy, or write it again with glassrun data lock"
            )
        return _checked(values)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: not a data lock: {type(error).__name__}: {error}. Write one with glassrun data lock"
        ) from None


def _checked(values: dict[str, Any]) -> Lock:
    """The values of a lock file, each of its type."""
    decoded = {name: [bytes.fromhex(key) for key in own] for name, own in values["keys"].items()}
    if any(len(key) != keys.KEY_BYTES for own in decoded.values() for key in own):
        raise ValueError(f"expected keys of {keys.KEY_BYTES} bytes")
    found = Lock(values["recipe"], values["seed"], values["data"], values["manifest"], decoded)
    kinds = {"recipe": str, "seed": int, "data": dict, "manifest": dict}
    odd = next((name for name, kind in kinds.items() if type(values[name]) is not kind), None)
    if odd is not None or not isinstance(found.data.get("source"), str):
        raise ValueError(f"{odd or 'data.source'} is of another type than expected")
    return found


def _seed(recipe: Recipe) -> int:
    """The recipe's seed; where it is random, only data that do not depend on it can be locked."""
    if recipe.seed == "random":
        source: str = recipe.data.source  # type: ignore[attr-defined]
        if source in _MADE:
            raise ConfigError(f"seed: random would make other {source} each time: expected a number, as --set seed=1")
        return 0
    return recipe.seed


def _beside_the_splits(locked: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What the manifests say differently, other than the examples and where the bytes came from."""
    left = {"splits", "files", "versions"}
    return manifest.differences(
        {name: value for name, value in locked.items() if name not in left},
        {name: value for name, value in here.items() if name not in left},
    )


def _first_in_texts(recorded: Keys, found: Keys, splits: Mapping[str, Split]) -> list[str]:
    """For each text that differs, where it begins to."""
    lines = []
    for name, split in splits.items():
        pairs = zip_longest(recorded.get(name, ()), found[name])
        first = next((index for index, (a, b) in enumerate(pairs) if a != b), None)
        if first is None or not isinstance(split, (TrainingWindows, EvaluationWindows)):
            continue
        lines.append(f"{name}: the first difference is in line {first + 1}, {split.line(first)}")
    return lines
