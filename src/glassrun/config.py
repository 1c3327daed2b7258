"""The recipe: typed, frozen, strictly validated, and turned into the canonical text that its digest is taken over.

A recipe is YAML 1.2 or JSON. `load` reads one by name or path and applies overrides; `Recipe` is the result. Fields
marked `Free` may differ between runs that must have the same bits (where data lies, how often something is written):
they stay out of `contract`, all others are in it. The larger sections have files of their own in `sections`.
"""

from __future__ import annotations

import io
import json
import re
import secrets
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML

from glassrun.digest import digest_value
from glassrun.errors import ConfigError, nearest
from glassrun.identity import Free, IfGiven
from glassrun.models.arguments import ARGUMENTS, ROTARY_SCALINGS, Arguments, LlamaArguments
from glassrun.plain import parse_yaml, plain_values
from glassrun.sections.augment import AUGMENTATIONS, Mixup
from glassrun.sections.base import Count, Section, Share
from glassrun.sections.data import (
    DATA,
    HUB_TASKS,
    Bpe,
    Data,
    DatesData,
    HubData,
    HubImages,
    HubPairs,
    HubText,
    ImagesData,
    PairsBpe,
    PairsData,
    SentencesData,
    TokenizerFile,
)
from glassrun.sections.optimizers import OPTIMIZERS, AdamW, Optimizer
from glassrun.sections.schedules import SCHEDULES, Schedule, WarmupCosine, WarmupStableDecay

TASK_SOURCES = {
    "classify": ("digits", "images", "hub"),
    "language-model": ("text", "python-topics", "hub"),
    "masked-language-model": ("text", "python-topics", "hub"),
    "translate": ("pairs", "dates", "sentences", "hub"),
}
TASK_MODELS = {
    "classify": ("cnn", "convnext", "lenet", "resnet", "vgg", "vision-transformer"),
    "language-model": ("language-model", "llama"),
    "masked-language-model": ("encoder",),
    "translate": ("encoder-decoder",),
}


# --- model -----------------------------------------------------------------------------------------------------------


class ImportedModel(BaseModel):
    """A model of the user's: `import: package.module:factory`, and whatever arguments the factory takes."""

    model_config = ConfigDict(extra="allow", frozen=True)

    import_: Annotated[str, Field(alias="import", pattern=r"^[\w.]+:[\w.]+$")]

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class ImportedTask(Section):
    """A task of the user's: `import: package.module:Task`."""

    import_: Annotated[str, Field(alias="import", pattern=r"^[\w.]+:[\w.]+$")]


# --- training --------------------------------------------------------------------------------------------------------


class Batch(Section):
    """Every global batch of `size` examples is cut into `shards` slices, the unit of arithmetic."""

    size: Count = 64
    shards: Count = 4
    evaluation_size: Count | None = None  # None: as size
    by_length: Annotated[bool, IfGiven] = False

    @model_validator(mode="after")
    def _shards_divide(self) -> Self:
        if self.shards & (self.shards - 1):
            raise ValueError(f"shards is {self.shards}; it must be a power of two (1, 2, 4, 8, …)")
        for name, size in (("size", self.size), ("evaluation_size", self.evaluation_size or self.size)):
            if size % self.shards:
                raise ValueError(
                    f"shards is {self.shards}, which does not divide {name} {size}; "
                    f"the nearest {name} that works is {max(self.shards, round(size / self.shards) * self.shards)}"
                )
        return self

    @property
    def slice_size(self) -> int:
        return self.size // self.shards


class Average(Section):
    """The exponential moving average of the weights, which evaluation and prediction then use."""

    decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999


class Train(Section):
    """How long, with which targets, and how often something is written."""

    steps: Count = 600
    label_smoothing: Annotated[Share, IfGiven] = 0.0
    eval_every: Annotated[Count, Free] = 100
    checkpoint_every: Annotated[Count, Free] = 100
    keep_checkpoints: Annotated[Count, Free] = 3


