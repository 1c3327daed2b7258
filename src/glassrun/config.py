"""The recipe: typed, frozen, strictly validated, and turned into the canonical text that its digest is taken over.

A recipe is YAML 1.2 or JSON. `load` reads one by name or path and applies overrides; `Recipe` is the result. Fields
marked `Free` may differ between runs that must have the same bits (where data lies, how often something is written):
they stay out of `contract`, all others are in it.
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

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML

from glassrun.digest import digest_value
from glassrun.errors import ConfigError, nearest
from glassrun.models.arguments import ARGUMENTS, ROTARY_SCALINGS, Arguments, LlamaArguments
from glassrun.plain import parse_yaml, plain_values

FREE = "free of the numerical contract"
Free = Field(json_schema_extra={FREE: True})

Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]


class Section(BaseModel):
    """What all sections share: unknown keys and wrong types are errors, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def contract(self) -> dict[str, Any]:
        """All fields that are part of a run's identity, as plain values."""
        return _plain(self, free=False)

    def plain(self) -> dict[str, Any]:
        """All fields as plain values, as a recipe file holds them."""
        return _plain(self, free=True)


# --- data ------------------------------------------------------------------------------------------------------------


class Data(Section):
    """Where the examples come from.

    `workers` threads prepare batches ahead; 0 prepares each when it is needed. `lock` names a file that says which
    examples they must be (see `data.lock`).
    """

    workers: Annotated[int, Field(ge=0, le=64), Free] = 0
    lock: Annotated[str | None, Free] = None


class BuiltInData(Data):
    """Data that needs no file of the user's: a path would be ignored, so it is an error."""

    path: Annotated[None, Free] = None
    validation: Annotated[None, Free] = None
    test: Annotated[None, Free] = None


class FileData(Data):
    """Data in the user's files; `validation` and `test` name files that are splits of their own."""

    path: Annotated[str | None, Free] = None
    validation: Annotated[str | None, Free] = None
    test: Annotated[str | None, Free] = None

    @model_validator(mode="after")
    def _has_a_path(self) -> Self:
        if not self.path:
            raise ValueError("path is missing: say where the data lies, for example --set data.path=FILE")
        return self


class DigitsData(BuiltInData):
    """The 1,797 handwritten digits (8 × 8) that ship in scikit-learn."""

    source: Literal["digits"]
    split: Literal["hash"] = "hash"


class ImagesData(FileData):
    """Images by class in folders, or idx files, or with a table. `image_size` scales all to so many pixels square."""

    source: Literal["images"]
    target: Literal["class", "labels", "numbers"] = "class"  # labels and numbers are in a table (CSV) in the folder
    split: Literal["official", "hash"] | None = None  # None: official where the files have a test part, else hash
    image_size: Annotated[int, Field(ge=2)] | None = None


class TextData(FileData):
    """One text, cut into windows of `context` tokens."""

    source: Literal["text"]
    split: Literal["official", "tail"] | None = None  # None: official where validation is given, else tail
    tokenizer: Literal["char", "byte"] = "char"
    context: Count = 64


class PythonTopicsData(BuiltInData):
    """The reference topics that ship with CPython (`pydoc_data.topics`), cut into windows of `context` tokens."""

    source: Literal["python-topics"]
    split: Literal["tail"] = "tail"
    tokenizer: Literal["char", "byte"] = "char"
    context: Count = 64


class PairsData(FileData):
    """Two parallel text files, `path: source,target`, a line each."""

    source: Literal["pairs"]
    split: Literal["official", "hash"] | None = None  # None: official where validation or test is given, else hash
    tokenizer: Literal["char", "byte"] = "char"
    max_length: Count = 256  # tokens; a pair with a longer side is left out, and counted in the manifest


class DatesData(BuiltInData):
    """Dates as people write them, in the languages of Babel's locale data, and their ISO form."""

    source: Literal["dates"]
    split: Literal["hash"] = "hash"
    examples: Count = 60_000
    languages: tuple[str, ...] | None = None  # None: all of `glassrun.data.dates.LANGUAGES`
    first_year: Annotated[int, Field(ge=1000, le=9999)] = 1000
    last_year: Annotated[int, Field(ge=1000, le=9999)] = 2999

    @model_validator(mode="after")
    def _has_years(self) -> Self:
        if self.last_year < self.first_year:
            raise ValueError(f"last_year is {self.last_year}, before first_year {self.first_year}")
        return self


