"""The recipe: strict, told in the user's terms, and a digest over exactly the fields of the contract."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from glassrun import config
from glassrun.config import Recipe, load, parse_override
from glassrun.errors import ConfigError
from glassrun.models.arguments import ARGUMENTS
from glassrun.plain import parse_yaml
from glassrun.sections.data import DATA

PROPERTY = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
Values = dict[str, Any]

CLASSIFY: Values = {"name": "t", "task": "classify", "data": {"source": "digits"}, "model": {"kind": "cnn"}}
IMAGES = CLASSIFY | {"data": {"source": "images", "path": "/d"}}
LANGUAGE = {
    "name": "t",
    "task": "language-model",
    "data": {"source": "text", "path": "/d"},
    "model": {"kind": "language-model"},
}
TOPICS = LANGUAGE | {"data": {"source": "python-topics"}}
LLAMA = LANGUAGE | {"model": {"kind": "llama"}}
PAIRS = {
    "name": "t",
    "task": "translate",
    "data": {"source": "pairs", "path": "/a,/b"},
    "model": {"kind": "encoder-decoder"},
}
DATES = PAIRS | {"data": {"source": "dates"}}
SENTENCES = PAIRS | {"data": {"source": "sentences"}}
LENET, VGG, RESNET, CONVNEXT = (CLASSIFY | {"model": {"kind": kind}} for kind in ("lenet", "vgg", "resnet", "convnext"))
IMPORTED = CLASSIFY | {"model": {"import": "a.b:c", "width": 3}}

WARMUP = {"warmup_steps": 5, "initial_lr": 0.25}
# A recipe with each kind of optimizer and schedule, and another value for each of its fields.
RATE = {"lr": 0.5, "weight_decay": 0.25}
OPTIMIZERS: dict[str, Values] = {
    "adamw": RATE | {"betas": [0.9, 0.9], "eps": 1e-7},
    "adam": RATE | {"betas": [0.9, 0.9], "eps": 1e-7},
    "sgd": RATE | {"momentum": 0.5, "nesterov": True},
    "rmsprop": RATE | {"alpha": 0.5, "eps": 1e-7, "momentum": 0.5},
    "adagrad": RATE | {"eps": 1e-7},
    "nadam": RATE | {"betas": [0.9, 0.9], "eps": 1e-7, "momentum_decay": 0.5},
    "radam": RATE | {"betas": [0.9, 0.9], "eps": 1e-7},
    "adafactor": RATE | {"beta2_decay": -0.5, "smallest_scale": 0.5, "clip_update": 2.0},
    "muon": RATE | {"momentum": 0.5, "betas": [0.9, 0.9], "eps": 1e-7},
}
RISE: Values = {"warmup_steps": 3, "initial_lr": 0.1}
SCHEDULES: dict[str, tuple[Values, Values]] = {
    "warmup-cosine": ({}, RISE | {"warmup_epochs": 0.5, "final_lr": 0.1}),
    "constant": ({}, RISE | {"warmup_epochs": 0.5}),
    "linear": ({}, RISE | {"final_lr": 0.1}),
    "polynomial": ({}, RISE | {"power": 3.0, "final_lr": 0.1}),
    "inverse-square-root": (WARMUP, RISE),
    "noam": (WARMUP | {"d_model": 3}, RISE | {"d_model": 5}),
    "one-cycle": (WARMUP, RISE | {"final_lr": 0.1, "anneal": "linear", "three_phase": True}),
    "warmup-stable-decay": ({"decay_steps": 3}, RISE | {"final_lr": 0.1, "decay_steps": 5, "decay": "1-sqrt"}),
    "cosine-restarts": ({"cycle_steps": 3}, RISE | {"final_lr": 0.1, "cycle_steps": 5, "cycle_factor": 2}),
}

# Every field of every section: a recipe it stands in, its section, and another value; free ones keep the digest.
CONTRACT: list[tuple[Values, str, Values]] = [
    (CLASSIFY, "", {"seed": 2, "task": {"import": "a:T"}, "average": {}}),
    (CLASSIFY | {"average": {}}, "average", {"decay": 0.5}),
    (CLASSIFY, "data", {"augment": [{"kind": "flip"}]}),
    (IMAGES, "data", {"split": "hash", "target": "labels", "image_size": 28, "augment": [{"kind": "flip"}]}),
    (LANGUAGE, "data", {"split": "tail", "tokenizer": "byte", "context": 65}),
    (TOPICS, "data", {"tokenizer": "byte", "context": 65}),
    (PAIRS, "data", {"split": "hash", "tokenizer": "byte", "max_length": 255, "lowercase": True}),
    (DATES, "data", {"examples": 59_999, "languages": ["de"], "first_year": 1001, "last_year": 2998}),
    (SENTENCES, "data", {"examples": 19_999}),
    (
        CLASSIFY,
        "model",
        {
            "channels": [64, 32],
            "convolutions": 1,
            "kernel_size": 5,
            "pooling": "average",
            "hidden": 127,
            "dropout": 0.0,
            "memory_format": "channels_last",
        },
    ),
    (LENET, "model", {"padding": 0}),
    (
        VGG,
        "model",
        {
            "channels": [1, 2, 3, 4, 5],
            "convolutions": [2, 2, 2, 2, 2],
            "batch_norm": True,
            "hidden": 127,
            "dropout": 0.0,
        },
    ),
    (
        RESNET,
        "model",
        {
            "stem": "cifar",
            "stem_channels": 16,
            "block": "bottleneck",
            "channels": [64, 65, 66, 67],
            "blocks": [1, 1, 1, 1],
            "shortcut": "padding",
            "norm_groups": 32,
            "stochastic_depth": 0.1,
            "memory_format": "channels_last",
        },
    ),
    (
        CONVNEXT,
        "model",
        {
            "patch_size": 2,
            "channels": [1, 2, 3, 4],
            "blocks": [1, 1, 1, 1],
            "layer_scale": None,
            "stochastic_depth": 0.1,
            "final_norm_eps": 1e-12,
        },
    ),
    (
        LANGUAGE,
        "model",
        {
            "d_model": 64,
            "num_heads": 8,
            "d_ff": 511,
            "dropout": 0.1,
            "activation": "relu",
            "norm": "post",
            "positions": "sinusoidal",
            "tie_embeddings": False,
            "num_layers": 3,
            "bias": False,
        },
    ),
    (
        DATES,
        "model",
        {
            "d_model": 64,
            "num_heads": 8,
            "d_ff": 511,
            "dropout": 0.1,
            "activation": "gelu",
            "norm": "post",
            "positions": "learned",
            "tie_embeddings": False,
            "encoder_layers": 3,
            "decoder_layers": 3,
        },
    ),
    (IMPORTED, "model", {"import": "a.b:d", "width": 5, "height": 1}),
    (CLASSIFY, "batch", {"size": 128, "shards": 8, "evaluation_size": 128}),
    (PAIRS, "batch", {"by_length": True}),
    *(
        (
            CLASSIFY | {"optimizer": {"kind": kind, "clip_norm": None}},
            "optimizer",
            fields | {"clip_norm": 0.5, "clip_value": 0.5},
        )
        for kind, fields in OPTIMIZERS.items()
    ),
    *(
        (CLASSIFY | {"schedule": {"kind": kind} | needed}, "schedule", fields)
        for kind, (needed, fields) in SCHEDULES.items()
    ),
    (CLASSIFY, "train", {"steps": 601, "label_smoothing": 0.1}),
    (
        CLASSIFY,
        "numerics",
        {"precision": "bfloat16", "threads": 2, "isa": "avx2", "float32_matmul_precision": "medium"},
    ),
]
FREE: list[tuple[Values, str, Values]] = [
    (CLASSIFY, "", {"name": "other"}),
    *((recipe, "data", {"workers": 3, "lock": "/l"}) for recipe in (CLASSIFY, TOPICS, DATES, SENTENCES)),
    *(
        (recipe, "data", {"workers": 3, "lock": "/l", "path": "/e", "validation": "/v", "test": "/w"})
        for recipe in (IMAGES, LANGUAGE, PAIRS)
    ),
    (CLASSIFY, "train", {"eval_every": 7, "checkpoint_every": 7, "keep_checkpoints": 7}),
    (CLASSIFY, "record", {"every": 7, "snapshots": 7, "update_norm": True}),
    (CLASSIFY, "track", {"mlflow": {"uri": "http://127.0.0.1"}, "wandb": {"mode": "online"}, "wait": 7}),
]
# Sources whose examples are split in one way only.
ONE_SPLIT = ("digits", "python-topics", "dates", "sentences")
# Fields that have one value only, or choose the section's class, or are sections.
FIXED = {"kind", "source", "device", "compile", "data", "model", "batch", "optimizer", "schedule", "train", "numerics"}


def expand(table: list[tuple[Values, str, Values]]) -> list[tuple[Values, str, str, Any]]:
    return [(recipe, section, name, value) for recipe, section, changes in table for name, value in changes.items()]


def changed(recipe: Values, section: str, name: str, value: Any) -> Values:
    if not section:
        return recipe | {name: value}
    return recipe | {section: recipe.get(section, {}) | {name: value}}


def yaml_file(tmp_path: Path, text: str, name: str = "r.yaml") -> Path:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


# --- the contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("recipe", "section", "name", "value"), expand(CONTRACT))
def test_a_contract_field_changes_the_digest(recipe: Values, section: str, name: str, value: Any) -> None:
    assert load(changed(recipe, section, name, value)).digest() != load(recipe).digest()


@pytest.mark.parametrize(("recipe", "section", "name", "value"), expand(FREE))
def test_a_free_field_does_not_change_the_digest(recipe: Values, section: str, name: str, value: Any) -> None:
    other = load(changed(recipe, section, name, value))
    assert other.plain() != load(recipe).plain()
    assert other.digest() == load(recipe).digest()


@pytest.mark.parametrize(
    "recipe", [CLASSIFY, IMAGES, LENET, VGG, RESNET, CONVNEXT, LANGUAGE, TOPICS, PAIRS, DATES, SENTENCES]
)
def test_every_field_is_in_one_of_the_two_tables(recipe: Values) -> None:
    """So that a new field must be put in one, and is tested there."""
    loaded = load(recipe)
    listed = {(section, name) for _, section, name, _ in expand(CONTRACT + FREE)}
    for name in Recipe.model_fields:
        section = getattr(loaded, name)
        fields = type(section).model_fields if isinstance(section, BaseModel) else {}
        for field in fields:
            value = getattr(section, field)
            one_value = value is None and field in ("path", "validation", "test")
            if name == "data" and field == "split" and recipe["data"]["source"] in ONE_SPLIT:
                one_value = True
            assert one_value or field in FIXED or (name, field) in listed, f"{name}.{field}"
        assert fields or name in FIXED or ("", name) in listed, name


def test_so_are_the_fields_of_every_kind() -> None:
    assert (OPTIMIZERS.keys(), SCHEDULES.keys()) == (config.OPTIMIZERS.keys(), config.SCHEDULES.keys())
    for kind, fields in OPTIMIZERS.items():
        assert {"kind", "clip_norm", "clip_value", *fields} == set(config.OPTIMIZERS[kind].model_fields)
    for kind, (_, fields) in SCHEDULES.items():
        assert {"kind", "warmup_epochs", *fields} == {"warmup_epochs", *config.SCHEDULES[kind].model_fields}


# Of the recipes as they were before there were `average`, `augment`, `label_smoothing` and `clip_value`.
BEFORE = {
    "dates-transformer": "e5606ae26fc9013194a265595cc52edd",
    "digits-cnn": "54eaa95e8a894752b4ce0df53852ef15",
    "python-lm": "ed43f4fa68a1b4f0a372fdc823d1822f",
    "shakespeare-char": "803b857643b05c18c693eff4d8d6f2ee",
}


@pytest.mark.parametrize("name", BEFORE)
def test_what_is_extra_changes_no_run_without_it(name: str) -> None:
    recipe = load(name, {"data.path": "/d"} if name == "shakespeare-char" else {})
    assert recipe.digest() == BEFORE[name]
    assert recipe.plain()["average"] is None
    assert "average" not in recipe.contract()


def test_the_kind_is_part_of_the_contract() -> None:
    digests = {load(CLASSIFY | {"optimizer": {"kind": kind, "lr": 0.1}}).digest() for kind in config.OPTIMIZERS}
    assert len(digests) == len(config.OPTIMIZERS)
    assert load(CLASSIFY | {"schedule": {"kind": "constant"}}).digest() != load(CLASSIFY).digest()


def test_defaults_written_out_are_the_same_recipe() -> None:
    for recipe in (CLASSIFY, IMAGES, LANGUAGE, TOPICS, PAIRS, DATES, IMPORTED):
        assert load(load(recipe).plain()).digest() == load(recipe).digest()


# --- round trip ------------------------------------------------------------------------------------------------------


def round_trip(recipe: Recipe) -> Recipe:
    return config.validate(parse_yaml(recipe.to_yaml(), "yaml"), "yaml")


@pytest.mark.parametrize(("recipe", "section", "name", "value"), expand(CONTRACT + FREE))
def test_config_yaml_is_the_same_recipe(recipe: Values, section: str, name: str, value: Any) -> None:
    loaded = load(changed(recipe, section, name, value))
    assert round_trip(loaded) == loaded
    assert round_trip(loaded).digest() == loaded.digest()


@PROPERTY
@given(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,9}\Z"))
def test_any_name_survives(name: str) -> None:
    assert round_trip(load(CLASSIFY | {"name": name})).name == name


@pytest.mark.parametrize(
    "name",
    ["no", "yes", "on", "null", "Null", "true", "1", "017", "0o17", "0x1F", "1e3", "1E3", "1.5", "1e-3", "1_000", "1.",
     "2020-01-01", "2020-01-01T00.00", "0b1", "1.e5", "nan", "inf", "y", "N", "9e99999"],
)  # fmt: skip
def test_names_that_look_like_something_else_survive(name: str) -> None:
    assert round_trip(load(CLASSIFY | {"name": name})).name == name


@PROPERTY
@given(st.floats(0, allow_nan=False, allow_infinity=False), st.floats(0, 1, exclude_max=True))
def test_any_float_survives_to_the_bit(rate: float, beta: float) -> None:
    recipe = load(CLASSIFY | {"optimizer": {"lr": rate, "betas": [beta, 0.5]}})
    found = round_trip(recipe).optimizer
    assert (found.lr.hex(), found.betas[0].hex()) == (rate.hex(), beta.hex())  # type: ignore[union-attr]


@PROPERTY
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0,"), min_size=1, max_size=12).filter(str.strip))
def test_any_path_survives(path: str) -> None:
    recipe = load(IMAGES | {"data": {"source": "images", "path": f"/d/{path}"}})
    assert round_trip(recipe).data == recipe.data


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load(PAIRS | {"data": {"source": "pairs", "path": "a.txt, b.txt", "test": "/t"}})
    assert recipe.data.path == f"{tmp_path}/a.txt,{tmp_path}/b.txt"  # type: ignore[attr-defined]
    assert recipe.data.test == "/t"  # type: ignore[attr-defined]


# --- unknown keys and wrong types ------------------------------------------------------------------------------------

SECTIONS = [
    (CLASSIFY, ""), (CLASSIFY, "data"), (IMAGES, "data"), (LANGUAGE, "data"), (TOPICS, "data"), (PAIRS, "data"),
    (DATES, "data"), (CLASSIFY, "model"), (LANGUAGE, "model"), (LLAMA, "model"), (DATES, "model"),
    (CLASSIFY, "batch"),
    (CLASSIFY, "optimizer"), (CLASSIFY | {"optimizer": {"kind": "adam"}}, "optimizer"),
    (CLASSIFY | {"optimizer": {"kind": "sgd"}}, "optimizer"), (CLASSIFY | {"optimizer": {"kind": "muon"}}, "optimizer"),
    (CLASSIFY, "schedule"), (CLASSIFY | {"schedule": {"kind": "constant"}}, "schedule"), (CLASSIFY, "train"),
    (CLASSIFY | {"schedule": {"kind": "noam", "warmup_steps": 3, "d_model": 5}}, "schedule"), (CLASSIFY, "numerics"),
    (CLASSIFY, "record"), (CLASSIFY | {"average": {}}, "average"),
]  # fmt: skip


def refused(recipe: Any, overrides: Values | None = None) -> str:
    """The message of the ConfigError, one line for each problem, each with where it is."""
    with pytest.raises(ConfigError) as caught:
        load(recipe, overrides)
    return str(caught.value)


def test_an_unknown_key_of_a_scaling_gives_the_nearest_known_one() -> None:
    scaling = {"kind": "llama3", "factr": 2.0, "original_length": 8}
    message = refused(LLAMA | {"model": {"kind": "llama", "rotary_scaling": scaling}})
    assert "model.rotary_scaling.llama3.factr: unknown key; did you mean 'factor'? Known: factor, hig" in message
    found = load(LLAMA | {"model": {"kind": "llama", "rotary_scaling": {"kind": "linear", "factor": 2}}})
    assert found.contract()["model"]["rotary_scaling"] == {"kind": "linear", "factor": 2.0}
    assert round_trip(found) == found


@pytest.mark.parametrize(("recipe", "section"), SECTIONS)
def test_an_unknown_key_gives_the_nearest_known_one(recipe: Values, section: str) -> None:
    loaded = load(recipe)
    fields = type(getattr(loaded, section) if section else loaded).model_fields
    for field in fields:
        misspelt = f"{field}{field[-1]}"
        message = refused(changed(recipe, section, misspelt, 1))
        assert f"recipe: {section + '.' if section else ''}{misspelt}: unknown key" in message
        assert f"did you mean {field!r}?" in message
        for known in fields:
            assert known in message


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        ({"kind": "flip"}, "data.augment: input should be a valid array"),
        ([3], "data.augment.0: expected a mapping with a kind, found 3"),
        ([{"kind": "flip"}, {}], "data.augment.1: expected a mapping with a kind"),
        ([{"kind": ["flip"]}], "data.augment.0: expected a mapping with a kind"),
        ([{"kind": "flipp"}], "did you mean 'flip'? Known: crop, cutout, flip, mixup, shift"),
        ([{"kind": "cutout", "size": 3, "sice": 3}], "data.augment.0.sice: unknown key; did you mean 'size'?"),
        ([{"kind": "crop"}], "data.augment.0.padding: missing"),
        ([{"kind": "mixup", "alpha": 0}], "data.augment.0.alpha: input should be greater than 0"),
    ],
)
def test_an_augmentation_of_another_form(augment: Any, words: str) -> None:
    assert words in refused(CLASSIFY, {"data.augment": augment})
    assert words in refused(IMAGES, {"data.augment": augment})


def test_an_unknown_key_beside_an_imported_task() -> None:
    assert "task.extra" in refused(CLASSIFY | {"task": {"import": "a:T", "extra": 1}})


@pytest.mark.parametrize(
    ("section", "tag", "known"),
    [
        ("data", "source", DATA),
        ("model", "kind", ARGUMENTS),
        ("optimizer", "kind", config.OPTIMIZERS),
        ("schedule", "kind", config.SCHEDULES),
    ],
)
def test_an_unknown_kind(section: str, tag: str, known: Values) -> None:
    for name in known:
        message = refused(changed(CLASSIFY, section, tag, name + name[-1]))
        assert f"recipe: {section}: {tag}" in message
        assert f"did you mean {name!r}?" in message
    for value in (3, None, True, ["cnn"], {"a": 1}, 1.5, ""):
        assert f"recipe: {section}" in refused(changed(CLASSIFY, section, tag, value))


@pytest.mark.parametrize("section", ["data", "model", "batch", "optimizer", "schedule", "train", "numerics", "record"])
@pytest.mark.parametrize("value", [None, 3, "x", [1], True])
def test_a_section_that_is_no_mapping(section: str, value: Any) -> None:
    assert f"recipe: {section}: " in refused(CLASSIFY | {section: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "1"), ("seed", 1.0), ("seed", True), ("seed", -1), ("seed", 2**63), ("seed", None), ("seed", "randm"),
        ("name", 3), ("name", ""), ("name", "a/b"), ("name", ".a"), ("name", "a b"), ("name", "a" * 101),
        ("name", None),
        ("task", "clasify"), ("task", 3), ("task", None), ("task", {}), ("task", {"import": "no colon"}),
        ("batch.size", 0), ("batch.size", "64"), ("batch.size", 64.0), ("batch.size", True), ("batch.shards", 0),
        ("batch.shards", 3), ("optimizer.lr", "fast"), ("optimizer.lr", -1), ("optimizer.lr", float("nan")),
        ("optimizer.lr", float("inf")), ("optimizer.lr", True), ("optimizer.betas", 0.9), ("optimizer.betas", [0.9]),
        ("optimizer.betas", [0.9, 0.9, 0.9]), ("optimizer.betas", [0.9, 1.0]), ("optimizer.eps", 0),
        ("optimizer.clip_norm", 0), ("schedule.warmup_steps", -1), ("schedule.warmup_steps", 1.5),
        ("train.steps", 0), ("train.steps", "many"), ("train.steps", 1e3), ("train.eval_every", 0),
        ("numerics.device", "gpu"), ("numerics.precision", "float16"), ("numerics.threads", 0), ("numerics.isa", "sse"),
        ("numerics.compile", True), ("record.every", 0), ("record.snapshots", -1),
        ("data.workers", -1), ("data.workers", 65),
        ("data.path", "/ignored"), ("data.split", "tail"), ("model.kernel_size", 2), ("model.channels", []),
        ("model.channels", [0]), ("model.channels", 32), ("model.dropout", 1.0), ("model.pooling", "min"),
    ],
)  # fmt: skip
def test_a_wrong_type_or_value(key: str, value: Any) -> None:
    message = refused(CLASSIFY, {key: value})
    assert all(line.startswith("recipe: ") for line in message.splitlines())
    assert key.rpartition(".")[2] in message or f"{key.partition('.')[0]}: " in message


def test_all_problems_are_told_at_once() -> None:
    message = refused(CLASSIFY, {"train.steps": 0, "train.stpes": 3, "batch.size": "x"})
    assert len(message.splitlines()) == 3


@pytest.mark.parametrize("name", ["name", "task", "data", "model"])
def test_a_missing_section(name: str) -> None:
    assert (
        refused({k: v for k, v in CLASSIFY.items() if k != name}) == f"recipe: {name}: missing, and it has no default"
    )


def test_what_is_not_finite_beside_an_imported_model() -> None:
    """It has no canonical text, so it can have no digest."""
    assert "width" in refused(IMPORTED, {"model.width": float("nan")})


def test_an_imported_model_takes_any_argument_and_no_kind() -> None:
    recipe = load(IMPORTED | {"model": {"import": "a.b:c", "width": 3, "names": ["x", {"y": None}]}})
    assert recipe.model.arguments == {"width": 3, "names": ["x", {"y": None}]}  # type: ignore[union-attr]
    assert round_trip(recipe) == recipe
    assert "both kind and import" in refused(IMPORTED, {"model.kind": "cnn"})
    assert "model.import" in refused(IMPORTED, {"model.import": "a b"})


def test_a_recipe_does_not_change_afterwards() -> None:
    recipe = load(CLASSIFY)
    for section, name in ((recipe, "seed"), (recipe.train, "steps"), (recipe.model, "hidden")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(section, name, 3)


# --- what must fit together ------------------------------------------------------------------------------------------


@PROPERTY
@given(st.integers(1, 96), st.integers(1, 96))
def test_heads_that_do_not_divide(d_model: int, heads: int) -> None:
    values = {"kind": "language-model", "d_model": d_model, "num_heads": heads}
    if d_model % heads == 0:
        assert load(LANGUAGE | {"model": values}).model.num_heads == heads  # type: ignore[union-attr]
        return
    message = refused(LANGUAGE | {"model": values})
    assert f"num_heads is {heads}, which does not divide d_model {d_model}" in message
    offered = int(message.rpartition(" ")[2])
    assert d_model % offered == 0
    assert abs(offered - heads) == min(abs(h - heads) for h in range(1, d_model + 1) if d_model % h == 0)


@PROPERTY
@given(st.integers(1, 200), st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from(["size", "evaluation_size"]))
def test_shards_that_do_not_divide(size: int, shards: int, field: str) -> None:
    values = {"size": 64, "shards": shards} | {field: size}
    if size % shards == 0:
        assert getattr(load(CLASSIFY | {"batch": values}).batch, field) == size
        return
    message = refused(CLASSIFY | {"batch": values})
    assert f"shards is {shards}, which does not divide {field} {size}" in message
    offered = int(message.rpartition(" ")[2])
    assert offered > 0
    assert offered % shards == 0
    assert abs(offered - size) <= max(shards // 2, shards - size)


@pytest.mark.parametrize("shards", [3, 5, 6, 7, 12])
def test_shards_are_a_power_of_two(shards: int) -> None:
    assert "power of two" in refused(CLASSIFY | {"batch": {"size": shards * 4, "shards": shards}})


RECIPES = {"classify": CLASSIFY, "language-model": LANGUAGE, "translate": DATES}


@pytest.mark.parametrize("task", RECIPES)
@pytest.mark.parametrize("other", RECIPES)
def test_task_source_and_model_fit_together(task: str, other: str) -> None:
    if task == other:
        assert load(RECIPES[task]).task == task
        return
    assert f"task {task} reads data of source" in refused(RECIPES[task] | {"data": RECIPES[other]["data"]})
    assert f"task {task} trains a model of kind" in refused(RECIPES[task] | {"model": RECIPES[other]["model"]})


def test_an_imported_task_or_model_fits_any() -> None:
    assert load(CLASSIFY | {"task": {"import": "a:T"}, "data": {"source": "dates"}}).digest()
    assert load(LANGUAGE | {"model": {"import": "a:f"}}).digest()


@pytest.mark.parametrize(
    ("recipe", "overrides", "words"),
    [
        (CLASSIFY, {"schedule.warmup_steps": 1, "schedule.warmup_epochs": 1.0}, "both given"),
        (CLASSIFY | {"schedule": {"kind": "constant"}}, {"schedule.final_lr": 0.1}, "final_lr"),
        (CLASSIFY | {"optimizer": {"kind": "sgd", "momentum": 0}}, {"optimizer.nesterov": True}, "momentum above 0"),
        (DATES, {"data.first_year": 2000, "data.last_year": 1999}, "before first_year 2000"),
        (CLASSIFY, {"optimizer.clip_value": 0.5}, "optimizer: clip_norm and clip_value are both set"),
        *(
            (CLASSIFY, {"schedule": {"kind": kind} | more}, f"schedule: {kind} needs a warmup")
            for kind, more in (("inverse-square-root", {}), ("noam", {"d_model": 3}), ("one-cycle", {}))
        ),
        (CLASSIFY, {"schedule": {"kind": "one-cycle", "warmup_epochs": 0.0}}, "one-cycle needs a warmup"),
        (
            CLASSIFY,
            {"schedule": {"kind": "one-cycle", "warmup_steps": 3, "three_phase": True}},
            "give an initial_lr above final_lr",
        ),
        (
            CLASSIFY,
            {"schedule": {"kind": "warmup-stable-decay", "warmup_steps": 300, "decay_steps": 301}},
            "300 steps of warmup and 301 of decay do not fit into train.steps 600",
        ),
        (CLASSIFY, {"task": {"import": "a:T"}, "train.label_smoothing": 0.1}, "computes its own loss"),
        (CLASSIFY, {"task": {"import": "a:T"}, "data.augment": [{"kind": "mixup"}]}, "for the task classify"),
        (CLASSIFY, {"batch": {"size": 4, "shards": 4}, "data.augment": [{"kind": "mixup"}]}, "one example a slice"),
        (CLASSIFY, {"data.augment": [{"kind": "mixup"}, {"kind": "mixup"}]}, "mixup stands there twice"),
        (CLASSIFY, {"data.augment": [{"kind": "shift"}]}, "data.augment.0: rows and columns are both 0"),
        (CLASSIFY, {"batch.by_length": True}, "batch.by_length is for data of pairs of texts"),
        (IMAGES, {"data.path": None}, "--set data.path=FILE"),
        (IMAGES, {"data.path": ""}, "--set data.path=FILE"),
    ],
)
def test_settings_that_contradict_each_other(recipe: Values, overrides: Values, words: str) -> None:
    assert words in refused(recipe, overrides)


# --- YAML and JSON ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1E3", 1000.0), ("2.5e+1", 25.0), (".5", 0.5), ("0o17", 15), ("017", 17), ("0x1F", 31),
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("NO", "NO"), ("y", "y"), ("true", True),
        ("False", False), ("null", None), ("~", None), ("", None), ("1:30", "1:30"), ("[1, 2.0, a]", [1, 2.0, "a"]),
        ("'1'", "1"), ("{a: {b: 1}}", {"a": {"b": 1}}),
    ],
)  # fmt: skip
def test_yaml_1_2(text: str, value: Any) -> None:
    found = parse_yaml(text, "here")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    ["a: 1\na: 2", "{a: 1, a: 1}", "data: {path: x, path: y}", "[", "{a: 1", "a: b: c", "*a", "\t- x", "!!int x",
     "!!python/object/apply:os.system [ls]", "!mine x", "---\na: 1\n---\nb: 2", "\0", "!!bool x", "9" * 5000,
     "2020-13-45", "%YAML 9.0\n---\n1"],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_yaml_that_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^here: not valid YAML: "):
        parse_yaml(text, "here")


@PROPERTY
@given(st.text("[]{}:,-?&*!|>'\"%@`# \n\tab01e.~<=", max_size=30))
def test_any_text_is_values_or_a_config_error(text: str) -> None:
    try:
        parse_yaml(text, "here")
    except ConfigError as error:
        assert str(error).startswith("here: ")  # noqa: PT017


@pytest.mark.parametrize(
    "text",
    ["? [a, b]\n: c\n", "extra: &a [*a]\n", "train: &a {steps: *a}\n", "extra: " + "[" * 3000 + "]" * 3000 + "\n",
     "name: !!binary aGVsbG8=\n", "train: !!set {steps}\n", "3: 4\n", "null: 1\n"],
    ids=lambda text: text[:20].strip(),
)  # fmt: skip
def test_odd_yaml_in_a_recipe_is_told(tmp_path: Path, text: str) -> None:
    base = "task: classify\ndata: {source: digits}\nmodel: {kind: cnn}\n"
    load(yaml_file(tmp_path, base, "whole.yaml"))
    assert str(tmp_path / "r.yaml") in refused(yaml_file(tmp_path, base + text))


BOMB = """
import resource, sys
from glassrun import config
from glassrun.errors import ConfigError
resource.setrlimit(resource.RLIMIT_AS, (400 * 2**20,) * 2)
try:
    config.load(sys.argv[1])
