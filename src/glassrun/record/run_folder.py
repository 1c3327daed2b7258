"""The run folder: what it holds, how it is made, opened, locked, and read defensively."""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from glassrun import config
from glassrun.config import Recipe
from glassrun.digest import canonical_json, digest_bytes, digest_value
from glassrun.errors import BadInput, ConfigError, RunFolderError
from glassrun.plain import parse_yaml
from glassrun.record import ledger
from glassrun.record.files import remove_folder, write_atomic, write_folder_atomic

FORMAT = 1
PREPARING, RUNNING, COMPLETE, STOPPED = "preparing", "running", "complete", "stopped"


class RunFolder:
    """One run's folder. `header` is the content of `run.json`; `update` rewrites it."""

    def __init__(self, path: Path, header: dict[str, Any], recipe: Recipe) -> None:
        self.path = path
        self.header = header
        self.recipe = recipe
        self._lock: int | None = None

    # --- making and opening

    @classmethod
    def create(cls, path: Path | None, recipe: Recipe, import_path: list[str]) -> RunFolder:
        """Make and lock a new run's folder: whole from the first moment, though nothing has run.

        Arguments:
            path: where; None chooses `runs/NAME-DATE-TIME`.
            recipe: its seed is a number.
            import_path: folders that hold the user's modules.

        Raises:
            RunFolderError: something else stands there, or it cannot be written.
        """
        chosen = _free_path(recipe.name) if path is None else path.absolute()
        occupied = what_occupies(chosen)
        if occupied:
            raise RunFolderError(occupied)
        header = {
            "format": FORMAT,
            "name": recipe.name,
            "status": PREPARING,
            "config": recipe.plain(),
            "config_digest": recipe.digest(),
            "import_path": import_path,
        }
        write_folder_atomic(
            chosen,
            {"run.json": _encode_header(header), "config.yaml": recipe.to_yaml().encode(), ".lock": b""},
        )
        folder = cls(chosen, header, recipe)
        folder.lock()
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open an existing run's folder for reading; `lock` it before writing.

        Raises:
            RunFolderError: there is none, or `run.json` or `config.yaml` was changed.
        """
        folder = Path(path).absolute()
        if not folder.is_dir():
            raise RunFolderError(f"{path}: no such run folder{_known_runs(folder)}")
        header = read_header(folder / "run.json")
        recipe = _recipe(folder, header)
        return cls(folder, header, recipe)

    def lock(self) -> None:
        """Become the only writer; the operating system releases the lock when this process ends, however it ends.

        Raises:
            RunFolderError: another process holds the lock.
        """
        try:
            descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot be written: {error.strerror}") from None
        for wait in (0.1, 0.2, 0.4, 0.8, 1.6, None):  # a worker that is just being killed needs a moment to be gone
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if wait is None:
                    os.close(descriptor)
                    raise RunFolderError(
                        f"{self.path}: another process is writing this run. Wait until it ends, or stop it"
                    ) from None
                time.sleep(wait)
            else:
                self._lock = descriptor
                return

    def locked_by_another(self) -> bool:
        """Whether some process is writing this run now."""
        with suppress(OSError):
            descriptor = os.open(self.path / ".lock", os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
            finally:
                os.close(descriptor)
        return False

    def discard(self) -> None:
        """Remove a folder whose run never began."""
        assert self.header["status"] == PREPARING, "only a run that did not begin may be removed"
        remove_folder(self.path)

    def update(self, **values: Any) -> None:
        """Change fields of `run.json`, atomically."""
        assert self._lock is not None, "only the holder of the lock writes"
        self.header = self.header | values
        write_atomic(self.path / "run.json", _encode_header(self.header))

    # --- what is in it

    @property
    def ledger_path(self) -> Path:
        return self.path / "ledger.jsonl"

    @property
    def tensors_path(self) -> Path:
        return self.path / "ledger.tensors"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def status(self) -> str:
        """preparing, running, interrupted, stopped or complete."""
        recorded = str(self.header["status"])
        if recorded in (PREPARING, RUNNING) and not self.locked_by_another() and self._lock is None:
            return "interrupted"
        return recorded

    @property
    def began(self) -> bool:
        """Whether the run got as far as its first step."""
        return "identity" in self.header

    def lines(self) -> list[ledger.Line]:
        """The ledger, every line checked.

        Raises:
            RunFolderError: it was changed, or lines are missing at the end.
        """
        if not self.began:
            return []
        lines = ledger.read(self.ledger_path, str(self.header["identity"]))
        expected = self.header.get("chain")
        if expected is not None and (not lines or lines[-1].chain != expected):
            raise RunFolderError(
                f"{self.ledger_path}: the run ended with chain {expected} after step {self.header['steps']}, but this "
                f"ledger ends after step {len(lines)}: lines are missing. Restore the file from a copy"
            )
        return lines

    def tensors(self) -> tuple[list[str], dict[int, list[int | None]]]:
        """What `ledger.tensors` names, and by step the fingerprint of each; every row is checked.

        Rows of steps that have no ledger line yet, after a kill, are left out.

        Raises:
            RunFolderError: the file was changed, or rows are missing.
        """
        steps = len(self.lines())
        if not steps:
            return [], {}  # a kill can leave it empty
        if not self.tensors_path.exists():
            raise RunFolderError(f"{self.tensors_path}: missing. Restore it from a copy")
        table, rows = ledger.TensorTable.read(self.tensors_path)
        found = {step: values for step, values in rows if step <= steps}
        every = self.recipe.record.every
        missing = [step for step in range(every, steps + 1, every) if step not in found]
        if missing or list(found) != sorted(found):
            at = f"the row of step {missing[0]} is missing" if missing else "its rows are out of order"
            raise RunFolderError(f"{self.tensors_path}: {at}. Restore the file from a copy")
        return table.names, found

    def check(self) -> None:
        """Read everything that can be checked against itself.

        Raises:
            RunFolderError: something was changed, or is missing.
        """
        self.metrics()
        self.tensors()

    def metrics(self) -> list[dict[str, Any]]:
        """The evaluations, every line checked."""
        if not self.began:
            return []
        return [values for _, values in self.metrics_lines()]

    def metrics_lines(self) -> list[tuple[bytes, dict[str, Any]]]:
        """The evaluations, as written and as values."""
        lines = ledger.complete_lines(self.metrics_path)
        found = [
            (line, ledger.without_checksum(line, f"{self.metrics_path}, line {number}"))
            for number, line in enumerate(lines, start=1)
        ]
        for number, (_, values) in enumerate(found, start=1):
            if type(values.get("step")) is not int or not isinstance(values.get("split"), str):
                raise RunFolderError(f"{self.metrics_path}, line {number}: not an evaluation: it has no step or split")
        expected = self.header.get("metrics_digest")
        if expected is not None and expected != digest_bytes(b"".join(lines)):
            raise RunFolderError(f"{self.metrics_path}: lines are missing. Restore the file from a copy")
        return found


def checkpoint_paths(folder: Path) -> list[Path]:
    """The checkpoints of a run folder, oldest first."""
    found = (folder / "checkpoints").glob("step-*")
    return sorted((p for p in found if re.fullmatch(r"step-\d{6,}", p.name)), key=lambda p: int(p.name[5:]))


def identity(recipe: Recipe, manifest_digest: str) -> str:
    """What a run is, before anything has run: the start of its chain.

    Code and versions are not in it: they are recorded beside, and runs that differ in them have the same chain as long
    as they have the same bits.
    """
    return digest_value({"config": recipe.contract(), "data": manifest_digest})


def what_occupies(path: Path) -> str:
    """Why a new run cannot be put at `path`; empty where it can."""
    if path.is_dir() and not any(path.iterdir()):
        return ""
    if (path / "run.json").exists():
        return f"{path}: this folder holds another run. Choose another with --out, or go on: glassrun resume {path}"
    if path.exists() or path.is_symlink():
        return f"{path}: something else stands there, and nothing is overwritten. Choose another folder with --out"
    return ""


def _free_path(name: str) -> Path:
    base = Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    candidates = [base, *(base.with_name(f"{base.name}-{n}") for n in range(2, 1000))]
    return next(path for path in candidates if not path.exists()).absolute()


def _encode_header(header: Mapping[str, Any]) -> bytes:
    checksum = digest_bytes(canonical_json(header).encode())
    return (json.dumps({**header, "checksum": checksum}, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_header(path: Path) -> dict[str, Any]:
    """What `run.json` says, its checksum and format checked.

    Raises:
        RunFolderError: it is missing, changed, or of another format.
    """
    try:
        header = json.loads(path.read_bytes())
        checksum = header.pop("checksum") if isinstance(header, dict) else None
        unchanged = checksum == digest_bytes(canonical_json(header).encode())
    except FileNotFoundError:
        raise RunFolderError(f"{path.parent}: this is no run folder: it has no run.json") from None
    except KeyError:
        raise RunFolderError(f"{path}: not the header of a run: it has no checksum") from None
    except (ValueError, OSError, RecursionError) as error:
        raise RunFolderError(f"{path}: cannot be read: {error}. Restore it from a copy") from None
    if not isinstance(header, dict):
        raise RunFolderError(f"{path}: not the header of a run: it has no checksum")
    if not unchanged:
        raise RunFolderError(f"{path}: its checksum does not match its content: it was changed. Restore it from a copy")
    if header.get("format") != FORMAT:
        raise RunFolderError(f"{path}: format {header.get('format')}; this glassrun reads format {FORMAT}")
    return header


def _recipe(folder: Path, header: Mapping[str, Any]) -> Recipe:
    try:
        recipe = config.validate(header["config"], str(folder / "run.json"))
    except ConfigError as error:
        raise RunFolderError(f"{error}. This run was recorded by another version of glassrun") from None
    written = folder / "config.yaml"
    try:
        values = parse_yaml(written.read_text(encoding="utf-8"), str(written))
        unchanged = config.validate(values, str(written)).plain() == recipe.plain()
    except FileNotFoundError:
        raise RunFolderError(f"{written}: missing. Restore it from a copy") from None
    except (BadInput, OSError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise RunFolderError(f"{written}: cannot be read: {error}. Restore it from a copy") from None
    if not unchanged:
        raise RunFolderError(
            f"{written}: it is not the recipe that this run began with (that is in run.json). A run keeps its recipe: "
            "undo the change here, or start a new run from the changed file with --out"
        )
    return recipe


def _known_runs(folder: Path) -> str:
    """The end of a message about a run that is not there."""
    for parent in (folder.parent, Path("runs")):
        found = sorted(p.parent for p in parent.glob("*/run.json")) if parent.is_dir() else []
        if found:
            return f". The newest run here: {max(found, key=lambda p: p.stat().st_mtime)}"
    return ". Train one first: glassrun train digits-cnn"
