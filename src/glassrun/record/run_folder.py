"""The run folder: what it holds, how it is made, opened, locked, and read defensively."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassrun.data import keys
from glassrun.digest import digest_bytes, digest_value
from glassrun.errors import BadInput, ConfigError, RunFolderError
from glassrun.record import checkpoint_files, ledger, run_json, words
from glassrun.record.checkpoint_files import Checkpoint
from glassrun.record.files import remove_folder, write_atomic, write_folder_atomic
from glassrun.record.lock import WriterLock
from glassrun.record.run_json import RECORDED, TRAINED

# Recipes, and the packages that read them, are imported where one is read: the recorder needs none of it.
if TYPE_CHECKING:
    from glassrun.config import Recipe

Tensors = tuple[list[str], dict[int, list[int | None]]]  # the names, and by step the fingerprint of each
PREPARING, RUNNING, COMPLETE, STOPPED = "preparing", "running", "complete", "stopped"


class RunFolder:
    """One run's folder. `header` is the content of `run.json`; `update` rewrites it.

    A run is trained from a recipe, or recorded from another program's loop, which has none.
    """

    def __init__(self, path: Path, header: dict[str, Any], recipe: Recipe | None) -> None:
        self.path = path
        self.header = header
        self._recipe = recipe
        self._lock = WriterLock(path)

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
        header = {
            "kind": TRAINED,
            "name": recipe.name,
            "status": PREPARING,
            "config": recipe.plain(),
            "config_digest": recipe.digest(),
            "id": secrets.token_hex(8),  # tells this execution from others of the same recipe; in nothing's digest
            "import_path": import_path,
        }
        chosen = _free_path(recipe.name) if path is None else path.absolute()
        if occupied := what_occupies(chosen):
            raise RunFolderError(occupied)
        return cls._make(chosen, header, {"config.yaml": recipe.to_yaml().encode()}, recipe)

    @classmethod
    def create_recorded(cls, path: Path, header: dict[str, Any], code: bytes) -> RunFolder:
        """Make and lock the folder of a run that another program's loop makes: begun from the first moment.

        Arguments:
            path: where.
            header: what `run.json` says of it, besides `format`, `kind` and `name`.
            code: the content of `code.zip`.

        Raises:
            RunFolderError: something else stands there, or it cannot be written.
        """
        chosen = path.absolute()
        if what_occupies(chosen):
            raise RunFolderError(
                f"{chosen}: something stands there already, and nothing is overwritten. Record into another folder"
            )
        files = {"code.zip": code, "ledger.jsonl": b"", "metrics.jsonl": b""}
        return cls._make(chosen, {"kind": RECORDED, "name": chosen.name} | header, files, None)

    @classmethod
    def _make(cls, path: Path, header: dict[str, Any], files: dict[str, bytes], recipe: Recipe | None) -> RunFolder:
        header = {"format": run_json.FORMAT} | header
        write_folder_atomic(path, {"run.json": run_json.encode(header), ".lock": b""} | files)
        folder = cls(path, header, recipe)
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
        header = run_json.read(folder / "run.json")
        recipe = _recipe(folder, header) if header["kind"] == TRAINED else None
        return cls(folder, header, recipe)

    def lock(self) -> None:
        """Become the only writer; the operating system releases the lock when this process ends, however it ends.

        Raises:
            RunFolderError: another process holds the lock.
        """
        self._lock.take()

    def unlock(self) -> None:
        """Stop being the writer."""
        self._lock.release()

    def locked_by_another(self) -> bool:
        """Whether some process is writing this run now."""
        return self._lock.held_by_another()

    def discard(self) -> None:
        """Remove a folder whose run never began."""
        assert self.header["status"] == PREPARING, "only a run that did not begin may be removed"
        remove_folder(self.path)

    def update(self, **values: Any) -> None:
        """Change fields of `run.json`, atomically."""
        assert self._lock.held, "only the holder of the lock writes"
        self.header = self.header | values
        write_atomic(self.path / "run.json", run_json.encode(self.header))

    # --- what is in it

    @property
    def recipe(self) -> Recipe:
        """What the run was trained from.

        Raises:
            RunFolderError: it was recorded from another program's loop.
        """
        if self._recipe is None:
            raise RunFolderError(
                f"{self.path}: this run was recorded from another program's loop, so there is no recipe and no "
                "checkpoint to train, resume, replay or predict from. `glassrun show` and `glassrun report` tell what "
                "is recorded, and `glassrun diff` compares it with another recorded run"
            )
        return self._recipe

    @property
    def every(self) -> int:
        """How many steps lie between two rows of `ledger.tensors`."""
        return int(self.header["every"]) if self._recipe is None else self._recipe.record.every

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
    def keys_path(self) -> Path:
        return self.path / "data.keys"

    @property
    def status(self) -> str:
        """preparing, running, interrupted, stopped or complete."""
        recorded = str(self.header["status"])
        if recorded in (PREPARING, RUNNING) and not self.locked_by_another() and not self._lock.held:
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

    def tensors(self) -> Tensors:
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
        missing = [step for step in range(self.every, steps + 1, self.every) if step not in found]
        if missing or list(found) != sorted(found):
            at = f"the row of step {missing[0]} is missing" if missing else "its rows are out of order"
            raise RunFolderError(f"{self.tensors_path}: {at}. Restore the file from a copy")
        return table.names, found

    def data_keys(self) -> dict[str, list[bytes]]:
        """The keys of the examples that the run began with, by split; of a text, those of its lines.

        Raises:
            RunFolderError: the file was changed, or is missing.
        """
        if "data_keys" not in self.header:  # it did not begin, or is another program's loop, which has no examples
            return {}
        try:
            data = self.keys_path.read_bytes()
        except OSError as error:
            raise RunFolderError(f"{self.keys_path}: {error.strerror}. Restore it from a copy") from None
        if digest_bytes(data) != self.header["data_keys"]:
            raise RunFolderError(
                f"{self.keys_path}: its digest is not the one in run.json: it was changed. Restore it from a copy"
            )
        return keys.decode(data, str(self.keys_path))

    def check(self) -> None:
        """Read everything that can be checked against itself, and against each other.

        Raises:
            RunFolderError: something was changed, or is missing.
        """
        if not self.began:
            return
        self.data_keys()
        # What is written last is read first: a run may be going on.
        saved = [found for path in checkpoint_paths(self.path) if (found := _read_unless_removed(path))]
        metrics = self.metrics_lines()
        lines = self.lines()
        if metrics and int(metrics[-1][1]["step"]) > len(lines):
            raise RunFolderError(
                f"{self.ledger_path}: it ends after step {len(lines)}, but {self.metrics_path.name} has an evaluation "
                f"after step {metrics[-1][1]['step']}: lines are missing at the end. Restore the file from a copy"
            )
        tensors = self.tensors()
        for checkpoint in saved:
            self._check_saved(checkpoint, lines, metrics, tensors)

    def checkpoint(self, *, at_most: int | None = None) -> Checkpoint | None:
        """The newest checkpoint (not after step `at_most`), which must fit ledger and metrics; or None.

        Raises:
            RunFolderError: it is damaged, or lines that it covers are missing or changed.
        """
        candidates = [p for p in checkpoint_paths(self.path) if at_most is None or int(p.name[5:]) <= at_most]
        if not candidates:
            return None
        found = checkpoint_files.read(candidates[-1])
        self._check_saved(found, self.lines(), self.metrics_lines(), self.tensors())
        return found

    def _check_saved(
        self,
        checkpoint: Checkpoint,
        lines: list[ledger.Line],
        metrics: list[tuple[bytes, dict[str, Any]]],
        tensors: Tensors,
    ) -> None:
        step, path = checkpoint.step, checkpoint.path
        if step > len(lines):
            raise RunFolderError(
                f"{self.ledger_path}: it ends after step {len(lines)}, but there is a checkpoint of step {step}: "
                "lines are missing at the end. Restore the file from a copy"
            )
        line = lines[step - 1]
        if checkpoint.values["chain"] != line.chain:
            raise RunFolderError(f"{path}: this checkpoint is of another run: its chain is not the ledger's")
        covered = b"".join(line for line, values in metrics if values["step"] <= step)
        if checkpoint.values["metrics"] != digest_bytes(covered):
            raise RunFolderError(
                f"{self.metrics_path}: the evaluations up to step {step} are not those that {path.name} was written "
                "with: lines are missing, repeated or changed. Restore the file from a copy"
            )
        _check_parameters(checkpoint, line.step.parameters, tensors)
        for what, expected in (("parameters", line.step.parameters), ("buffers", line.step.buffers)):
            found = checkpoint.values["fingerprints"].get(what)
            if found != expected:
                raise checkpoint_files.damaged(
                    path, f"the {what} have the fingerprint {found}, and {expected} in the ledger's line of step {step}"
                )

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
        self._check_order([values for _, values in found])
        expected = self.header.get("metrics_digest")
        if expected is not None and expected != digest_bytes(b"".join(lines)):
            raise RunFolderError(f"{self.metrics_path}: lines are missing. Restore the file from a copy")
        return found

    def _check_order(self, metrics: list[dict[str, Any]]) -> None:
        """Evaluations come by step, and each split once after a step."""
        seen: set[tuple[int, str]] = set()
        newest = 0
        for number, values in enumerate(metrics, start=1):
            where = f"{self.metrics_path}, line {number}"
            step, split = values.get("step"), values.get("split")
            if not isinstance(step, int) or not isinstance(split, str):
                raise RunFolderError(f"{where}: not a line of an evaluation: step {step!r}, split {split!r}")
            if step < newest or (step, split) in seen:
                raise RunFolderError(
                    f"{where}: {split} after step {step} stands after the evaluations of step {newest}: lines are "
                    "repeated or out of order. Restore the file from a copy"
                )
            newest = step
            seen.add((step, split))


def checkpoint_paths(folder: Path) -> list[Path]:
    """The checkpoints of a run folder, oldest first."""
    found = (folder / "checkpoints").glob("step-*")
    return sorted((p for p in found if re.fullmatch(r"step-\d{6,}", p.name)), key=lambda p: int(p.name[5:]))


def _check_parameters(checkpoint: Checkpoint, expected: str, tensors: Tensors) -> None:
    """The trained parameters, which `ledger.tensors` names, must have the fingerprint that the ledger has."""
    names, rows = tensors
    trained = [name.removeprefix("parameter ") for name in names if name.startswith("parameter ")]
    prints = checkpoint_files.fingerprints(checkpoint)
    if words.combine((name, prints.get(name)) for name in trained) == expected:
        return
    recorded = dict(zip(trained, rows.get(checkpoint.step, []), strict=False))
    different = [name for name, value in recorded.items() if prints.get(name) != value]
    first = f"; the first tensor that differs: {different[0]}" if different else ""
    raise checkpoint_files.damaged(
        checkpoint.path,
        f"its parameters are not those of the ledger's line of step {checkpoint.step}{first}",
    )


def _read_unless_removed(path: Path) -> Checkpoint | None:
    """A checkpoint; None if the run that goes on has removed it meanwhile."""
    try:
        return checkpoint_files.read(path)
    except RunFolderError:
        if path.exists():
            raise
        return None


def recorded_steps(folder: Path) -> int:
    """How many whole lines a run folder's ledger has; none are checked, and 0 where there is no ledger yet."""
    with suppress(RunFolderError):
        return len(ledger.complete_lines(folder / "ledger.jsonl"))
    return 0


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


def _recipe(folder: Path, header: Mapping[str, Any]) -> Recipe:
    from glassrun import config
    from glassrun.plain import parse_yaml

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
