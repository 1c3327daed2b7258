"""Suspects and their changes, from records alone."""

from __future__ import annotations

from typing import Any

import pytest

from glassrun import config
from glassrun.record.ledger import Line, Step
from glassrun.replay.causes import Cause, Change, changed_files, suspects
from glassrun.replay.records import Record, extent, first_difference

BASE: dict[str, Any] = {
    "name": "x",
    "task": "classify",
    "data": {"source": "digits"},
    "model": {"kind": "cnn", "channels": [3]},
}


class Folder:
    """What a run folder says of a run, without one."""

    def __init__(self, recipe: dict[str, Any], **header: Any) -> None:
        self.recipe = config.load(recipe)
        self.path = "nowhere"
        self.keys: dict[str, list[bytes]] = {}
        splits = {"train": {"examples": 3, "digest": "aa"}}
        self.header: dict[str, Any] = {
            "kind": "trained",
            "config": self.recipe.plain(),
            "data_digest": "d",
            "data": {"source": "images", "splits": splits, "versions": {}},
            "code": {"files": {"glassrun/a.py": "1"}},
            "environment": {
                "python": "CPython 3.11.7",
                "platform": "Linux",
                "packages": {"torch": "2.13.0", "rich": "13"},
                "numerics": {
                    "torch": "2.13.0",
                    "threads": 1,
                    "cpu_capability": "AVX512",
                    "variables": {"MKL_CBWR": "AUTO"},
                },
            },
            **header,
        }

    def data_keys(self) -> dict[str, list[bytes]]:
        return self.keys


def found(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    causes = suspects(Folder(a), Folder(b))  # type: ignore[arg-type]
    return [(cause.kind, cause.what, cause.a, cause.b) for cause in causes]


def test_equal_runs_have_no_suspects_and_free_fields_are_none() -> None:
    other = BASE | {"name": "y", "train": {"eval_every": 3}, "record": {"every": 9}}
    assert found(BASE, BASE | {"train": {}}) == []
    assert found(BASE, other) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"seed": 2}, ("config", "seed", "1", "2")),
        ({"optimizer": {"lr": 0.5}}, ("config", "optimizer.lr", "0.001", "0.5")),
        ({"optimizer": {"kind": "sgd"}}, ("config", "optimizer.kind", "adamw", "sgd")),
        ({"numerics": {"threads": 2}}, ("threads", "numerics.threads", "1", "2")),
        ({"numerics": {"isa": "avx2"}}, ("isa", "numerics.isa", "native", "avx2")),
        (
            {"numerics": {"float32_matmul_precision": "high"}},
            ("flag", "numerics.float32_matmul_precision", "highest", "high"),
        ),
        ({"model": {"import": "a:b", "width": 3}}, ("config", "model.kind", "cnn", "absent")),
    ],
)
def test_each_field_by_its_kind(change: dict[str, Any], expected: tuple[str, str, str, str]) -> None:
    assert found(BASE, BASE | change) == [expected]


def test_a_change_of_one_field_leaves_the_others() -> None:
    [cause] = suspects(Folder(BASE), Folder(BASE | {"seed": 2, "train": {"steps": 600}}))  # type: ignore[arg-type]
    assert cause.change is not None
    changed = cause.change.applied(Folder(BASE).header["config"])
    assert config.load(changed).plain() == config.load(BASE | {"seed": 2}).plain()


def test_arguments_that_only_one_model_has() -> None:
    a, b = (BASE | {"model": {"import": "a:b", **more}} for more in ({"width": 3}, {"depth": 4}))
    assert found(a, b) == [("config", "model.depth", "absent", "4"), ("config", "model.width", "3", "absent")]
    both = Change()
    for cause in suspects(Folder(a), Folder(b)):  # type: ignore[arg-type]
        assert cause.change is not None
        both = both.and_also(cause.change)
    assert both.applied(Folder(a).header["config"]) == Folder(b).header["config"]


def test_packages_machine_flags_and_variables() -> None:
    other = Folder(BASE)
    environment = other.header["environment"]
    environment["packages"] = {"torch": "2.12.0", "rich": "14"}
    environment["python"] = "CPython 3.12.1"
    environment["numerics"] |= {"cpu_capability": "AVX2", "flush_denormal": True, "variables": {"MKL_CBWR": "AVX2"}}
    causes = suspects(Folder(BASE), other)  # type: ignore[arg-type]
    assert [(cause.kind, cause.what) for cause in causes] == [
        ("variable", "MKL_CBWR"),  # the only one that can be exchanged here
        ("package", "python"),
        ("package", "torch"),
        ("package", "rich"),
        ("isa", "cpu_capability"),
        ("flag", "flush_denormal"),
    ]
    assert {cause.status for cause in causes} == {"suspected"}


def test_data_differ_only_where_their_section_does_not() -> None:
    other = {"source": "images", "splits": {"train": {"examples": 4, "digest": "bb"}}, "versions": {}}
    changed = Folder(BASE, data_digest="e", data=other)
    [cause] = suspects(Folder(BASE), changed)  # type: ignore[arg-type]
    assert (cause.kind, cause.what) == ("data", "the splits train")
    assert "3 examples" in cause.a
    assert "4 examples" in cause.b
    one = Folder(BASE)
    one.keys, changed.keys = {"train": [b"a" * 16, b"b" * 16]}, {"train": [b"a" * 16, b"c" * 16]}
    [named] = suspects(one, changed)  # type: ignore[arg-type]
    assert named.what.startswith("train: 1 of 2 examples changed: ")


