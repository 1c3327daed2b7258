"""The command line: command name to function. Nothing heavy is imported until a command runs."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from glassrun.errors import BadInput, ConfigError, GlassrunError

if TYPE_CHECKING:
    from glassrun.display import Display

app = typer.Typer(
    name="glassrun",
    help="Train Transformers and CNNs in runs that repeat to the bit and open like glass.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

data_app = typer.Typer(help="Lock a recipe's data, and check them against a lock.", no_args_is_help=True)
app.add_typer(data_app, name="data")

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name, or a YAML or JSON file.", show_default=False)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a field, for example optimizer.lr=1e-3."),
]
LockOption = Annotated[
    Path | None,
    typer.Option("--lock", metavar="FILE", help="The lock.", show_default="data.lock, else NAME.data.json"),
]
LockOutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="The file to write.", show_default="data.lock, else NAME.data.json"),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.", show_default=False)]
ReportOption = Annotated[
    bool, typer.Option("--report/--no-report", help="Whether to write report.html into the run's folder at the end.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", help="Processes, a power of two: no bit depends on it.", show_default="as many as fit"),
]
DataOption = Annotated[
    str | None, typer.Option("--data-path", metavar="PATH", help="Where the run's data lies now, if it was moved.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.command(epilog="Example: glassrun train digits-cnn --set train.steps=200 --workers 2")
def train(
    recipe: RecipeArgument,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The run's folder.", show_default="runs/NAME-DATE-TIME")
    ] = None,
    workers: WorkersOption = None,
    overrides: SetOption = None,
    with_report: ReportOption = True,
) -> None:
    """Train a recipe; leaves a run folder."""
    from glassrun import config, run
    from glassrun.display import Display

    checked = config.load(recipe, dict(config.parse_override(text) for text in overrides or []))
    with Display(quiet=not _leading()) as display, _interruptible(display):
        hear = _with_report(display) if with_report else display
        finished = run.train(checked, out=out, workers=workers, hear=hear)
    _finish(finished)


@app.command(epilog="Example: glassrun resume runs/digits-cnn-20261123-101500")
def resume(
    run: RunArgument,
    workers: WorkersOption = None,
    data_path: DataOption = None,
    with_report: ReportOption = True,
) -> None:
    """Go on with a run that was killed; it ends with the bits of the run that never was."""
    from glassrun import run as runs
    from glassrun.display import Display

    loaded = runs.load(run)
    loaded.folder.check()
    if loaded.folder.header["kind"] == "trained" and loaded.status == "complete":
        typer.echo(f"{run}: this run is complete; there is nothing to go on with")
        return
    with Display(quiet=not _leading()) as display, _interruptible(display):
        hear = _with_report(display) if with_report else display
        finished = runs.resume(run, workers=workers, data_path=data_path, hear=hear)
    _finish(finished)


@app.command(epilog="Example: glassrun replay runs/digits-cnn-20261123-101500 --from 100 --to 200")
def replay(
    run: Annotated[
        Path, typer.Argument(metavar="RUN|BUNDLE", help="The run's folder, or its bundle.", show_default=False)
    ],
    workers: WorkersOption = None,
    first: Annotated[int | None, typer.Option("--from", metavar="A", help="First step to compare.")] = None,
    last: Annotated[int | None, typer.Option("--to", metavar="B", help="Last step to compare.")] = None,
    data_path: DataOption = None,
    trust: Annotated[bool, typer.Option("--trust", help="Of a bundle: run the code that is in it.")] = False,
    unpack: Annotated[
        Path | None, typer.Option("--unpack", metavar="DIR", help="Of a bundle: keep what is unpacked here.")
    ] = None,
    make_env: Annotated[
        bool, typer.Option("--make-env", help="Of a bundle: build its recorded versions first, and run in them.")
    ] = False,
    index: Annotated[
        str | None, typer.Option("--index", metavar="ADDRESS", help="With --make-env: pip searches here too.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run it again in fresh processes and compare every step: exit code 0 if identical, 1 if not."""
    from glassrun.display import Display

    if run.is_file():
        from glassrun import bundle

        if index is not None and not make_env:
            raise ConfigError("--index goes with --make-env")
        if not trust:
            _show_bundle(run, as_json)
        with Display(quiet=as_json) as display:
            found = bundle.replay(
                run,
                unpack=unpack,
                make_env=make_env,
                index=index,
                workers=workers,
                first=first,
                last=last,
                data_path=data_path,
                hear=display,
            )
    else:
        from glassrun import run as runs

        given = {"--trust": trust, "--unpack": unpack, "--make-env": make_env, "--index": index}
        if ignored := [name for name, value in given.items() if value]:
            raise ConfigError(f"{run}: {' and '.join(ignored)}: only for a bundle, which `glassrun pack` writes")
        loaded = runs.load(run)
        with Display(quiet=as_json) as display:
            found = loaded.replay(workers=workers, first=first, last=last, data_path=data_path, hear=display)
    if as_json:
        _print_json(
            {
                "identical": bool(found),
                "first": found.first,
                "last": found.last,
                "steps_identical": found.identical,
                "evaluations_identical": found.evaluations,
                "difference": found.difference,
                "notes": list(found.notes),
                "chain": found.chain,
            }
        )
    elif found:
        steps = f"{found.identical} step{'s' if found.identical != 1 else ''}"
        typer.echo(
            f"identical: {steps} ({found.first} to {found.last}) and {found.evaluations} evaluations gave the recorded "
            f"bits; chain {found.chain}"
        )
    else:
        typer.echo(f"different: {found.difference}")
    if not found:
        raise typer.Exit(1)