class Numerics(Section):
    """All that changes bits: where and how the arithmetic is done."""

    device: Literal["cpu"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    isa: Literal["native", "avx2"] = "native"
    float32_matmul_precision: Literal["highest", "high", "medium"] = "highest"
    compile: Literal[False] = False


class Record(Section):
    """What is written down beside the chain, which covers every step in any case.

    `every` is how often `ledger.tensors` gets the fingerprint of each tensor, `snapshots` how many times over the run
    the inside of the model is kept, as a fixed example shows it, `update_norm` whether each line of the ledger says how
    far the step moved the parameters.
    """

    every: Annotated[Count, Free] = 1
    snapshots: Annotated[int, Field(ge=0, le=1000), Free] = 0
    update_norm: Annotated[bool, Free] = False


class Mlflow(Section):
    """A run of an MLflow experiment, on the server at `uri` or where MLflow's own settings say."""

    uri: str | None = None  # None: MLFLOW_TRACKING_URI
    experiment: Annotated[str, Field(min_length=1)] | None = None  # None: the recipe's name
    checkpoint: bool = False  # whether the newest is sent, too

    @field_validator("uri")
    @classmethod
    def _no_secret(cls, uri: str | None) -> str | None:
        if uri and "@" in uri.partition("://")[2].partition("/")[0]:
            raise ValueError(
                "a user or password in the address would be recorded with the run; put them in the environment: "
                "MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD"
            )
        return uri


class Wandb(Section):
    """A run of a Weights & Biases project; offline it becomes files that `wandb sync` sends."""

    project: Annotated[str, Field(min_length=1)] | None = None  # None: the recipe's name
    mode: Literal["offline", "online"] = "offline"
    checkpoint: bool = False  # whether the newest is sent, too


class Track(Section):
    """Who else is told of the run; after its end, trackers have `wait` seconds for what they have not sent yet."""

    mlflow: Mlflow | None = None
    wandb: Wandb | None = None
    wait: Annotated[float, Field(ge=0, le=3600)] = 10.0


KINDS: dict[str, tuple[str, Mapping[str, type[BaseModel]]]] = {
    "data": ("source", DATA),
    "model": ("kind", ARGUMENTS),
    "optimizer": ("kind", OPTIMIZERS),
    "schedule": ("kind", SCHEDULES),
}


_LINE_BREAKS = "\x85\u2028\u2029"  # line ends in YAML 1.1, which its writer still takes them for
_UNREADABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")  # what no YAML text holds unescaped, and those


class Recipe(Section):
    """What to train, on what, how. Every field has a default or is required."""

    format: ClassVar[int] = 1

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100), Free]
    seed: Annotated[int, Field(ge=0, lt=2**63)] | Literal["random"] = 1
    task: Literal["classify", "language-model", "masked-language-model", "translate"] | ImportedTask
    data: Data
    model: Arguments | ImportedModel
    batch: Batch = Batch()
    optimizer: Optimizer = AdamW()
    schedule: Schedule = WarmupCosine()
    average: Annotated[Average | None, IfGiven] = None
    train: Train = Train()
    numerics: Numerics = Numerics()
    record: Record = Record()
    track: Annotated[Track, Free] = Track()

    @field_validator("data", "model", "optimizer", "schedule", mode="plain")
    @classmethod
    def _by_kind(cls, value: Any, info: ValidationInfo) -> Any:
        """Choose the section's class by its `kind` (for data: `source`), so that each has its own fields."""
        if isinstance(value, BaseModel):
            return value
        if not isinstance(value, dict):
            raise ValueError(f"expected a mapping, found {value!r}")
        tag, classes = KINDS[str(info.field_name)]
        if info.field_name == "model" and "import" in value:
            if "kind" in value:
                raise ValueError("both kind and import are given; give one")
            return ImportedModel.model_validate(value)
        default = {"optimizer": "adamw", "schedule": "warmup-cosine"}.get(str(info.field_name))
        kind = value.get(tag, default)
        if kind is None:
            raise ValueError(f"{tag} is missing. Known: {', '.join(classes)}")
        if not isinstance(kind, str) or kind not in classes:
            raise ValueError(f"{tag} {kind!r} is not known; {nearest(str(kind), classes)}")
        return classes[kind].model_validate_json(json.dumps({tag: kind} | value))

    @model_validator(mode="after")
    def _ignores_nothing(self) -> Self:
        """A setting that has no effect with the others is an error."""
        if self.train.label_smoothing and not isinstance(self.task, str):
            raise ValueError("train.label_smoothing is for built-in tasks: one of your own computes its own loss")
        if self.batch.by_length and not _has_pairs(self.data):
            raise ValueError(
                "batch.by_length is for data of pairs of texts: there is nothing to gain where examples are of one size"
            )
        mixed = sum(isinstance(step, Mixup) for step in getattr(self.data, "augment", ()))
        target = getattr(self.data, "target", "class")
        if target != "class" and (mixed or self.train.label_smoothing):
            what = "data.augment: mixup" if mixed else "train.label_smoothing"
            raise ValueError(f"{what} is for one class an image, but data.target is {target}")
        if mixed > 1:
            raise ValueError("data.augment: mixup stands there twice; once mixes all that it can")
        if mixed:
            if self.task != "classify":
                raise ValueError("data.augment: mixup is for the task classify, whose loss takes mixed labels")
            if self.batch.slice_size == 1:
                raise ValueError(
                    f"data.augment: mixup takes partners within a slice, and size {self.batch.size} in "
                    f"{self.batch.shards} shards gives one example a slice. Take a larger size or fewer shards"
                )
        if isinstance(self.schedule, WarmupStableDecay):
            first, steps = self.schedule.warmup_steps or 0, self.train.steps
            if first + self.schedule.decay_steps > steps:
                raise ValueError(
                    f"schedule: {first} steps of warmup and {self.schedule.decay_steps} of decay do not fit into "
                    f"train.steps {steps}"
                )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if isinstance(self.task, str):
            source = getattr(self.data, "source", "")
            if source not in TASK_SOURCES[self.task]:
                raise ValueError(
                    f"task {self.task} reads data of source {' or '.join(TASK_SOURCES[self.task])}, not {source!r}"
                )
            if isinstance(self.data, HubData) and self.task not in HUB_TASKS[self.data.reads[0]]:
                raise ValueError(f"task {self.task} does not read {self.data.reads[0]} of the data section")
            kind = getattr(self.model, "kind", None)
            if kind is not None and kind not in TASK_MODELS[self.task]:
                raise ValueError(
                    f"task {self.task} trains a model of kind {' or '.join(TASK_MODELS[self.task])} (or an import), "
                    f"not {kind!r}"
                )
        return self

    def digest(self) -> str:
        """A digest over the contract fields: equal for recipes that must give the same bits on the same data."""
        return digest_value(self.contract())

    def to_yaml(self) -> str:
        """The recipe as a file; as JSON, which YAML reads too, where a text holds what YAML's writer would fold."""
        folded = json.dumps(self.plain(), indent=1, ensure_ascii=False)
        if any(character in folded for character in _LINE_BREAKS):
            return _UNREADABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", folded) + "\n"
        stream = io.StringIO()
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = None
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        yaml.width = 110
        yaml.dump(self.plain(), stream)
        return stream.getvalue()