def test_code_that_only_one_run_imported() -> None:
    mine, more = {"glassrun/a.py": "1", "mine.py": "2"}, {"glassrun/a.py": "1", "glassrun/b.py": "3", "mine.py": "4"}
    assert changed_files(mine, more) == ["mine.py"]  # what glassrun imports besides moves no bit
    assert changed_files(mine, {"glassrun/a.py": "1"}) == ["mine.py"]


def test_as_plain_names_what_the_docs_name() -> None:
    plain = Cause("config", "seed", "1", "2").as_plain()
    assert list(plain) == ["kind", "what", "a", "b", "status", "because"]


# --- the first recorded difference -----------------------------------------------------------------------------------


def a_step(number: int, **changes: Any) -> Step:
    values: dict[str, Any] = {
        "step": number,
        "epoch": 1,
        "examples": 4,
        "tokens": 0,
        "loss": 1.0,
        "learning_rate": 0.1,
        "gradient_norm": 2.0,
        "batch": "b",
        "gradients": "g",
        "parameters": "p",
        "buffers": "u",
    }
    return Step(**values | changes)


def a_record(
    steps: list[Step], evaluations: dict[tuple[int, str], dict[str, Any]] | None = None, **header: Any
) -> Record:
    record = Record.__new__(Record)
    record.folder = Folder(BASE, **{"initial": {"parameters": "p", "buffers": "u"}, **header})  # type: ignore[assignment]
    record.lines = [Line(step, "c", 0.0) for step in steps]
    record.evaluations = evaluations or {}
    record.names = ["parameter w float32 3", "parameter v float32 2", "gradient w float32 3", "gradient v float32 2"]
    record.rows = {step.step: [1, 2, 3, 4] for step in steps}
    return record


@pytest.mark.parametrize(
    ("field", "value", "phase"),
    [
        ("batch", "x", "batch"),
        ("tokens", 9, "batch"),
        ("loss", 1.5, "forward"),
        ("gradients", "x", "backward"),
        ("gradient_norm", 2.5, "backward"),
        ("learning_rate", 0.2, "optimizer"),
        ("parameters", "x", "optimizer"),
        ("buffers", "x", "buffers"),
    ],
)
def test_each_field_has_its_phase(field: str, value: Any, phase: str) -> None:
    a = a_record([a_step(1), a_step(2), a_step(3)])
    b = a_record([a_step(1), a_step(2, **{field: value}), a_step(3, loss=9.0)])
    difference = first_difference(a, b)
    assert difference is not None
    assert (difference.step, difference.phase, difference.field) == (2, phase, field)
    assert difference.b == value


def test_the_tensors_of_the_phase_are_named() -> None:
    a, b = a_record([a_step(1)]), a_record([a_step(1, gradients="x", parameters="y")])
    b.rows[1] = [1, 9, 3, 8]
    difference = first_difference(a, b)
    assert difference is not None
    assert difference.tensors == ("v",)
    only = a_record([a_step(1, parameters="y")])
    only.rows[1] = [7, 2, 3, 4]
    found = first_difference(a, only)
    assert found is not None
    assert found.tensors == ("w",)


def test_an_evaluation_counts_at_its_step_and_one_that_only_one_run_made_does_not() -> None:
    def evaluated(step: int, loss: float) -> dict[str, Any]:
        return {"step": step, "split": "test", "examples": 3, "loss": loss, "loss_hex": loss.hex()}

    steps = [a_step(number) for number in (1, 2, 3)]
    a = a_record(steps, {(1, "test"): evaluated(1, 1.0), (2, "test"): evaluated(2, 1.0)})
    b = a_record([*steps[:2], a_step(3, loss=5.0)], {(2, "test"): evaluated(2, 3.0)})
    difference = first_difference(a, b)
    assert difference is not None
    assert (difference.step, difference.phase, difference.split, difference.field) == (2, "evaluation", "test", "loss")
    assert extent(a, b).evaluations == 1
    c = a_record([a_step(1), a_step(2, loss=5.0), a_step(3)], {(2, "test"): evaluated(2, 3.0)})
    earlier = first_difference(a, c)
    assert earlier is not None
    assert earlier.phase == "forward"


def test_another_start_is_the_environments_unless_the_batch_differs() -> None:
    a = a_record([a_step(1)])
    b = a_record([a_step(1, loss=2.0)], initial={"parameters": "q", "buffers": "u"})
    difference = first_difference(a, b)
    assert difference is not None
    assert (difference.step, difference.phase, difference.field) == (1, "environment", "initial parameters")
    c = a_record([a_step(1, batch="x")], initial={"parameters": "q", "buffers": "u"})
    assert first_difference(a, c).phase == "batch"  # type: ignore[union-attr]


def test_equal_records() -> None:
    a, b = a_record([a_step(1), a_step(2)]), a_record([a_step(1)])
    assert first_difference(a, b) is None
    assert extent(a, b).steps == 1