@app.command(epilog="Example: glassrun diff runs/digits-cnn-20261123-101500 runs/digits-cnn-20261123-104500")
def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A run's folder.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another run's folder.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Where two runs part and why: step, phase, operation, tested causes. Exit code 0 if identical, 1 if not."""
    from glassrun import run as runs
    from glassrun.display import Display

    with Display(quiet=as_json) as display:
        verdict = runs.diff(a, b, hear=display)
    if as_json:
        _print_json(verdict.as_plain())
    else:
        typer.echo(str(verdict))
    if not verdict:
        raise typer.Exit(1)


@app.command(epilog="Example: glassrun pack runs/digits-cnn-20261123-101500 --out digits.glassrun --with-data")
def pack(
    run: RunArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The bundle.", show_default="RUN.glassrun beside the run"),
    ] = None,
    with_data: Annotated[bool, typer.Option("--with-data", help="Also the files that the recipe trains on.")] = False,
    with_checkpoints: Annotated[
        bool, typer.Option("--with-checkpoints", help="Also the checkpoints, for replays that start in the middle.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a run as one file that anyone can check: glassrun replay FILE --trust."""
    from glassrun import run as runs

    packed = runs.load(run).pack(out, with_data=with_data, with_checkpoints=with_checkpoints)
    if as_json:
        _print_json({"bundle": str(packed), "bytes": packed.stat().st_size})
    else:
        typer.echo(f"bundle: {_shown(packed)} ({packed.stat().st_size:,} bytes)")


