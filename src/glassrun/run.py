"""Runs from Python: train, resume, replay, and a `Run` to look into. The commands call these same functions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassrun import config
from glassrun.config import Recipe
from glassrun.errors import ConfigError, RunFolderError, WorkerLost, WorkersDisagree
from glassrun.record.ledger import Line
from glassrun.record.run_folder import COMPLETE, RunFolder, recorded_steps, what_occupies
from glassrun.track.trackers import Trackers, require
from glassrun.train import torchrun
from glassrun.train.elastic import endure
from glassrun.train.launch import Event, choose_workers, environment, ignored_variables, launch, start_and_listen
from glassrun.train.opening import EITHER, NEW, RESUME, existing

if TYPE_CHECKING:
    from torch import nn

    from glassrun.export import Exported
    from glassrun.integrations.notebook import Inline
    from glassrun.replay.verdict import Verdict

Hear = Callable[[Event], None]


def train(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    overrides: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    hear: Hear | None = None,
) -> Run:
    """Train a recipe in fresh worker processes.

    Arguments:
        recipe: a shipped recipe's name, a YAML or JSON file, or a mapping of sections.
        overrides: dotted key to value, for example {"train.steps": 200}.
        out: the run's folder; by default `runs/NAME-DATE-TIME`.
        workers: processes, a power of two; by default as many as fit the cores and the shards. It moves no bit.
            When one is killed, the run goes on with those that are left. Under torchrun its processes are the workers.
        hear: called with each event (a mapping with "event": folder, begin, step, evaluation, note, done).

    Returns:
        The finished run.

    Raises:
        GlassrunError: bad input, a run that stopped, or a worker that was lost.
    """
    checked = recipe if isinstance(recipe, Recipe) else config.load(recipe, overrides)
    if isinstance(recipe, Recipe) and overrides:
        raise ConfigError("overrides go with a recipe's name, file or mapping; a Recipe is already checked")
    require(checked.track)
    job = {"out": str(Path(out).absolute()) if out is not None else None, "import_path": import_path()}
    if rank := torchrun.find():
        if out is None:
            raise ConfigError("torchrun: every process must know the run's folder: give it with --out DIR")
        found = existing(Path(out).absolute(), checked)
        if found and found.status == COMPLETE:  # a rank failed after the last step, and torchrun begins again
            if hear and rank.rank == 0:
                hear({"event": "done", "path": str(found.path)})
            return Run(found.path)
        return _run_ranked(job | {"begin": EITHER}, checked, rank, workers, hear)
    resolved = config.resolve_seed(checked)
    count = choose_workers(workers, resolved.batch.shards)
    if out is not None and (occupied := what_occupies(Path(out).absolute())):
        raise RunFolderError(occupied)
    return _run(job | {"begin": NEW}, resolved, count, hear)


def resume(
    path: str | Path, *, workers: int | None = None, data_path: str | None = None, hear: Hear | None = None
) -> Run:
    """Go on with a run that was killed, from its newest checkpoint; steps that are repeated are checked.

    Arguments:
        path: the run's folder.
        workers: may differ from before; it moves no bit.
        data_path: where the data lies now, if it was moved.
        hear: as for `train`.

    Raises:
        RunFolderError: the folder is damaged, or another process writes it.
        Diverged: a repeated step did not give the recorded bits.
    """
    folder = RunFolder.open(path)
    recipe = with_data_path(folder.recipe, data_path)
    folder.check()
    if folder.header["status"] == COMPLETE:
        return Run(folder.path)
    job = {
        "begin": RESUME,
        "out": str(folder.path),
        "import_path": [*folder.header["import_path"], *import_path()],
    }
    if rank := torchrun.find():
        return _run_ranked(job, recipe, rank, workers, hear)
    return _run(job, recipe, choose_workers(workers, recipe.batch.shards), hear)


def track(path: str | Path, *, mlflow: str | None = None, wandb: str | None = None, wait: float = 300.0) -> list[str]:
    """Send a run to trackers: what is not there yet, or all of it.

    Arguments:
        path: the run's folder.
        mlflow: an MLflow server's address.
        wandb: a Weights & Biases project. With neither, the trackers of the run's recipe are taken.
        wait: seconds that it may take.

    Returns:
        For each tracker that was not sent everything, what was not and why.

    Raises:
        BadInput: there is no run, no tracker, or a package is missing.
    """
    folder = RunFolder.open(path)
    chosen = folder.recipe.plain()["track"] | {"wait": wait}
    if mlflow is not None or wandb is not None:
        given = {"mlflow": ("uri", mlflow), "wandb": ("project", wandb)}
        for kind, (name, value) in given.items():
            chosen[kind] = None if value is None else (chosen[kind] or {}) | {name: value}
    recipe = config.validate(folder.recipe.plain() | {"track": chosen}, "track")
    if not (recipe.track.mlflow or recipe.track.wandb):
        raise ConfigError(
            f"{path}: the run's recipe names no tracker: say where to with --mlflow URI or --wandb PROJECT"
        )
    require(recipe.track)
    return list(Trackers(recipe.track, folder.path, recipe.name).end())


def load(path: str | Path, *, data_path: str | None = None) -> Run:
    """An existing run, to look into.

    Arguments:
        path: the run's folder.
        data_path: where the data lies now, if it was moved.

    Raises:
        RunFolderError: there is none, or it was changed.
    """
    RunFolder.open(path)
    return Run(path, data_path=data_path)


def diff(a: str | Path | Run, b: str | Path | Run, *, hear: Hear | None = None) -> Verdict:
    """Compare two runs to the bit; where they part, name step, phase and operation, and test the causes.

    Arguments:
        a, b: two runs, or their folders; neither is changed. Their recorded code runs, in processes of its own.
        hear: as for `train`.

    Returns:
        The verdict: true for identical runs; printed, it says all that was found.

    Raises:
        RunFolderError: a run is damaged.
    """
    from glassrun.replay.diff import diff as compare

    folders = [RunFolder.open(run.path if isinstance(run, Run) else run) for run in (a, b)]
    return compare(folders[0], folders[1], import_path=import_path(), hear=hear)


@dataclass(frozen=True)
class Replay:
    """What a replay found: `identical` steps from `first` to `last`, or the first `difference`."""

    first: int
    last: int
    identical: int
    evaluations: int
    difference: str | None
    notes: tuple[str, ...]
    chain: str | None = None

    def __bool__(self) -> bool:
        return self.difference is None


@dataclass(frozen=True)
class Elsewhere:
    """What a replay takes from another place than this installation: a bundle's own.

    Arguments:
        code: a folder that modules are imported from before anything that is installed.
        python: the interpreter of another environment; None for this one.
        data: fields of the data section to where their data lies.
    """

    code: Path
    python: Path | None
    data: Mapping[str, str]


class Run:
    """A run's folder, read when asked."""

    def __init__(self, path: str | Path, *, data_path: str | None = None) -> None:
        self.path = Path(path).absolute()
        self.data_path = data_path

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def folder(self) -> RunFolder:
        """The folder as it is now, `run.json` and `config.yaml` checked."""
        return RunFolder.open(self.path)

    @cached_property
    def recipe(self) -> Recipe:
        """What was trained; it stays as it is once the folder is made."""
        return self.folder.recipe

    @property
    def status(self) -> str:
        """preparing, running, interrupted, stopped or complete."""
        return self.folder.status

    @property
    def ledger(self) -> list[Line]:
        """One line per step, each checked."""
        return self.folder.lines()

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One mapping per evaluation: step, split, examples and the metrics."""
        return self.folder.metrics()

    @cached_property
    def dataset(self) -> Any:
        """The run's data set, loaded again and seen to be the recorded one."""
        from glassrun.data.recorded import of_run
        from glassrun.train.state import load_data
        from glassrun.train.writer import check_data

        folder = self.folder
        dataset = load_data(with_data_path(folder.recipe, self.data_path), of_run(folder.header, str(folder.path)))
        check_data(folder, dataset)
        return dataset

    @cached_property
    def model(self) -> nn.Module:
        """The model as the newest checkpoint holds it, in evaluation mode."""
        from glassrun.train.restore import model_of

        return model_of(self.folder)

    def generate(
        self,
        texts: Sequence[str],
        *,
        tokens: int | None = None,
        stop: str | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        beams: int | None = None,
        length_penalty: float | None = None,
    ) -> list[str]:
        """Write with the model: go on from prompts, or translate sources. Equal for equal seeds.

        Arguments:
            texts: a list; what is written to one does not depend on the others.
            tokens, stop: see `generate.texts.TextGenerator` and `Translator`.
            temperature, top_k, top_p, seed, beams, length_penalty: see `generate.decoding`. Without any, a language
                model draws at temperature 0.8 and a translation is greedy.

        Returns:
            For each text, the prompt with what follows it, or the translation.

        Raises:
            BadInput: the model writes no texts, a text cannot be read, or a setting is wrong or would be ignored.
        """
        from glassrun.data.encoding import PairEncoding, TextEncoding
        from glassrun.data.recorded import of_run
        from glassrun.generate.decoding import decoding
        from glassrun.generate.texts import generator_of
        from glassrun.threads import one_thread

        if isinstance(texts, str):
            raise ConfigError(f"generate: expected a list of texts, found one text: give [{texts!r}]")
        recorded = of_run(self.folder.header, str(self.path))
        if recorded is None or not isinstance(recorded.encoding, TextEncoding | PairEncoding):
            raise ConfigError(f"{self.path}: expected a run of a language model or a translation, found another")
        generator = generator_of(self.model, recorded.encoding, self.recipe.task)
        how = decoding(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            beams=beams,
            length_penalty=length_penalty,
            usual_temperature=generator.usual_temperature,
        )
        with one_thread():
            return generator.write(texts, how, tokens=tokens, stop=stop)

    def attention(self, text: str | None = None) -> Inline:
        """The attention maps of the run's model, to look at in a notebook.

        Arguments:
            text: read by a language model, translated by a translation; by default the first held-out example is shown.

        Raises:
            BadInput: the model or the data cannot be read, the text is empty or too long, or there is no attention.
        """
        from glassrun.integrations.notebook import attention

        return attention(self, text)

    def exhibit(self, name: str, *, text: str | None = None, image: str | Path | None = None) -> Inline:
        """An exhibit on this run, to look at in a notebook.

        Arguments:
            name: as `glassrun exhibit` has it, for example "attention".
            text, image: a sentence or a picture of your own.

        Raises:
            BadInput: there is no such exhibit, it has nothing to show of this run, or what was given cannot be shown.
        """
        from glassrun.integrations.notebook import exhibit

        return exhibit(self, name, text=text, image=None if image is None else Path(image))

    def pack(self, out: str | Path | None = None, *, with_data: bool = False, with_checkpoints: bool = False) -> Path:
        """Write the run as one file that anyone can check and replay (see docs/formats.md).

        Arguments:
            out: the file; by default `NAME.glassrun` beside the run's folder.
            with_data: also the files that the recipe's data section names.
            with_checkpoints: also the checkpoints, from which a part can be replayed.

        Returns:
            The file.

        Raises:
            BadInput: the run has no step yet, is damaged or being written, or something stands at `out`.
        """
        from glassrun.record import bundle
        from glassrun.record.code import read_archive

        folder = self.folder
        if folder.locked_by_another():
            raise RunFolderError(f"{folder.path}: another process is writing this run. Wait until it ends, or stop it")
        if not folder.lines():
            raise RunFolderError(
                f"{folder.path}: nothing to pack: the run has no step yet. glassrun resume {self.path}"
            )
        folder.check()
        read_archive(folder.path / "code.zip", folder.header["code"])
        chosen = self.path.with_name(f"{self.path.name}{bundle.ENDING}") if out is None else Path(out).absolute()
        bundle.pack(folder, chosen, with_data=with_data, with_checkpoints=with_checkpoints)
        return chosen

    def export(self, to: str, out: str | Path | None = None) -> Exported:
        """Write the model of the newest checkpoint for others (see docs/pretrained.md).

        Arguments:
            to: safetensors (a folder), torch-export (a file, `.pt2`) or onnx (a file, `.onnx`).
            out: where to; by default `model` with that ending, in the run's folder. Nothing may stand there.

        Returns:
            What was written, and how far its outputs are from the model's.

        Raises:
            BadInput: the form is not known, something stands there, or torch cannot export the model.
        """
        from glassrun.export import export_run

        return export_run(self.folder, self.model, to, None if out is None else Path(out).absolute())

    def replay(
        self,
        *,
        workers: int | None = None,
        first: int | None = None,
        last: int | None = None,
        data_path: str | None = None,
        hear: Hear | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> Replay:
        """Run it again in fresh processes and compare every step with the ledger as it comes.

        Arguments:
            workers: may differ from the run's; it moves no bit.
            first: the first step to compare; the replay starts from the checkpoint before it.
            last: the last step to compare.
            data_path: where the data lies now, if it was moved.
            hear: as for `train`.
            elsewhere: for a bundle, its own code, environment and data.

        Raises:
            BadInput: the folder is damaged, the data are others, or the segment is not inside the run.
        """
        from glassrun.errors import Diverged
        from glassrun.replay.segment import segment

        folder = self.folder
        folder.check()
        recipe = with_data_path(folder.recipe, data_path or self.data_path)
        first, last = segment(folder, first, last)
        if elsewhere:
            recipe = with_data(recipe, elsewhere.data)
        notes: dict[str, None] = {}  # an attempt whose worker was killed has said some already

        def listen(event: Event) -> None:
            if event["event"] == "note":
                notes[event["text"]] = None
            if hear:
                hear(event)

        job = {
            "do": "glassrun.replay.verify",
            "path": str(folder.path),
            "config": recipe.plain(),
            "first": first,
            "last": last,
            # A bundle's code is whole: of the folders that another machine had, or that are here, none is meant.
            "import_path": [] if elsewhere else [*folder.header["import_path"], *import_path()],
        }
        code, python = (elsewhere.code, elsewhere.python) if elsewhere else (None, None)

        def attempt(count: int, _why: str | None) -> Event:
            return launch(job, recipe.numerics, count, listen, code=code, python=python)

        try:
            found = endure(attempt, choose_workers(workers, recipe.batch.shards), lambda: 0, listen)
        except Diverged as error:
            return Replay(first, last, 0, 0, str(error), tuple(notes))
        return Replay(first, last, found["identical"], found["evaluations"], None, tuple(notes), found["chain"])


def _run(job: dict[str, Any], recipe: Recipe, workers: int, hear: Hear | None) -> Run:
    """Train until it is done, on fewer workers when one is killed; a stop is told with the command that goes on."""
    where: list[Path] = []
    job = job | {"do": "glassrun.train.writer", "config": recipe.plain()}
    with _tracked(recipe, hear) as tell:

        def listen(event: Event) -> None:
            if event["event"] == "folder":
                if where:
                    return
                where.append(Path(event["path"]))
            tell(event)

        def attempt(count: int, why: str | None) -> Event:
            again = {} if why is None else {"begin": EITHER, "out": str(where[0]) if where else job["out"], "why": why}
            return launch(job | again, recipe.numerics, count, listen)

        for text in ignored_variables(recipe.numerics):
            listen({"event": "note", "text": text})
        try:
            done = endure(attempt, workers, lambda: recorded_steps(where[0]) if where else 0, listen)
        except (WorkerLost, WorkersDisagree) as error:
            if where:
                raise type(error)(f"{error}. What was done is kept; go on with: glassrun resume {where[0]}") from None
            raise
        listen({"event": "done", "path": done["path"]})
    return Run(done["path"])


def _run_ranked(
    job: dict[str, Any], recipe: Recipe, rank: torchrun.Rank, workers: int | None, hear: Hear | None
) -> Run:
    """Train as one of the ranks that torchrun started; it starts all of them again when one fails."""
    if workers is not None:
        raise ConfigError(f"--workers {workers}: torchrun says how many workers there are; leave the option out")
    torchrun.end_with_agent()
    place = rank.place(recipe.batch.shards)
    job = job | place | {"do": "glassrun.train.ranked", "config": recipe.plain()}
    with _tracked(recipe, hear) as tell:
        start_and_listen([job], environment(recipe.numerics) | rank.variables(), tell)
        if rank.rank == 0:
            tell({"event": "done", "path": job["out"]})
    return Run(job["out"])


@contextmanager
def _tracked(recipe: Recipe, hear: Hear | None) -> Iterator[Hear]:
    """Pass each event on, with the recipe's trackers from the moment that the folder is known until they are done."""
    trackers: list[Trackers] = []

    def note(text: str) -> None:
        if hear:
            hear({"event": "note", "text": text})

    def tell(event: Event) -> None:
        if event["event"] == "folder" and not trackers:
            trackers.append(Trackers(recipe.track, Path(event["path"]), recipe.name))
        if hear:
            hear(event)
        for text in trackers[0].news() if trackers else ():
            note(text)

    try:
        yield tell
    finally:
        for text in trackers[0].end() if trackers else ():
            note(text)


def with_data_path(recipe: Recipe, data_path: str | None) -> Recipe:
    """The same recipe with its data elsewhere."""
    return with_data(recipe, {"path": data_path}) if data_path is not None else recipe


def with_data(recipe: Recipe, places: Mapping[str, str]) -> Recipe:
    """The same recipe with some fields of its data section naming other places."""
    return config.validate(recipe.plain() | {"data": recipe.plain()["data"] | dict(places)}, "--data-path")


def import_path() -> list[str]:
    """Folders from which the workers may import the user's own modules: this one's path, and the working folder."""
    return [str(Path(entry).absolute()) for entry in [*sys.path, str(Path.cwd())] if not entry.endswith(".zip")]
