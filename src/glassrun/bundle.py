"""Replay a bundle that somebody handed over: show what would run, and with trust run it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassrun.config import data_paths
from glassrun.digest import digest_bytes
from glassrun.errors import BundleError, RunFolderError
from glassrun.record import run_json
from glassrun.record.bundle import Bundle, open_bundle
from glassrun.record.code import lay_out, read_archive
from glassrun.record.files import writing
from glassrun.record.header import check
from glassrun.record.run_folder import RunFolder, what_occupies
from glassrun.run import Elsewhere, Replay, Run
from glassrun.train.launch import Hear, launch

_MOST_SHOWN = 10


@dataclass(frozen=True)
class Contents:
    """An unpacked bundle, everything in it checked."""

    bundle: Bundle
    folder: RunFolder
    code: dict[str, bytes]


def preview(path: Path) -> dict[str, Any]:
    """What a replay of a bundle would run, from the bundle's bytes alone: nothing in it is run.

    Raises:
        BundleError: it is damaged, or no bundle.
    """
    bundle = open_bundle(path)
    with tempfile.TemporaryDirectory(prefix="glassrun-") as place:
        contents = _contents(bundle, Path(place) / "run", whole=False)
        here = launch(
            {"do": "glassrun.train.survey", "numerics": contents.folder.recipe.plain()["numerics"], "import_path": []},
            contents.folder.recipe.numerics,
            1,
            lambda _: None,
        )["environment"]
        return _described(contents, here)


def replay(
    path: Path,
    *,
    unpack: Path | None = None,
    make_env: bool = False,
    index: str | None = None,
    data_path: str | None = None,
    workers: int | None = None,
    first: int | None = None,
    last: int | None = None,
    hear: Hear | None = None,
) -> Replay:
    """Run the code in a bundle, on the data in it, and compare every step. Only for bundles that are trusted.

    Arguments:
        path: the bundle.
        unpack: a folder to keep what is unpacked in; by default it is gone afterwards.
        make_env: build a virtual environment with the recorded versions first, and run in it.
        index: with `make_env`, an address where pip searches too.
        data_path: where the data lies; by default that in the bundle.
        workers, first, last, hear: as for `Run.replay`.

    Raises:
        BadInput: the bundle is damaged, or its data or versions are not here.
    """
    from glassrun.replay.virtual_environment import make

    bundle = open_bundle(path)
    with _place(unpack) as place:
        contents = _contents(bundle, place, whole=True)
        code = place / "code"
        with writing(code):
            lay_out(contents.code, code)
        python = None
        if make_env:
            environment = contents.folder.header["environment"]
            python = make(place / "environment", environment, index=index, say=_sayer(hear))
        return Run(place).replay(
            workers=workers,
            first=first,
            last=last,
            data_path=data_path,
            hear=hear,
            elsewhere=Elsewhere(code, python, _data(contents, place, data_path)),
        )


def as_text(values: dict[str, Any]) -> str:
    """A preview for people."""
    code, data, environment = values["code"], values["data"], values["environment"]
    rows = [
        ("bundle", f"{values['bundle']}, {values['bytes']:,} bytes, {values['unpacked_bytes']:,} unpacked"),
        ("packed by", f"glassrun {values['glassrun']}"),
        ("run", f"{values['name']}: {values['status']}, {values['steps']} steps, chain {values['chain']}"),
        ("recipe", f"task {values['task']}, model {values['model']}, seed {values['seed']}"),
        ("code", f"{code['files']} files, which a replay runs"),
        *(("", f"not glassrun's: {name}") for name in _some(code["own"])),
        *(("", f"not as installed here: {name}") for name in _some(code["changed"])),
        *(("", f"not in the bundle: {name} ({reason})") for name, reason in _some(list(code["left_out"].items()))),
        ("data", data["text"]),
        ("checkpoints", ", ".join(f"step {step}" for step in values["checkpoints"]) or "none: replays start at step 1"),
        ("environment", "as recorded" if not environment else "not as recorded:"),
        *(("", line) for line in _some(environment)),
    ]
    return "\n".join(_printable(f"{name:<11} {text}") for name, text in rows)


def _printable(text: str) -> str:
    """A stranger's text without the characters by which a terminal can be made to hide some of it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _some(lines: list[Any]) -> list[Any]:
    return lines if len(lines) <= _MOST_SHOWN else [*lines[:_MOST_SHOWN], *_rest(lines)]


def _rest(lines: list[Any]) -> list[Any]:
    more = f"… and {len(lines) - _MOST_SHOWN} more (--json lists all)"
    return [(more, "…")] if isinstance(lines[0], tuple) else [more]