except ConfigError as error:
    print(len(str(error)))
"""


def test_an_alias_bomb_is_refused_in_little_memory(tmp_path: Path) -> None:
    """A few hundred bytes that mean ten to the ninth strings."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    path = yaml_file(
        tmp_path, "task: classify\ndata: {source: digits}\nmodel: {kind: cnn}\n" + "\n".join(levels) + "\n"
    )
    done = subprocess.run([sys.executable, "-c", BOMB, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-300:]
    assert int(done.stdout) < 100_000


def test_a_huge_recipe_is_refused(tmp_path: Path) -> None:
    text = "task: classify\ndata: {source: digits}\nmodel: {kind: cnn}\n" + "".join(
        f"key{i}: {i}\n" for i in range(2000)
    )
    assert "key1999: unknown key" in refused(yaml_file(tmp_path, text))


@pytest.mark.parametrize("indent", [None, 1, "\t"])
def test_json_is_a_recipe_too(tmp_path: Path, indent: Any) -> None:
    values = load(CLASSIFY | {"optimizer": {"lr": 1e-5}}).plain()
    path = yaml_file(tmp_path, json.dumps(values, indent=indent), "r.json")
    assert load(path).plain() == values


def test_the_name_of_a_file_is_the_runs_name_unless_it_has_one(tmp_path: Path) -> None:
    text = "task: classify\ndata: {source: digits}\nmodel: {kind: cnn}\n"
    assert load(yaml_file(tmp_path, text, "my-run.yaml")).name == "my-run"
    assert load(yaml_file(tmp_path, text + "name: mine\n", "my-run.yaml")).name == "mine"


@pytest.mark.parametrize("text", ["", "3", "- a", "null", "# nothing\n"])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    assert "expected a mapping of sections" in refused(yaml_file(tmp_path, text))


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read as text" in refused(tmp_path / "r.yaml")


@pytest.mark.parametrize("name", ["absent.yaml", "a/b", "digits-cn", "", "a\0b", "a" * 5000], ids=lambda n: n[:12])
def test_a_recipe_that_is_not_there(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = refused(name)
    assert "digits-cnn" in message
    if name == "digits-cn":
        assert "did you mean 'digits-cnn'?" in message


def test_a_mapping_is_not_changed_by_loading() -> None:
    values = json.loads(json.dumps(CLASSIFY))
    load(values, {"train.steps": 3, "model.hidden": 5})
    assert values == CLASSIFY


# --- the shipped recipes ---------------------------------------------------------------------------------------------


OF_FILES = {"fashion-cnn", "fashion-resnet", "fashion-vit", "shakespeare-bpe", "shakespeare-char", "translate"}


@pytest.mark.parametrize("name", sorted(config.shipped_recipes()))
def test_every_shipped_recipe_validates(name: str) -> None:
    recipe = load(name, {"data.path": "/d,/e" if name == "translate" else "/d"} if name in OF_FILES else {})
    assert recipe.name == name
    assert round_trip(recipe) == recipe
    assert round_trip(recipe).digest() == recipe.digest()


def test_the_recipes_are_shipped() -> None:
    assert OF_FILES | {"digits-cnn", "dates-transformer", "python-lm"} <= set(config.shipped_recipes())
    for name in OF_FILES:
        assert "data.path" in refused(name)


# --- overrides -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("train.steps=200", "train.steps", 200),
        ("optimizer.lr=1e-3", "optimizer.lr", 1e-3),
        ("name=no", "name", "no"),
        ("data.path=a=b", "data.path", "a=b"),
        ("data.path=", "data.path", None),
        (" train.steps =3", "train.steps", 3),
        ("optimizer.betas=[0.9, 0.98]", "optimizer.betas", [0.9, 0.98]),
        ("numerics.compile=false", "numerics.compile", False),
        ("data.image_size=null", "data.image_size", None),
    ],
)
def test_parse_override(text: str, key: str, value: Any) -> None:
    found = parse_override(text)
    assert found == (key, value)
    assert type(found[1]) is type(value)


