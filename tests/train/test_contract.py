"""DESIGN section 3: what must move no bit, each sentence with real worker processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import glassrun as api
from in_process import trained
from support import Made, bits_of, glassrun

pytestmark = pytest.mark.usefixtures("warm_workers")

NAMES = ("odd-cnn", "odd-lm", "odd-pairs")


@pytest.fixture(scope="module")
def reference(made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Each small recipe on one worker, in this process: what it imported and computed before moves no bit, either."""
    folder = tmp_path_factory.mktemp("reference")
    return {name: bits_of(trained(made.recipe(name), folder / name).path) for name in NAMES}


LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("name", "workers"),
    [
        ("odd-cnn", 2),
        ("odd-lm", 2),
        ("odd-pairs", 4),
        pytest.param("odd-cnn", 4, marks=LONG),
        pytest.param("odd-lm", 4, marks=LONG),
        pytest.param("odd-pairs", 2, marks=LONG),
    ],
)
def test_number_of_workers(
    name: str, workers: int, made: Made, reference: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    api.train(made.recipe(name), out=tmp_path / "run", workers=workers)
    assert bits_of(tmp_path / "run") == reference[name]


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("odd-llama", {}),
        ("odd-lm", {"positions": "t5", "activation": "geglu"}),
        ("odd-lm", {"positions": "relative", "activation": "relu2"}),
        ("odd-lm", {"positions": "alibi", "activation": "swiglu"}),
        ("odd-lm", {"positions": "none", "activation": "gelu-tanh"}),
        ("odd-encoder", {}),
        ("odd-encoder", {"positions": "rotary", "norm": "pre"}),
        ("odd-vit", {}),
        ("odd-vit", {"pooling": "mean"}),
        ("odd-pairs", {"positions": "t5", "norm": "post"}),
        ("odd-pairs", {"positions": "relative", "activation": "silu"}),
    ],
    ids=str,
)
def test_number_of_workers_with_every_block(name: str, model: dict[str, Any], made: Made, tmp_path: Path) -> None:
    recipe = made.recipe(name, **{f"model.{field}": value for field, value in model.items()})
    runs = [api.train(recipe, out=tmp_path / str(workers), workers=workers) for workers in (1, 2)]
    assert bits_of(runs[0].path) == bits_of(runs[1].path)
    assert runs[0].replay(workers=4)


def test_slices_by_length(made: Made, tmp_path: Path) -> None:
    """Another run than without, but the same on any number of workers; the first batch's loss is the same to rounding,
    since it holds the same examples."""
    recipe = made.recipe("odd-pairs", **{"model.dropout": 0.0, "batch.by_length": True})
    run = trained(recipe, tmp_path / "1")
    assert bits_of(run.path) == bits_of(api.train(recipe, out=tmp_path / "2", workers=2).path)
    unsorted = trained(recipe, tmp_path / "unsorted", batch__by_length=False)
    assert unsorted.ledger[0].step.loss == pytest.approx(run.ledger[0].step.loss, rel=1e-6)
    assert unsorted.ledger[0].chain != run.ledger[0].chain


@pytest.mark.parametrize(
    "numerics", [{"precision": "bfloat16"}, pytest.param({"threads": 2}, marks=pytest.mark.long)], ids=str
)
def test_number_of_workers_with_other_numerics(numerics: dict[str, Any], made: Made, tmp_path: Path) -> None:
    """Other numerics are another run; autocast and its casts are each slice's own."""
    recipe = made.recipe("odd-cnn", numerics=numerics)
    runs = [trained(recipe, tmp_path / "1"), api.train(recipe, out=tmp_path / "2", workers=2)]
    assert bits_of(runs[0].path) == bits_of(runs[1].path)


@pytest.mark.parametrize("hash_seed", ["4242", pytest.param("0", marks=pytest.mark.long)])
def test_hash_seed(hash_seed: str, made: Made, reference: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """Of the command line's process, whose workers start as everybody's do."""
    recipe = made.file("odd-pairs")
    done = glassrun("train", recipe, "--out", tmp_path / "run", "--workers", 2, PYTHONHASHSEED=hash_seed)
    assert done.code == 0, done.err
    assert bits_of(tmp_path / "run") == reference["odd-pairs"]


def test_loading_workers(made: Made, reference: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    trained(made.recipe("odd-lm", **{"data.workers": 3}), tmp_path / "run")
    assert bits_of(tmp_path / "run") == reference["odd-lm"]


def test_where_the_data_lie_and_what_the_run_is_called(
    made: Made, reference: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere" / "another name.text"
    moved.parent.mkdir()
    moved.write_bytes((made.folder / "text.txt").read_bytes())
    trained(made.recipe("odd-lm", name="other", **{"data.path": str(moved)}), tmp_path / "run")
    assert bits_of(tmp_path / "run") == reference["odd-lm"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train.eval_every", 5),
        ("train.checkpoint_every", 3),
        ("train.keep_checkpoints", 1),
        ("record", {"every": 4}),
    ],
)
def test_how_often_it_evaluates_checkpoints_and_keeps_detail(
    field: str, value: Any, made: Made, reference: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    trained(made.recipe("odd-cnn", **{field: value}), tmp_path / "run")
    found = bits_of(tmp_path / "run")
    for what in ("chain", "parameters", "steps"):
        assert found[what] == reference["odd-cnn"][what]
    last = reference["odd-cnn"]["metrics"].splitlines()[-1]
    assert found["metrics"].splitlines()[-1] == last


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", 8), ("optimizer.lr", 4e-3), ("batch", {"size": 12, "shards": 2}), ("model.dropout", 0.4)],
)
def test_contract_fields_do_move_bits(
    field: str, value: Any, made: Made, reference: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    trained(made.recipe("odd-cnn", **{field: value}), tmp_path / "run")
    assert bits_of(tmp_path / "run")["chain"] != reference["odd-cnn"]["chain"]


SHIPPED = {
    "digits-cnn": {},
    "dates-transformer": {"data.examples": 1500},
    "python-lm": {},
    "shakespeare-char": {"data.path": "text.txt"},
}


@pytest.mark.long
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_on_1_2_and_4_workers_and_replayed(name: str, made: Made, tmp_path: Path) -> None:
    overrides = SHIPPED[name] | {"train.steps": 3}
    if "data.path" in overrides:
        overrides["data.path"] = str(made.folder / "text.txt")
    found = []
    for workers in (1, 2, 4):
        run = api.train(name, overrides, out=tmp_path / str(workers), workers=workers)
        found.append(bits_of(run.path))
    assert found[0] == found[1] == found[2]
    replayed = run.replay(workers=2)
    assert replayed
    assert replayed.identical == 3


@pytest.mark.long
def test_random_seed_is_drawn_recorded_and_replayed(made: Made, tmp_path: Path) -> None:
    runs = [api.train(made.recipe("odd-lm", seed="random"), out=tmp_path / str(i), workers=1) for i in range(2)]
    seeds = [run.recipe.seed for run in runs]
    assert seeds[0] != seeds[1]
    assert all(isinstance(seed, int) for seed in seeds)
    assert runs[0].replay(workers=2)
    again = api.train(runs[0].path / "config.yaml", out=tmp_path / "again", workers=2)
    assert bits_of(again.path) == bits_of(runs[0].path)