def _has_pairs(data: Data) -> bool:
    return isinstance(data, PairsData | DatesData | SentencesData) or (
        isinstance(data, HubData) and data.pairs is not None
    )


# --- reading ---------------------------------------------------------------------------------------------------------


def shipped_recipes() -> dict[str, str]:
    """Name to YAML text of every recipe in the package."""
    folder = resources.files("glassrun.recipes")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    return {file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8") for file in files}


def load(recipe: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe by shipped name, file path or mapping, apply `overrides` (dotted key to value), validate.

    Raises:
        ConfigError: the recipe is not known, not readable, or a field is unknown or has a wrong type or value.
    """
    values, where = _read(recipe)
    for key, value in (overrides or {}).items():
        _override(values, key, value)
    return validate(values, where)


def validate(values: Mapping[str, Any], where: str) -> Recipe:
    """A plain mapping as a `Recipe`; `where` names it in error messages."""
    try:
        return _with_absolute_paths(Recipe.model_validate_json(json.dumps(plain_values(values, where))))
    except ValidationError as error:
        problems = [_problem(e, values) for e in error.errors()]
        raise ConfigError("\n".join(f"{where}: {problem}" for problem in problems)) from None


def resolve_seed(recipe: Recipe) -> Recipe:
    """Replace `seed: random` by a number drawn from the operating system."""
    if recipe.seed != "random":
        return recipe
    return recipe.model_copy(update={"seed": secrets.randbelow(2**31)})


def parse_override(text: str) -> tuple[str, Any]:
    """`section.key=value`, the value read as YAML 1.2.

    >>> parse_override("optimizer.lr=1e-3")
    ('optimizer.lr', 0.001)
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r}: expected section.key=value, for example --set train.steps=200")
    return key.strip(), parse_yaml(value, f"--set {text}")


def _read(recipe: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    if isinstance(recipe, Mapping):
        copied: dict[str, Any] = plain_values(recipe, "recipe")
        return copied, "recipe"
    shipped = shipped_recipes()
    if str(recipe) in shipped:
        return parse_yaml(shipped[str(recipe)], f"recipe {recipe}"), f"recipe {recipe}"
    path = Path(recipe)
    if not _exists(path) or not path.is_file():
        if path.suffix in (".yaml", ".yml", ".json") or "/" in str(recipe):
            raise ConfigError(f"{path}: no such file. A recipe is a YAML or JSON file or one of: {', '.join(shipped)}")
        raise ConfigError(f"recipe {str(recipe)!r} is not known; {nearest(str(recipe), shipped)}")
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, found {type(values).__name__}")
    return {"name": path.stem} | values, str(path)


def _exists(path: str | Path) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a name that nothing can have
        return False


def _override(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        if values.get(section) is None:
            values[section] = {}
        values = values[section]
        if not isinstance(values, dict):
            raise ConfigError(f"--set {key}: {section} is not a section")
    values[last] = value


def data_paths(data: Data) -> dict[str, list[str]]:
    """The files and folders that a data section names, by field; `a,b` names two, unless something is called so."""
    given = {name: getattr(data, name, None) for name in ("path", "validation", "test")}
    pairs = isinstance(data, PairsData | ImagesData)
    return {
        name: [part.strip() for part in paths.split(",")] if pairs and "," in paths and not _exists(paths) else [paths]
        for name, paths in given.items()
        if paths
    }


def _with_absolute_paths(recipe: Recipe) -> Recipe:
    """Data paths as absolute ones, so that a run can be resumed from any folder; `a,b` names two data files."""

    paths = {name: ",".join(map(_absolute, parts)) for name, parts in data_paths(recipe.data).items()}
    lock = getattr(recipe.data, "lock", None)
    if lock:
        paths["lock"] = _absolute(lock)
    changed: dict[str, Any] = {**paths}
    changed |= _with_absolute_tokenizer(recipe.data)
    for name in HUB_TASKS if isinstance(recipe.data, HubData) else ():
        part = getattr(recipe.data, name)
        if found := _with_absolute_tokenizer(part):
            changed[name] = part.model_copy(update=found)
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=changed)}) if changed else recipe