@app.command(epilog="Example: glassrun export runs/digits-cnn-20261123-101500 --to onnx --out digits.onnx")
def export(
    run: RunArgument,
    to: Annotated[str, typer.Option("--to", metavar="FORM", help="safetensors, torch-export or onnx.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="PATH", help="Where to.", show_default="model, model.pt2 or model.onnx in RUN"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run's model for other programs, and run what was written once to see that it computes the same."""
    from glassrun import run as runs

    written = runs.load(run).export(to, out)
    if as_json:
        values = {"path": str(written.path), "difference": written.difference, "limits": list(written.limits)}
        _print_json(values)
        return
    typer.echo(f"exported    {_shown(written.path)}")
    if written.difference is not None:
        typer.echo(f"difference  {written.difference:.1e} of the largest output, on an example")
    for limit in written.limits:
        typer.echo(f"limit       {limit}")


@app.command(
    epilog="Examples: glassrun predict RUN --text 'le 3 mars 2026' --beams 4; glassrun predict RUN --image digit.png; "
    "glassrun predict RUN --prompt 'The ' --tokens 200 --top-p 0.9"
)
def predict(
    run: RunArgument,
    text: Annotated[list[str] | None, typer.Option(help="Translate this text; may be repeated.")] = None,
    image: Annotated[Path | None, typer.Option(help="Classify this image file.")] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="Go on from this text; may be repeated.")] = None,
    lines: Annotated[
        str | None, typer.Option(metavar="FILE", help="Translate, or go on from, each line of a file; - for the input.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="The most tokens to write.", show_default="200; of a translation, all")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="0 takes the likeliest token, 1 draws as trained.", show_default="0.8; of a translation, 0"),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw among the K likeliest tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw among the likeliest tokens that together have the share P.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the drawing.", show_default="1")] = None,
    beams: Annotated[int | None, typer.Option(help="Search with so many texts side by side.")] = None,
    length_penalty: Annotated[
        float | None, typer.Option(help="With --beams: 0 prefers short texts, 1 long ones.", show_default="0.6")
    ] = None,
    stop: Annotated[str | None, typer.Option(help="With a prompt: the token after which nothing is written.")] = None,
    references: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --lines: people's translations of them; at the end comes BLEU."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Use a run's model: classify an image, translate texts, or go on from prompts."""
    from glassrun import predict as predictions
    from glassrun import run as runs

    given = {"--text": text or None, "--image": image, "--prompt": prompt or None, "--lines": lines}
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) != 1:
        raise ConfigError(
            f"predict: expected exactly one of {', '.join(given)}, found {' and '.join(chosen) or 'none'}"
        )
    settings = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "beams": beams,
        "length_penalty": length_penalty,
    }
    loaded = runs.load(run)
    if references is not None:
        if lines is None:
            raise ConfigError(f"--references {references} would be ignored without --lines FILE")
        scored = predictions.score(
            loaded, _lines_of(lines), _lines_of(str(references), "--references"), settings, tokens=tokens, stop=stop
        )
        if as_json:
            _print_json(
                {"translations": scored.translations, "bleu": scored.bleu.score, "signature": scored.bleu.signature}
            )
        else:
            typer.echo("\n".join([*scored.translations, "", str(scored.bleu)]))
        return
    if image is not None:
        others = settings | {"tokens": tokens, "stop": stop}
        if ignored := [f"--{name.replace('_', '-')}" for name, value in others.items() if value is not None]:
            raise ConfigError(f"{' and '.join(ignored)} would be ignored with --image. Leave out what it is not for")
        results = [predictions.classify(loaded, image)]
    else:
        texts = text or prompt or _lines_of(lines or "-")
        streams = len(texts) == 1 and not as_json
        results = predictions.write(
            loaded, texts, chosen[0], settings, tokens=tokens, stop=stop, say=_say if streams else None
        )
        if streams:
            typer.echo()
            return
    if as_json:
        values = [result.values for result in results]
        _print_json(values[0] if len(values) == 1 and lines is None else values)
    else:
        for result in results:
            typer.echo(result.text)


@app.command(
    epilog="Examples: glassrun report runs/digits-cnn-20261123-101500; glassrun report runs/a runs/b --out a-b.html"
)
def report(
    run: RunArgument,
    other: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="Another run, to stand beside it.", show_default=False)
    ] = None,
    data_path: DataOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The page of two runs.", show_default="compare.html"),
    ] = None,
) -> None:
    """Write the run's report.html, or two runs side by side: one file that opens with no network."""
    from glassrun import run as runs
    from glassrun.look.compare import compare
    from glassrun.look.report import report as write_report

    def tell(note: str) -> None:
        typer.echo(f"note: {note}", err=True)

    if other is None and out is not None:
        raise ConfigError(f"--out {out}: only for two runs; the report of one is report.html in its own folder")
    first = runs.load(run, data_path=data_path)
    if other is None:
        written = write_report(first, tell=tell)
    else:
        written = compare(first, runs.load(other, data_path=data_path), out, tell=tell)
    typer.echo(f"report: {_shown(written)}")


@app.command(
    epilog="Examples: glassrun exhibit attention; glassrun exhibit --all --run runs/digits-cnn-20261123-101500"
)
def exhibit(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The exhibit.", show_default="all")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All of them, on one page.")] = False,
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="RUN", help="Shown where it fits.", show_default="small ones of their own"),
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Your own sentence.")] = None,
    image: Annotated[Path | None, typer.Option("--image", metavar="FILE", help="Your own picture.")] = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", metavar="DIR", help="Also each figure as SVG and PNG.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page.", show_default="NAME.html")
    ] = None,
) -> None:
    """Explain a subject on a real model: one page that opens with no network."""
    from glassrun import run as runs
    from glassrun.look.exhibits.page import write

    written = write(
        name,
        everything=all_,
        run=None if run is None else runs.load(run),
        text=text,
        image=image,
        pictures=pictures,
        out=out,
        tell=lambda said: typer.echo(said, err=True),
    )
    typer.echo(f"exhibit: {_shown(written)}")