def _described(contents: Contents, here: dict[str, Any]) -> dict[str, Any]:
    bundle, header, recipe = contents.bundle, contents.folder.header, contents.folder.recipe
    lines, plain = contents.folder.lines(), recipe.plain()
    installed = Path(__file__).parent
    ours = {name: data for name, data in contents.code.items() if name.startswith("glassrun/")}
    return {
        "bundle": str(bundle.path),
        "bytes": bundle.path.stat().st_size,
        "unpacked_bytes": bundle.unpacked_bytes,
        "glassrun": bundle.version,
        "name": recipe.name,
        "status": contents.folder.status,
        "steps": len(lines),
        "chain": lines[-1].chain if lines else None,
        "task": plain["task"],
        "model": plain["model"].get("kind") or plain["model"]["import"],
        "seed": recipe.seed,
        "code": {
            "files": len(contents.code),
            "own": sorted(contents.code.keys() - ours.keys()),
            "changed": sorted(name for name, data in ours.items() if not _is_installed(installed.parent / name, data)),
            "left_out": header["code"]["left_out"],
        },
        "data": _data_described(contents),
        "checkpoints": bundle.checkpoints,
        "environment": _environment_differences(header["environment"], here),
    }


def _is_installed(path: Path, data: bytes) -> bool:
    return path.is_file() and digest_bytes(path.read_bytes()) == digest_bytes(data)


def _data_described(contents: Contents) -> dict[str, Any]:
    bundle, recipe = contents.bundle, contents.folder.recipe
    size = sum(size for name, (size, _) in bundle.entries.items() if name.startswith("data/"))
    needed = data_paths(recipe.data)
    source = str(getattr(recipe.data, "source", ""))
    repository = getattr(recipe.data, "repository", None)
    if repository is not None:
        text = f"{source}, {repository}, fetched from there at {contents.folder.header['data']['versions'][repository]}"
    elif not needed:
        text = f"{source}, which comes with the installed packages"
    elif bundle.data:
        text = f"{source}, in the bundle, {size:,} bytes"
    else:
        text = f"{source}, not in the bundle: --data-path says where it lies"
    return {"source": source, "bundled": bool(bundle.data), "needed": sorted(needed), "bytes": size, "text": text}


def _environment_differences(recorded: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Numerics first, then Python and the packages."""
    from glassrun.record import environment

    lines = environment.differences(recorded["numerics"], here["numerics"])
    for name in ("python", "platform"):
        if recorded.get(name) != here[name]:
            lines.append(f"{name}: recorded {recorded.get(name)}, here {here[name]}")
    packages = here["packages"]
    return lines + [
        f"{name}: recorded {version}, here {packages.get(name, 'not installed')}"
        for name, version in sorted(recorded["packages"].items())
        if packages.get(name) != version
    ]


def _contents(bundle: Bundle, place: Path, *, whole: bool) -> Contents:
    """Unpack, and check all that can be checked against itself; errors name the bundle, not where it was unpacked."""
    try:
        bundle.unpack(place, whole=whole)
        check(run_json.read(place / "run.json"), f"{place}/run.json")
        folder = RunFolder.open(place)
        if not isinstance(folder.recipe.seed, int):
            raise RunFolderError(
                f"{place}/run.json: seed: expected the number that was drawn, found {folder.recipe.seed}"
            )
        if not folder.lines():
            raise RunFolderError(f"{folder.ledger_path}: it has no step")
        folder.check()
        return Contents(bundle, folder, read_archive(place / "code.zip", folder.header["code"]))
    except (BundleError, RunFolderError) as error:
        shutil.rmtree(place, ignore_errors=True)
        raise BundleError(str(error).replace(f"{place}/", f"{bundle.path}: ")) from None


def _data(contents: Contents, place: Path, data_path: str | None) -> dict[str, str]:
    """Where the bundled data lie now, by field of the data section."""
    found = {field: ",".join(str(place / part) for part in parts) for field, parts in contents.bundle.data.items()}
    if data_path is not None:
        found.pop("path", None)
    elif not found and data_paths(contents.folder.recipe.data):
        raise BundleError(f"{contents.bundle.path}: the data are not in it: --data-path says where they lie")
    if any(len(parts) > 1 for parts in contents.bundle.data.values()) and "," in str(place):
        raise BundleError(f"{place}: expected a folder without a comma, which separates the names of two data files")
    return found


@contextmanager
def _place(unpack: Path | None) -> Iterator[Path]:
    """A folder to unpack into: the user's, or one that is gone afterwards."""
    if unpack is None:
        with tempfile.TemporaryDirectory(prefix="glassrun-") as place:
            yield Path(place) / "run"
        return
    folder = unpack.absolute()
    if what_occupies(folder):
        raise BundleError(f"{unpack}: something stands there, and nothing is overwritten. Choose another --unpack")
    if folder.exists():
        with writing(folder):
            folder.rmdir()
    yield folder


def _sayer(hear: Hear | None) -> Callable[[str], None]:
    return lambda text: hear({"event": "note", "text": text}) if hear else None
