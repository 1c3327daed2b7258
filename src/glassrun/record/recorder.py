"""The recorder: three lines in a loop that is not ours, and it leaves the same ledger as a run of glassrun's own.

>>> with glassrun.record("runs/mine", {"lr": 1e-3}, seed=1) as run:                      # doctest: +SKIP
...     for batch in batches:
...         loss = train_step(batch)
...         run.step(model=model, optimizer=optimizer, loss=loss, batch=batch)
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from glassrun.digest import digest_value
from glassrun.errors import ConfigError, ModelError, RunFolderError
from glassrun.record import code, environment, rerun
from glassrun.record.command import command
from glassrun.record.fingerprint import combine
from glassrun.record.ledger import metrics_line
from glassrun.record.named import Models, Named, Optimizers, as_one, listed, named
from glassrun.record.observation import Observation, agree, observe
from glassrun.record.ranks import Ranks
from glassrun.record.readings import Readings, resolve
from glassrun.record.run_folder import RUNNING, RunFolder
from glassrun.record.settings import settings
from glassrun.record.watch import Seen, Watch
from glassrun.record.writing import Silent, Sink, Writing

P = ParamSpec("P")
R = TypeVar("R")

_entries = itertools.count(1)  # which recorder of this process one is: a rerun of the program finds it by that


def record(path: str | Path, config: Any = None, *, seed: int | None = None, every: int = 1) -> Recorder:
    """Record a training loop as it is: a context manager whose `step` is called once for each line of the ledger.

    It moves no bit of the loop: it draws no random number, sets nothing, and keeps no graph.

    Arguments:
        path: the run's folder; nothing may stand there.
        config: the loop's settings: a mapping, a dataclass or an `argparse.Namespace`. Part of what the run is.
        seed: the loop's seed, to be recorded; the recorder seeds nothing (`glassrun.seed` does).
        every: how many steps lie between two rows of single fingerprints in `ledger.tensors`.

    Raises:
        ConfigError: an argument is of another form; on entry: the ranks do not know each other yet.
        RunFolderError: on entry: something stands at `path`, or it cannot be written.
    """
    if not isinstance(every, int) or every < 1:
        raise ConfigError(f"glassrun.record: expected every to be a whole number from 1, found {every!r}")
    if seed is not None and not isinstance(seed, int):
        raise ConfigError(f"glassrun.record: expected seed to be a whole number or None, found {seed!r}")
    return Recorder(Path(path), settings(config), seed, every)


class Recorder:
    """A loop that is being recorded. `notes` says what could not be seen, each thing once."""

    def __init__(self, path: Path, config: dict[str, Any], seed: int | None, every: int) -> None:
        self.path = path.absolute()
        self.notes: list[str] = []
        self._config, self._seed, self._every = config, seed, every
        self._noted: set[str] = set()
        self._number = 0  # of the last step
        self._names: list[str] = []  # what a row of ledger.tensors is of
        self._exits = ExitStack()
        self._sink: Sink = Silent()

    def __enter__(self) -> Self:
        entry = next(_entries)
        with ExitStack() as exits:
            self._ranks = Ranks()
            exits.callback(self._ranks.close)
            self._sink = self._open(entry)
            self._readings = Readings(torch.get_num_threads())
            exits.callback(self._readings.close)
            self._watch = Watch(self._readings, self._note)
            self._watch.open()
            exits.callback(self._watch.close)
            self._exits = exits.pop_all()
        self._ended = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._exits:
            if error is None and self._watch.waiting:
                self._note("waiting", "an optimizer stepped after the last run.step: no line holds that step")
            self._sink.close(_reason(error))

    def step(
        self,
        *,
        model: Models = None,
        optimizer: Optimizers = None,
        loss: Tensor | float | None = None,
        batch: Any = None,
        examples: int | None = None,
        tokens: int = 0,
        epoch: int = 0,
    ) -> None:
        """Record a step, after its update: one line of the ledger.

        Arguments:
            model: what is trained: one module, or several in a list or a mapping.
            optimizer: one, or several in a list or a mapping.
            loss: of the step, a single number.
            batch: tensors, arrays, numbers and texts, nested as they are.
            examples: in the batch; by default the length of its first tensor.
            tokens: in the batch.
            epoch: from 1; 0 where there are none.

        Raises:
            Diverged: the ranks hold different parameters or gradients.
            ModelError: there is no model and no optimizer, or a tensor or the loss cannot be read.
            RunFolderError: the folder cannot be written.
        """
        if model is None and optimizer is None:
            raise ModelError("run.step: expected a model, an optimizer or both, found neither")
        number = self._number + 1
        seen = self._watch.take()
        found = named(model, optimizer)
        with _disable_current_modes():  # what traces the loop's operations is not to see ours
            own = observe(
                found,
                seen,
                self._readings,
                rate=seen.rate(listed(optimizer)),
                loss=loss,
                batch=batch,
                examples=examples,
                tokens=tokens,
                epoch=epoch,
            )
        both, buffer = agree(own, self._ranks, number)
        if number == 1:
            self._names = own.names
            self._sink.begin(self._initial(found, own), self._names)
        self._say_what_is_not_seen(found, seen, own, loss is None, buffer)
        self._number = number
        now = time.perf_counter()
        self._sink.step(both.step(number), both.row(self._names), now - self._ended)
        self._ended = now

    def evaluation(self, split: str, metrics: Mapping[str, float | Tensor], *, examples: int = 0) -> None:
        """Record the metrics of a split after the last step: one line of `metrics.jsonl`.

        Arguments:
            split: its name, as "validation".
            metrics: name to a single number.
            examples: in the split.

        Raises:
            ModelError: a metric is no number.
        """
        try:
            plain = {name: m.detach() if isinstance(m, Tensor) else m for name, m in metrics.items()}
            values = {str(name): float(value) for name, value in plain.items()}
        except (TypeError, ValueError, RuntimeError) as error:
            raise ModelError(f"run.evaluation: expected single numbers as metrics: {error}") from None
        self._sink.evaluation(metrics_line(self._number, split, examples, values))

    def replayable(self, function: Callable[P, R], model: Models = None) -> Callable[P, R]:
        """Allow that the program is run again, up to one step, to find the operation in which two runs part.

        The program is started anew by the command it was started by, with all that it does besides. Its folder stays
        as it is: such a rerun writes no run.

        Arguments:
            function: what computes a step, or a part of one: only what happens inside is traced.
            model: as for `step`; its modules name the operations.

        Returns:
            A function with the same signature that does the same.
        """
        self._sink.replayable()

        @functools.wraps(function)
        def replayed(*args: P.args, **kwargs: P.kwargs) -> R:
            if isinstance(self._sink, rerun.Rerunning):
                with self._sink.calling(self._number + 1, as_one(model)):
                    return function(*args, **kwargs)
            return function(*args, **kwargs)

        return replayed

    def _open(self, entry: int) -> Sink:
        """Where this recorder's lines go; on several ranks, rank 0 makes the folder, and all hear how that went."""
        job = rerun.job()
        if job is not None:
            return rerun.Rerunning(job) if job.entry == entry else Silent()
        sink: Sink = Silent()
        problem = None
        if self._ranks.rank == 0:
            try:
                sink = self._make_folder(entry)
            except RunFolderError as error:
                problem = error
        failed = self._ranks.gather([int(problem is not None)])[0][0]
        if problem is not None:
            raise problem
        if failed:
            raise RunFolderError(f"{self.path}: rank 0 could not make this folder; its message says why")
        return sink

    def _make_folder(self, entry: int) -> Writing:
        identity = digest_value({"config": self._config, "seed": self._seed})
        sources = code.collect()
        started = command()
        header = {
            "status": RUNNING,
            "config": self._config,
            "config_digest": digest_value(self._config),
            "seed": self._seed,
            "every": self._every,
            "import_path": [],
            "identity": identity,
            "initial": {"parameters": None, "buffers": None},
            "code": sources.record(),
            "environment": environment.collect(),
            "command": None if isinstance(started, str) else started | {"entry": entry},
            "replayable": False,
            "notes": [],
            "sessions": [
                {
                    "started": datetime.now(UTC).isoformat(timespec="seconds"),
                    "workers": self._ranks.world_size,
                    "after_step": 0,
                }
            ],
        }
        sink = Writing(RunFolder.create_recorded(self.path, header, sources.archive()))
        if isinstance(started, str):
            sink.note(text := f"the program cannot be run again to find an operation: {started}")
            self.notes.append(text)
        return sink

    def _initial(self, found: Named, own: Observation) -> dict[str, str | None]:
        """The parameters before the first update; those that no optimizer updated are what they were.

        The buffers before the first step were over before anybody called.
        """
        before, self._watch.before = self._watch.before or {}, None
        if not before:
            return {"parameters": None, "buffers": None}
        readings = [before.get(parameter) for parameter in found.parameters.values()]
        (values,) = resolve(readings)
        by_name = dict(zip(found.stored_parameters, values, strict=True))
        entries = ((name, by_name[name] if by_name[name] is not None else now) for name, now in own.parameters.items())
        return {"parameters": combine(entries), "buffers": None}

    def _say_what_is_not_seen(self, found: Named, seen: Seen, own: Observation, no_loss: bool, buffer: str) -> None:
        held = {id(parameter) for parameter in found.parameters.values()}
        trained = [name for name, parameter in found.parameters.items() if parameter.requires_grad]
        without = [name for name in trained if found.parameters[name] not in seen.gradients]
        later = [name for name in own.names if name not in self._names]
        foreign = sum(id(parameter) not in held for parameter in seen.gradients)
        said = {
            "loss": no_loss and "no loss was given: nan is recorded",
            "no step": not seen.steps
            and "no optimizer step was seen since the last run.step: the line has no gradients. A GradScaler skips "
            "steps whose gradients are not finite; otherwise call run.step after optimizer.step",
            "without": seen.steps
            and without
            and f"no optimizer that stepped holds {_some(without)}: no gradient is recorded where there is no step",
            "outside": found.outside and f"only an optimizer holds {_some(found.outside)}: named by its place there",
            "foreign": foreign
            and f"an optimizer stepped {foreign} parameters of which run.step was given neither "
            "model nor optimizer: they are not recorded",
            "later": later
            and f"{_some(later)} came later than the first step: part of the ledger's combined "
            "fingerprints, but not of ledger.tensors",
            "unread": own.unread and f"the batch holds what cannot be read: {_some(sorted(set(own.unread)))}",
            "buffers": buffer and f"{buffer}, as batch norm makes it: the buffers of rank 0 are recorded",
        }
        for key, text in said.items():
            if text:
                self._note(key, text)

    def _note(self, key: str, text: str) -> None:
        if key not in self._noted:
            self._noted.add(key)
            self.notes.append(f"step {self._number + 1}: {text}")
            self._sink.note(self.notes[-1])


def _some(names: list[str] | tuple[str, ...]) -> str:
    """The first names, and how many more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _reason(error: BaseException | None) -> str | None:
    """Why a loop did not end by itself; leaving with exit code 0 is an end."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return None
    text = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