@app.command(
    epilog="Examples: glassrun show runs/digits-cnn-20261123-101500 --json; "
    "glassrun show digits-cnn --set schedule.kind=linear"
)
def show(
    run: Annotated[
        str, typer.Argument(metavar="RUN|RECIPE", help="The run's folder, or a recipe.", show_default=False)
    ],
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a run is and how far it got; of a recipe, the learning rate that it plans."""
    from glassrun import config
    from glassrun.show import as_text, planned, planned_as_text, summary

    if not Path(run).is_dir() and (run in config.shipped_recipes() or Path(run).suffix in (".yaml", ".yml", ".json")):
        recipe = config.load(run, dict(config.parse_override(text) for text in overrides or []))
        values, text = planned(recipe), planned_as_text
    elif overrides:
        raise ConfigError(f"{run}: --set: only for a recipe; a run is what it was")
    else:
        values, text = summary(run), as_text
    if as_json:
        _print_json(values)
    else:
        typer.echo(text(values))


@app.command(epilog="Example: glassrun doctor --json")
def doctor(as_json: JsonOption = False) -> None:
    """What here threatens that runs repeat, and whether each block does: exit code 0 if all do, 1 if not."""
    from glassrun.doctor import as_text, examine

    found = examine()
    if as_json:
        _print_json(found)
    else:
        typer.echo(as_text(found))
    if not found["repeats"]:
        raise typer.Exit(1)


@app.command(epilog="Example: glassrun track runs/digits-cnn-20261123-101500 --mlflow http://127.0.0.1:5000")
def track(
    run: RunArgument,
    mlflow: Annotated[
        str | None, typer.Option(metavar="URI", help="An MLflow server's address.", show_default="as in the recipe")
    ] = None,
    wandb: Annotated[
        str | None,
        typer.Option(metavar="PROJECT", help="A Weights & Biases project.", show_default="as in the recipe"),
    ] = None,
    wait: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="The longest it may take.")] = 300,
) -> None:
    """Send a run to MLflow or Weights & Biases: what is not there yet, or all of it."""
    from glassrun import run as runs

    problems = runs.track(run, mlflow=mlflow, wandb=wandb, wait=wait)
    for text in problems:
        typer.echo(text, err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"sent        {run}")


@app.command(epilog="Example: glassrun recipes digits-cnn > mine.yaml")
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[RECIPE]", help="Print this recipe's YAML.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the shipped recipes, or print one to start your own from."""
    from glassrun import config
    from glassrun.errors import nearest
    from glassrun.plain import parse_yaml

    shipped = config.shipped_recipes()
    if name is not None and name not in shipped:
        raise ConfigError(f"recipe {name!r} is not known; {nearest(name, shipped)}")
    if as_json:
        chosen = {key: parse_yaml(text, key) for key, text in shipped.items() if name in (None, key)}
        _print_json(chosen)
    elif name is not None:
        typer.echo(shipped[name], nl=False)
    else:
        width = max(map(len, shipped))
        for key, text in shipped.items():
            typer.echo(f"{key:<{width}}  {text.splitlines()[0].removeprefix('# ')}")


@data_app.command("lock", epilog="Example: glassrun data lock digits-cnn --out digits.data.json")
def lock_data(recipe: RecipeArgument, overrides: SetOption = None, out: LockOutOption = None) -> None:
    """Write down which data a recipe is for, example by example."""
    from glassrun import config
    from glassrun.data import lock
    from glassrun.record.files import write_atomic

    checked = config.load(recipe, dict(config.parse_override(text) for text in overrides or []))
    locked, path = lock.lock(checked), out or lock.default_path(checked)
    write_atomic(path, locked.encode())
    sizes = ", ".join(f"{name} {split['examples']}" for name, split in locked.manifest["splits"].items())
    typer.echo(f"locked      {_shown(path.absolute())}: {sizes} examples")


@data_app.command("check", epilog="Example: glassrun data check digits-cnn --lock digits.data.json")
def check_data(
    recipe: RecipeArgument, overrides: SetOption = None, lock_file: LockOption = None, as_json: JsonOption = False
) -> None:
    """Compare the data that are there now with a lock: exit code 0 if they are the same, 1 if not."""
    from glassrun import config
    from glassrun.data import lock

    checked = config.load(recipe, dict(config.parse_override(text) for text in overrides or []))
    path = lock_file or lock.default_path(checked)
    found = lock.check(checked, lock.read(path))
    if as_json:
        findings = [finding.to_plain() for finding in found.findings]
        _print_json({"identical": bool(found), "lock": str(path), "findings": findings, "others": list(found.others)})
    else:
        typer.echo("\n  ".join([f"{'identical to' if found else 'different from'} {path}", *found.lines]))
    if not found:
        raise typer.Exit(1)


def main() -> None:
    """Run a command; bad input is one message and exit code 2, never a traceback."""
    for stream in (sys.stdout, sys.stderr):  # a path need not be text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except GlassrunError as error:
        kind = "error" if isinstance(error, BadInput) else "stopped"
        typer.echo("\n".join(f"{kind}: {line}" for line in str(error).splitlines()), err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output, such as head, has gone
        sys.stderr.close()
        sys.exit(0)


@contextmanager
def _interruptible(display: Display) -> Iterator[None]:
    """Ctrl-C ends a training with the command that goes on."""
    try:
        yield
    except KeyboardInterrupt:
        display.close()
        where = f": what was done is kept; go on with: glassrun resume {display.folder}" if display.folder else ""
        typer.echo(f"stopped by you{where}", err=True)
        raise typer.Exit(130) from None


def _leading() -> bool:
    """Whether this process speaks: of those that torchrun started only the first does."""
    from glassrun.train import torchrun

    rank = torchrun.find()
    return rank is None or rank.rank == 0


def _with_report(display: Display) -> Callable[[dict[str, Any]], None]:
    """Show each event; once the run is done write its report, which trackers take with the folder's other files."""
    from glassrun import run as runs
    from glassrun.errors import MissingDependency
    from glassrun.look.report import report as write_report

    def hear(event: dict[str, Any]) -> None:
        display(event)
        if event["event"] == "done":
            try:
                write_report(runs.load(event["path"]), tell=lambda text: display({"event": "note", "text": text}))
            except MissingDependency as error:
                display({"event": "note", "text": f"no report was written: {error}"})

    return hear


def _finish(run: Any) -> None:
    """After training: what came out, and where the report is."""
    if not _leading():
        return
    from glassrun.show import as_text, summary

    typer.echo(as_text(summary(run.path)))
    report = run.path / "report.html"
    if report.exists():
        typer.echo(f"report      {_shown(report)}")


def _show_bundle(path: Path, as_json: bool) -> NoReturn:
    """What a bundle would run, and that it takes the user's word to do it."""
    from glassrun import bundle

    values = bundle.preview(path)
    if as_json:
        _print_json(values)
    else:
        typer.echo(bundle.as_text(values))
    raise ConfigError(f"{path}: replaying it runs the code that is in it. If you trust where it came from: --trust")


def _shown(path: Path) -> str:
    """A path as short as it can be pasted from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _lines_of(name: str, option: str = "--lines") -> list[str]:
    """The lines of a file, or of the input."""
    from glassrun.data.text import read_text

    try:
        text = sys.stdin.buffer.read().decode() if name == "-" else read_text(Path(name))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{option} -: expected text in UTF-8, found another byte at offset {error.start}") from None
    if not text.strip():
        raise ConfigError(f"{option} {name}: expected at least one line, found none")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _say(text: str) -> None:
    """A part of a text, at once."""
    typer.echo(text, nl=False)
    sys.stdout.flush()


def _print_json(values: Any) -> None:
    import json

    typer.echo(json.dumps(values, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