DATA: dict[str, type[Data]] = {
    "digits": DigitsData,
    "images": ImagesData,
    "text": TextData,
    "python-topics": PythonTopicsData,
    "pairs": PairsData,
    "dates": DatesData,
}

TASK_SOURCES = {
    "classify": ("digits", "images"),
    "language-model": ("text", "python-topics"),
    "masked-language-model": ("text", "python-topics"),
    "translate": ("pairs", "dates"),
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


class AdamW(Section):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019); decay is left off norms and biases."""

    kind: Literal["adamw"] = "adamw"
    lr: NonNegative = 1e-3
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.01
    clip_norm: Positive | None = 1.0


class Adam(AdamW):
    """Adam (Kingma & Ba 2015); weight decay enters the gradient."""

    kind: Literal["adam"]  # type: ignore[assignment]
    weight_decay: NonNegative = 0.0


class SGD(Section):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"]
    lr: NonNegative = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: NonNegative = 0.0
    clip_norm: Positive | None = None

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


OPTIMIZERS: dict[str, type[Section]] = {"adamw": AdamW, "adam": Adam, "sgd": SGD}


class WarmupCosine(Section):
    """A straight line from `initial_lr` up to the optimizer's rate, then half a cosine down to `final_lr`."""

    kind: Literal["warmup-cosine"] = "warmup-cosine"
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    warmup_epochs: Annotated[float, Field(ge=0, le=1e6)] | None = None
    initial_lr: NonNegative = 0.0
    final_lr: NonNegative = 0.0

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        if self.warmup_steps is not None and self.warmup_epochs is not None:
            raise ValueError("warmup_steps and warmup_epochs are both given; give one")
        return self


class Constant(WarmupCosine):
    """The same warmup, then the optimizer's rate to the end."""

    kind: Literal["constant"]  # type: ignore[assignment]
    final_lr: None = None  # type: ignore[assignment]


SCHEDULES: dict[str, type[Section]] = {"warmup-cosine": WarmupCosine, "constant": Constant}


class Train(Section):
    """How long, and how often something is written."""

    steps: Count = 600
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
    """How often `ledger.tensors` gets the fingerprint of each tensor; the chain covers every step in any case."""

    every: Annotated[Count, Free] = 1


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
    optimizer: AdamW | SGD = AdamW()
    schedule: WarmupCosine = WarmupCosine()
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
    def _fits_together(self) -> Self:
        if isinstance(self.task, str):
            source = getattr(self.data, "source", "")
            if source not in TASK_SOURCES[self.task]:
                raise ValueError(
                    f"task {self.task} reads data of source {' or '.join(TASK_SOURCES[self.task])}, not {source!r}"
                )
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


def _plain(model: BaseModel, *, free: bool) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        extra = field.json_schema_extra
        if not free and isinstance(extra, dict) and extra.get(FREE):
            continue
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            value = _plain(value, free=free)
        result[field.alias or name] = list(value) if isinstance(value, tuple) else value
    return result | (model.__pydantic_extra__ or {})


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

    paths = {
        name: ",".join(str(Path(part).expanduser().absolute()) for part in parts)
        for name, parts in data_paths(recipe.data).items()
    }
    lock = getattr(recipe.data, "lock", None)
    if lock:
        paths["lock"] = str(Path(lock).expanduser().absolute())
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=paths)}) if paths else recipe


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
    for part in location:
        tag, classes = KINDS.get(part, ("", {}))
        section = values.get(part, {})
        if part == "task" or part.startswith("ImportedTask"):
            model = ImportedTask
        elif part in KINDS:
            default = {"optimizer": "adamw", "schedule": "warmup-cosine"}.get(part, "")
            model = classes[section.get(tag, default)]
        else:
            plain: dict[str, type[BaseModel]] = {
                "batch": Batch,
                "train": Train,
                "numerics": Numerics,
                "record": Record,
                "track": Track,
                "mlflow": Mlflow,
                "wandb": Wandb,
                "rotary_scaling": LlamaArguments,
                **ROTARY_SCALINGS,
            }
            model = plain[part]
    return [field.alias or name for name, field in model.model_fields.items()]