@pytest.mark.parametrize("text", ["", "train.steps", "=3", "  =3", "="])
def test_an_override_of_another_form(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected section\.key=value"):
        parse_override(text)


def test_an_override_that_is_no_yaml() -> None:
    with pytest.raises(ConfigError, match=r"--set train\.steps=\[: not valid YAML"):
        parse_override("train.steps=[")


def test_overrides_are_applied() -> None:
    recipe = load(CLASSIFY, {"train.steps": 7, "model.hidden": 5, "seed": 3, "record": {"every": 2}})
    assert (recipe.train.steps, recipe.model.hidden, recipe.seed, recipe.record.every) == (7, 5, 3, 2)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("train.stpes", "did you mean 'steps'?"),
        ("trian.steps", "did you mean 'train'?"),
        ("seed.x", "seed is not a section"),
        ("train.steps.x", "steps is not a section"),
        ("steps", "steps: unknown key"),
        ("", "unknown key"),
        (".", "unknown key"),
        ("train.", "unknown key"),
    ],
)
def test_an_override_of_an_unknown_key(key: str, words: str) -> None:
    assert words in refused(CLASSIFY | {"seed": 1, "train": {"steps": 3}}, {key: 3})


# --- the seed --------------------------------------------------------------------------------------------------------


def test_a_random_seed_is_drawn_once_and_then_a_number() -> None:
    recipe = load(CLASSIFY | {"seed": "random"})
    drawn = {config.resolve_seed(recipe).seed for _ in range(20)}
    assert len(drawn) > 15
    assert all(isinstance(seed, int) and 0 <= seed < 2**63 for seed in drawn)
    resolved = config.resolve_seed(recipe)
    assert config.resolve_seed(resolved) == resolved == round_trip(resolved)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('seed: !!int ""', "not valid YAML"),
        ('seed: !!float ""', "not valid YAML"),
        ("seed: 0x" + "f" * 5000, "seed: expected a number of at most 64 bits"),
        ("data: {source: 0x1ffffffffffffffff}", "data.source: expected a number of at most 64 bits"),
    ],
)
def test_yaml_that_means_no_usable_number(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "file.yaml")


def test_an_override_of_no_usable_number_names_it_once() -> None:
    with pytest.raises(ConfigError, match=r"^--set train\.steps=9{30}: expected a number of at most 64 bits$"):
        parse_override("train.steps=" + "9" * 30)


def test_a_warmup_beyond_all_measure_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"schedule\.warmup_epochs"):
        config.load("digits-cnn", {"schedule": {"warmup_epochs": 1e308}})
