"""What differs between two runs and may be why their bits do: the suspects, and how each can be tested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal

from glassrun.data import keys
from glassrun.record import code
from glassrun.record.run_folder import RunFolder
from glassrun.record.run_json import RECORDED, TRAINED

Status = Literal["confirmed", "suspected", "excluded"]

# Fields of `numerics` that are known by other names than their place in the recipe.
_NUMERICS = {"threads": "threads", "isa": "isa", "device": "device", "float32_matmul_precision": "flag"}
# What names a section's class: where it differs, the sections have other fields, and only the whole can be exchanged.
_TAGS = {"data": ("source",), "model": ("kind", "import"), "optimizer": ("kind",), "schedule": ("kind",)}
# Packages that compute; the others are named after them.
_COMPUTE = ("torch", "numpy", "scipy", "mkl", "scikit-learn", "pillow", "babel", "tokenizers", "safetensors")
_PATHS = ("path", "validation", "test")


@dataclass(frozen=True)
class Change:
    """What of one run is exchanged for the other's in a counterfactual rerun.

    Arguments:
        config: fields or sections of the recipe, by dotted name, with the values they get.
        code: whether the other run's recorded code runs.
        variables: environment variables.
        command: whether the other run's command starts the program, for loops that are not ours.
        flags: settings of torch, for loops that are not ours.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    code: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    command: bool = False
    flags: Mapping[str, Any] = field(default_factory=dict)

    def and_also(self, other: Change) -> Change:
        """Both changes."""
        return Change(
            {**self.config, **other.config},
            self.code or other.code,
            {**self.variables, **other.variables},
            self.command or other.command,
            {**self.flags, **other.flags},
        )

    def applied(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A recipe's plain values with the fields exchanged."""
        changed = {name: dict(value) if isinstance(value, Mapping) else value for name, value in config.items()}
        for name, value in self.config.items():
            section, _, key = name.partition(".")
            if key and value is MISSING:
                changed[section].pop(key, None)
            elif key:
                changed[section][key] = value
            else:
                changed[section] = value
        return changed


MISSING = object()  # the value of a field that one of two recipes does not have


@dataclass(frozen=True)
class Cause:
    """One thing that differs between run A and run B.

    Arguments:
        kind: config, data, code, package, threads, isa, device, flag, variable, machine or nondeterminism.
        what: its name.
        a, b: its value in each run.
        status: confirmed (A's step with B's value gave B's bits), excluded (it gave A's, or another cause explains all
            alone), or suspected (it was not tested, or gave neither).
        because: how the status was found.
        change: how it is tested; None where it cannot be.
    """

    kind: str
    what: str
    a: str
    b: str
    status: Status = "suspected"
    because: str = "not tested: it cannot be exchanged here"
    change: Change | None = None

    def as_plain(self) -> dict[str, str]:
        """As `diff --json` gives it."""
        return {
            "kind": self.kind,
            "what": self.what,
            "a": self.a,
            "b": self.b,
            "status": self.status,
            "because": self.because,
        }


def suspects(a: RunFolder, b: RunFolder) -> list[Cause]:
    """Everything recorded that differs between two runs and can have moved bits; what can be tested comes first."""
    kinds = {run.header["kind"] for run in (a, b)}
    if kinds == {TRAINED}:
        ours = [*_config(a, b), *_data(a, b)]
    elif kinds == {RECORDED}:
        ours = list(_settings(a, b))
    else:
        ours = [Cause("config", "what kind of run it is", str(a.header["kind"]), str(b.header["kind"]))]
    found = [*ours, *_code(a, b), *_environment(a, b)]
    return sorted(found, key=lambda cause: cause.change is None)


def _config(a: RunFolder, b: RunFolder) -> Iterator[Cause]:
    contracts = a.recipe.contract(), b.recipe.contract()
    for section in {**contracts[0], **contracts[1]}:
        x, y = contracts[0].get(section), contracts[1].get(section)  # a section can be absent from the contract
        if x == y:
            continue
        if not isinstance(x, Mapping) or not isinstance(y, Mapping):
            yield Cause("config", section, _text(x), _text(y), change=Change({section: y}))
        elif any(x.get(tag) != y.get(tag) for tag in _TAGS.get(section, ())):
            tag = next(tag for tag in _TAGS[section] if x.get(tag) != y.get(tag))
            change = Change({section: b.header["config"][section]})
            yield Cause("config", f"{section}.{tag}", _text(x.get(tag)), _text(y.get(tag)), change=change)
        else:
            for key in sorted({*x, *y}):
                if x.get(key, MISSING) != y.get(key, MISSING):
                    kind = _NUMERICS.get(key, "config") if section == "numerics" else "config"
                    name = f"{section}.{key}"
                    yield Cause(
                        kind, name, _text(x.get(key)), _text(y.get(key)), change=Change({name: y.get(key, MISSING)})
                    )


def _settings(a: RunFolder, b: RunFolder) -> Iterator[Cause]:
    """What differs between the settings of two loops that are not ours; the command line is what carries them."""
    x, y = (_flat(run.header["config"] | {"seed": run.header["seed"]}) for run in (a, b))
    different = [name for name in sorted({*x, *y}) if x.get(name, MISSING) != y.get(name, MISSING)]
    commands = [run.header["command"] or {"arguments": [], "hash_seed": None} for run in (a, b)]
    lines = [" ".join(command["arguments"]) for command in commands]
    if lines[0] == lines[1]:
        for name in different:
            yield Cause("config", name, _text(x.get(name)), _text(y.get(name)))
    else:
        change = Change(command=True) if all(lines) else None
        shown = [
            ", ".join(_text(values.get(name)) for name in different) or line
            for values, line in ((x, lines[0]), (y, lines[1]))
        ]
        yield Cause("config", ", ".join(different) or "command line", shown[0], shown[1], change=change)
    seeds = [command["hash_seed"] for command in commands]
    if seeds[0] != seeds[1]:
        change = None if seeds[1] is None else Change(variables={"PYTHONHASHSEED": seeds[1]})
        yield Cause("variable", "PYTHONHASHSEED", _text(seeds[0]), _text(seeds[1]), change=change)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one of dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = isinstance(value, Mapping) and value
        found |= _flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return found


def _data(a: RunFolder, b: RunFolder) -> Iterator[Cause]:
    """Other data behind the same data section; where the section differs, that is the suspect."""
    x, y = a.header, b.header
    if x["data_digest"] == y["data_digest"] or a.recipe.contract()["data"] != b.recipe.contract()["data"]:
        return
    paths = {f"data.{name}": y["config"]["data"][name] for name in _PATHS if name in y["config"]["data"]}
    splits = [name for name in x["data"]["splits"] if x["data"]["splits"].get(name) != y["data"]["splits"].get(name)]
    named = keys.describe(keys.compare(a.data_keys(), b.data_keys()), x["data"]["source"])
    yield Cause(
        "data",
        "; ".join(named[:3]) or (f"the splits {', '.join(splits)}" if splits else "how the data are prepared"),
        _described(x["data"], splits),
        _described(y["data"], splits),
        change=Change(paths),
    )
    for name in sorted({*x["data"]["versions"], *y["data"]["versions"]}):
        versions = x["data"]["versions"].get(name), y["data"]["versions"].get(name)
        if versions[0] != versions[1]:
            yield Cause("package", name, _text(versions[0]), _text(versions[1]))


def _described(data: Mapping[str, Any], splits: list[str]) -> str:
    parts = [
        f"{name}: {data['splits'][name]['examples']} examples, digest {data['splits'][name]['digest']}"
        for name in splits
        if name in data["splits"]
    ]
    return "; ".join(parts) or "other preprocessing"


def _code(a: RunFolder, b: RunFolder) -> Iterator[Cause]:
    changed = changed_files(a.header["code"]["files"], b.header["code"]["files"])
    if changed:
        shown = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        lines = _first_changed_lines(a, b, changed[0])
        yield Cause("code", shown, *lines, change=Change(code=True))


def _first_changed_lines(a: RunFolder, b: RunFolder, name: str) -> tuple[str, str]:
    """The first place where a source file differs, as each run had it."""
    x, y = (code.read_archive(run.path / "code.zip", run.header["code"]).get(name) for run in (a, b))
    if x is None or y is None:
        return "absent" if x is None else "present", "absent" if y is None else "present"
    lines = (text.decode(errors="replace").splitlines() for text in (x, y))
    for number, (here, there) in enumerate(zip_longest(*lines, fillvalue=""), start=1):
        if here != there:
            return f"line {number}: {here.strip()}", f"line {number}: {there.strip()}"
    return "other line ends", "other line ends"


def changed_files(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """Source files that are not the same in two runs; what only one of them imported of glassrun does not count."""
    both = {name for name in a if name in b and a[name] != b[name]}
    alone = {name for name in a.keys() ^ b.keys() if not name.startswith("glassrun/")}
    return sorted(both | alone)


def _environment(a: RunFolder, b: RunFolder) -> Iterator[Cause]:
    x, y = a.header["environment"], b.header["environment"]
    for name, kind in (("python", "package"), ("platform", "machine")):
        if x[name] != y[name]:
            yield Cause(kind, name, _text(x[name]), _text(y[name]))
    yield from _packages(x["packages"], y["packages"])
    implied = _implied(a, b)
    for name in sorted({*x["numerics"], *y["numerics"]} - {"torch", "numpy", "variables", *implied}):
        values = x["numerics"].get(name), y["numerics"].get(name)
        if values[0] != values[1]:
            settable = name in _SETTABLE and a.header["kind"] == b.header["kind"] == RECORDED
            change = Change(flags={name: values[1]}) if settable else None
            yield Cause(_KINDS.get(name, "machine"), name, _text(values[0]), _text(values[1]), change=change)
    variables = x["numerics"]["variables"], y["numerics"]["variables"]
    for name in sorted({*variables[0], *variables[1]} - implied):
        values = variables[0].get(name), variables[1].get(name)
        if values[0] != values[1]:
            change = None if values[1] is None else Change(variables={name: values[1]})
            yield Cause("variable", name, _text(values[0]), _text(values[1]), change=change)


# Settings that the loop of another program can be given as it begins (see `record.rerun`).
_SETTABLE = ("threads", "float32_matmul_precision", "flush_denormal", "deterministic_algorithms")
_KINDS = {"threads": "threads", "cpu_capability": "isa"} | dict.fromkeys(_SETTABLE[1:], "flag")


def _implied(a: RunFolder, b: RunFolder) -> set[str]:
    """What follows from a field of `numerics` that differs: the field is the suspect."""
    found: set[str] = set()
    if RECORDED in (a.header["kind"], b.header["kind"]):
        return found
    x, y = a.recipe.numerics, b.recipe.numerics
    if x.threads != y.threads:
        found |= {"threads", "OMP_NUM_THREADS", "MKL_NUM_THREADS"}
    if x.isa != y.isa:
        found |= {"cpu_capability", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR"}
    if x.float32_matmul_precision != y.float32_matmul_precision:
        found.add("float32_matmul_precision")
    return found


def _packages(a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[Cause]:
    """Packages of another version, or that only one run's environment had; those that compute first."""
    different = [name for name in sorted({*a, *b}) if a.get(name) != b.get(name)]
    for name in sorted(different, key=lambda name: name not in _COMPUTE):
        yield Cause("package", name, _text(a.get(name)), _text(b.get(name)))


def _text(value: Any) -> str:
    return "absent" if value is None else str(value)