def _with_absolute_tokenizer(section: Section | None) -> dict[str, Any]:
    """The field `tokenizer`, if it names a file."""
    tokenizer = getattr(section, "tokenizer", None)
    if not isinstance(tokenizer, TokenizerFile):
        return {}
    return {"tokenizer": tokenizer.model_copy(update={"path": _absolute(tokenizer.path)})}


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _problem(error: ErrorDetails, values: Any) -> str:
    """One line about one wrong field: where, what was expected, what was found."""
    location = [str(part) for part in error["loc"]]
    key = ".".join(part for part in location if not part.startswith(("literal[", "constrained-", "ImportedTask")))
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        known = _known_fields(values, location[:-1])
        return f"{key}: unknown key; {nearest(location[-1], known)}"
    if error["type"] == "missing":
        return f"{key}: missing, and it has no default"
    if error["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {message[0].lower()}{message[1:]}, found {error['input']!r}"


def _known_fields(values: Any, location: list[str]) -> list[str]:
    model: type[BaseModel] = Recipe
    section = values
    for part in location:
        tag, classes = KINDS.get(part, ("", {}))
        if part == "augment":
            return list(AUGMENTATIONS[values["data"]["augment"][int(location[-1])]["kind"]].model_fields)
        section = section.get(part, {}) if isinstance(section, Mapping) else {}
        if part == "task" or part.startswith("ImportedTask"):
            model = ImportedTask
        elif part in KINDS:
            default = {"optimizer": "adamw", "schedule": "warmup-cosine"}.get(part, "")
            model = classes[section.get(tag, default)]
        else:
            plain: dict[str, type[BaseModel]] = {
                "batch": Batch,
                "average": Average,
                "train": Train,
                "numerics": Numerics,
                "record": Record,
                "track": Track,
                "mlflow": Mlflow,
                "wandb": Wandb,
                "images": HubImages,
                "text": HubText,
                "pairs": HubPairs,
                "tokenizer": (PairsBpe if "pairs" in (values["data"].get("source"), *location) else Bpe)
                if section.get("kind") == "bpe"
                else TokenizerFile,
                "rotary_scaling": LlamaArguments,
                **ROTARY_SCALINGS,
            }
            model = plain[part]
    return [field.alias or name for name, field in model.model_fields.items()]
