"""Seeded faults: each is found at the right step and phase, and its cause is named, and confirmed only by a rerun."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import glassrun as api
from glassrun.digest import canonical_json, digest_bytes
from support import Command, Made, glassrun
from warm_workers import Server, cold, warm

MODULE = '''
import random
import time

import numpy as np
import torch
from torch import nn

from glassrun.models.cnn import CNN
from glassrun.tasks.classify import Classify


class Wrapped(nn.Module):
    def __init__(self, num_classes, **arguments):
        super().__init__()
        self.inner = CNN(1, 8, 8, num_classes, channels=(5,), convolutions=1, hidden=13)
        self.arguments = arguments

    def forward(self, x):
        return self.inner(self.disturbed(x))

    def disturbed(self, x):
        return x


class FromNumPy(Wrapped):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.generator = lambda: np.random.default_rng()

    def disturbed(self, x):
        noise = self.generator().normal(size=x.shape).astype("float32")
        return x + torch.from_numpy(noise)


class FromTheSystem(Wrapped):
    def disturbed(self, x):
        return x * (1.0 + random.SystemRandom().random())


class FromTheClock(Wrapped):
    def disturbed(self, x):
        return x + time.time_ns() % 1_000_003 * 1e-6


@torch.library.custom_op("faults::noisy", mutates_args=())
def noisy(x: torch.Tensor) -> torch.Tensor:
    return x + float(np.random.default_rng().normal())


noisy.register_autograd(lambda context, gradient: gradient)


class Operation(Wrapped):
    def disturbed(self, x):
        return noisy(x)


class DropoutInEvaluation(Wrapped):
    def __init__(self, num_classes, always=False):
        super().__init__(num_classes)
        self.always = always

    def disturbed(self, x):
        return nn.functional.dropout(x, 0.2, training=self.training or self.always)


class UnseededStart(Wrapped):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        with torch.no_grad():
            self.inner.classify.bias.add_(float(np.random.default_rng().normal()))


class FromAFile(Wrapped):
    """Depends on a file that no record mentions."""

    def __init__(self, num_classes, path):
        super().__init__(num_classes)
        self.scale = float(open(path).read())

    def disturbed(self, x):
        return x * self.scale


class Box:
    def __init__(self, example):
        self.example = example


class FromASet(Classify):
    """Objects without an order of their own, whose places in a set depend on where they lie in memory."""

    def collate(self, examples):
        return super().collate([box.example for box in {Box(example) for example in examples}])
'''

CNN = {"kind": "cnn", "channels": [5, 13], "convolutions": 1, "hidden": 30, "dropout": 0.1}


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the user's module, which is on the path for as long as this file's tests run."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "faults.py").write_text(textwrap.dedent(MODULE))
    return folder


pytestmark = pytest.mark.usefixtures("warm_workers")


@pytest.fixture(autouse=True)
def on_path(faults: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(faults))


def recipe(made: Made, name: str = "odd-cnn", **overrides: Any) -> dict[str, Any]:
    small = {"model": CNN} if name == "odd-cnn" else {}
    return made.recipe(name, **{"train": {"steps": 4, "eval_every": 2, "checkpoint_every": 2}, **small, **overrides})


@pytest.fixture(scope="module")
def plain(made: Made, worker_server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, api.Run]:
    """Runs that others are compared with."""
    folder = tmp_path_factory.mktemp("plain")
    with warm(worker_server):
        return {name: api.train(recipe(made, name), out=folder / name, workers=1) for name in ("odd-cnn", "odd-lm")}


def causes(verdict: api.Verdict, status: str = "confirmed") -> list[tuple[str, str]]:
    return [(cause.kind, cause.what) for cause in verdict.causes if cause.status == status]


def test_the_same_on_other_numbers_of_workers_and_with_other_free_fields(
    made: Made, plain: dict[str, api.Run], tmp_path: Path
) -> None:
    other = recipe(made, train={"steps": 4, "eval_every": 4, "checkpoint_every": 4})
    other["name"] = "elsewhere"
    run = api.train(other, out=tmp_path / "b", workers=2)
    done = glassrun("diff", plain["odd-cnn"].path, run.path)
    assert done.code == 0, done.err
    assert "identical: 4 steps and 2 evaluations" in done.out


def test_threads_by_operation_line_and_confirmed_cause(
    made: Made, plain: dict[str, api.Run], command: Command, tmp_path: Path
) -> None:
    run = api.train(recipe(made, numerics={"threads": 2}), out=tmp_path / "b", workers=1)
    done = command("diff", plain["odd-cnn"].path, run.path, "--json")
    assert done.code == 1, done.err
    found = done.json
    assert found["identical"] is False
    assert found["step"] == 1
    assert found["phase"] in ("forward", "backward")
    # Which operation depends on the thread count first is the processor's and its libraries' own.
    assert found["how"] == "output"
    assert found["op"].startswith("aten.")
    assert found["module"].split(" ")[0] in dict(plain["odd-cnn"].model.named_modules())
    assert found["source_line"].startswith("glassrun/")
    assert found["reproduced"] == [True, True]
    assert [(c["kind"], c["what"], c["a"], c["b"], c["status"]) for c in found["causes"]] == [
        ("threads", "numerics.threads", "1", "2", "confirmed")
    ]


@pytest.mark.parametrize(
    ("name", "fields", "step", "phase", "cause"),
    [
        ("odd-lm", {"seed": 8}, 1, "batch", ("config", "seed")),
        ("odd-lm", {"optimizer": {"lr": 2e-3}}, 1, "optimizer", ("config", "optimizer.lr")),
        (
            "odd-cnn",
            {"schedule": {"warmup_steps": 2, "final_lr": 1e-3}},
            3,
            "optimizer",
            ("config", "schedule.final_lr"),
        ),
        ("odd-cnn", {"batch": {"size": 12, "shards": 4, "evaluation_size": 8}}, 2, "evaluation", None),
        ("odd-cnn", {"numerics": {"isa": "avx2"}}, 1, None, ("isa", "numerics.isa")),
        (
            "odd-cnn",
            {"numerics": {"float32_matmul_precision": "medium"}},
            1,
            None,
            ("flag", "numerics.float32_matmul_precision"),
        ),
        ("odd-cnn", {"model": {**CNN, "dropout": 0.4}}, 1, "forward", ("config", "model.dropout")),
    ],
    ids=lambda value: canonical_json(value) if isinstance(value, dict) else None,
)
@pytest.mark.long
def test_a_field_of_the_recipe(
    name: str,
    fields: dict[str, Any],
    step: int,
    phase: str | None,
    cause: tuple[str, str] | None,
    made: Made,
    plain: dict[str, api.Run],
    tmp_path: Path,
) -> None:
    if "optimizer" in fields:
        fields = {"optimizer": {"kind": "adamw", "clip_norm": 1.0, **fields["optimizer"]}}
    run = api.train(recipe(made, name, **fields), out=tmp_path / "b", workers=1)
    verdict = api.diff(plain[name], run)
    if verdict.identical:
        pytest.skip(f"{fields} moves no bit on this processor")
    assert verdict.difference is not None
    assert verdict.difference.step == step
    assert phase is None or verdict.difference.phase == phase
    assert causes(verdict) == [cause or ("config", "batch.evaluation_size")]
    assert verdict.reproduced == (True, True)
    assert verdict.divergence is not None


@pytest.mark.parametrize(
    ("a", "b", "what"),
    [
        ({"decay": 0.9}, {"decay": 0.5}, "average.decay"),
        pytest.param({"decay": 0.9}, None, "average", marks=pytest.mark.long),
        pytest.param(None, {"decay": 0.9}, "average", marks=pytest.mark.long),
    ],
)
def test_other_averages_of_the_weights(a: Any, b: Any, what: str, made: Made, tmp_path: Path) -> None:
    runs = [
        api.train(recipe(made, average=average), out=tmp_path / name, workers=1)
        for name, average in (("a", a), ("b", b))
    ]
    verdict = api.diff(*runs)
    assert verdict.difference is not None
    assert (verdict.difference.step, verdict.difference.phase) == (2, "evaluation")
    assert causes(verdict) == [("config", what)]


@pytest.mark.long
def test_averages_move_no_step(made: Made, tmp_path: Path) -> None:
    train = {"steps": 4, "eval_every": 4, "checkpoint_every": 2}
    rates = {"kind": "warmup-cosine", "warmup_steps": 2}
    first = recipe(made, train=train, schedule=rates, average={"decay": 0.9})
    second = recipe(made, train=train, schedule={**rates, "final_lr": 1e-3})
    verdict = api.diff(*(api.train(one, out=tmp_path / str(i), workers=1) for i, one in enumerate((first, second))))
    assert verdict.difference is not None
    assert verdict.difference.step == 3
    assert causes(verdict) == [("config", "schedule.final_lr")]
    assert causes(verdict, "excluded") == [("config", "average")]


@pytest.mark.long
def test_two_causes_that_only_together_explain_it(made: Made, plain: dict[str, api.Run], tmp_path: Path) -> None:
    other = recipe(made, model={**CNN, "dropout": 0.4}, numerics={"threads": 2})
    run = api.train(other, out=tmp_path / "b", workers=1)
    verdict = api.diff(plain["odd-cnn"], run)
    assert sorted(causes(verdict)) == [("config", "model.dropout"), ("threads", "numerics.threads")]
    assert all("together" in cause.because for cause in verdict.causes)


@pytest.mark.long
def test_one_that_explains_it_alone_excludes_the_others(made: Made, plain: dict[str, api.Run], tmp_path: Path) -> None:
    """The order of the examples differs from the first step on; the decay that differs too makes no gradient."""
    other = recipe(made, seed=9, schedule={"kind": "warmup-cosine", "warmup_steps": 2, "final_lr": 1e-5})
    run = api.train(other, out=tmp_path / "b", workers=1)
    verdict = api.diff(plain["odd-cnn"], run)
    assert causes(verdict) == [("config", "seed")]
    assert causes(verdict, "excluded") == [("config", "schedule.final_lr")]


@pytest.mark.parametrize(
    ("model", "operation", "line"),
    [
        ("FromNumPy", "aten.add.Tensor", "disturbed"),
        pytest.param("FromTheSystem", "aten.mul.Tensor", "disturbed", marks=pytest.mark.long),
        pytest.param("FromTheClock", "aten.add.Tensor", "disturbed", marks=pytest.mark.long),
        pytest.param("Operation", "faults.noisy.default", "disturbed", marks=pytest.mark.long),
        pytest.param("UnseededStart", "aten.add_.Tensor", "__init__", marks=pytest.mark.long),
    ],
)
def test_what_nobody_seeds(model: str, operation: str, line: str, made: Made, tmp_path: Path) -> None:
    runs = [
        api.train(recipe(made, model={"import": f"faults:{model}"}), out=tmp_path / str(i), workers=1) for i in range(2)
    ]
    verdict = api.diff(*runs)
    assert [kind for kind, _ in causes(verdict)] == ["nondeterminism"]
    assert verdict.difference is not None
    assert verdict.difference.step == 1
    if model == "UnseededStart":
        assert verdict.difference.phase == "environment"
    assert verdict.reproduced == (False, False)
    assert verdict.divergence is not None
    assert verdict.divergence.operation.name == operation
    assert verdict.divergence.operation.line.startswith("faults.py:")
    assert verdict.divergence.operation.line.endswith(line)


@pytest.mark.long
def test_a_set_that_is_iterated_in_the_data_code(made: Made, tmp_path: Path) -> None:
    task = {"task": {"import": "faults:FromASet"}}
    with cold():
        runs = [api.train(recipe(made, **task), out=tmp_path / str(i), workers=1) for i in range(2)]
        verdict = api.diff(*runs)
    assert verdict.difference is not None
    assert verdict.difference.phase == "batch"
    [(kind, what)] = causes(verdict)
    assert kind == "nondeterminism"
    assert "collate" in what


@pytest.mark.long
def test_dropout_left_on_in_evaluation(made: Made, tmp_path: Path) -> None:
    model = {"import": "faults:DropoutInEvaluation"}
    runs = [
        api.train(recipe(made, model={**model, **always}), out=tmp_path / str(i), workers=1)
        for i, always in enumerate(({}, {"always": True}))
    ]
    verdict = api.diff(*runs)
    assert verdict.difference is not None
    assert (verdict.difference.step, verdict.difference.phase) == (2, "evaluation")
    assert causes(verdict) == [("config", "model.always")]
    assert verdict.divergence is not None
    assert verdict.divergence.b is not None
    assert "disturbed" in verdict.divergence.b.line


@pytest.mark.long
def test_one_word_of_the_data(made: Made, plain: dict[str, api.Run], tmp_path: Path) -> None:
    """The word is in the window that the first example of the third step reads: the steps before are the same."""
    run = plain["odd-lm"]
    split = run.dataset.splits["train"]
    from glassrun.data.order import Order

    epoch, index = Order(7, len(split)).batch(3, 12)[0]
    start = split.offset(epoch) + index * 13
    text = (made.folder / "text.txt").read_text()
    place = next(i for i in range(start + 1, start + 13) if text[i].isalpha())
    changed = tmp_path / "text.txt"
    changed.write_text(text[:place] + ("e" if text[place] != "e" else "a") + text[place + 1 :])
    other = api.train(recipe(made, "odd-lm", **{"data.path": str(changed)}), out=tmp_path / "b", workers=1)
    verdict = api.diff(run, other)
    assert verdict.difference is not None
    assert (verdict.difference.step, verdict.difference.phase) == (3, "batch")
    assert [kind for kind, _ in causes(verdict)] == ["data"]
    assert any(f"number {index} of epoch {epoch}" in line for line in verdict.examples)


@pytest.mark.long
def test_one_pixel_and_two_examples_swapped(made: Made, tmp_path: Path) -> None:
    raw = bytearray((made.folder / "images").read_bytes())
    labels = bytearray((made.folder / "labels").read_bytes())
    pixel = bytearray(raw)
    pixel[-1] ^= 1
    swapped, swapped_labels = bytearray(raw), bytearray(labels)
    swapped[16:80], swapped[16 + 64 * 9 : 80 + 64 * 9] = raw[16 + 64 * 9 : 80 + 64 * 9], raw[16:80]
    swapped_labels[8], swapped_labels[17] = labels[17], labels[8]
    for name, images, classes in (("pixel", pixel, labels), ("swapped", swapped, swapped_labels)):
        (tmp_path / f"{name}-images").write_bytes(images)
        (tmp_path / f"{name}-labels").write_bytes(classes)
        path = f"{tmp_path / name}-images,{tmp_path / name}-labels"
        long = {"steps": 40, "eval_every": 40, "checkpoint_every": 40}  # more than an epoch: every example is seen
        runs = [
            api.train(recipe(made, train=long, **where), out=tmp_path / f"{name}-{i}", workers=1)
            for i, where in enumerate(({}, {"data.path": path}))
        ]
        verdict = api.diff(*runs)
        assert verdict.difference is not None, name
        assert [kind for kind, _ in causes(verdict)] == ["data"], name


@pytest.mark.long
def test_data_changed_in_place_and_a_resume_on_other_data(made: Made, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    shutil.copy(made.folder / "text.txt", text)
    chosen = recipe(made, "odd-lm", **{"data.path": str(text)})
    first = api.train(chosen, out=tmp_path / "a", workers=1)
    text.write_text(text.read_text().replace("e", "a"))
    second = api.train(chosen, out=tmp_path / "b", workers=1)
    verdict = api.diff(first, second)
    assert [kind for kind, _ in causes(verdict)] == ["data"]
    assert any("run A: the data are no longer" in note for note in verdict.notes)


def test_a_changed_line_of_the_feed_forward_network(made: Made, plain: dict[str, api.Run], tmp_path: Path) -> None:
    copy = tmp_path / "source"
    shutil.copytree(Path(api.__file__).parent, copy / "glassrun", ignore=shutil.ignore_patterns("__pycache__"))
    file = copy / "glassrun" / "functional" / "feedforward.py"
    old = "activation(F.linear(x, weight_in, bias_in))"
    assert file.read_text().count(old) == 1
    file.write_text(file.read_text().replace(old, "activation(F.linear(x, weight_in, bias_in) * 1.0000001)"))
    chosen = tmp_path / "recipe.json"
    chosen.write_text(json.dumps(recipe(made, "odd-lm")))
    subprocess.run(
        [sys.executable, "-m", "glassrun", "train", str(chosen), "--out", str(tmp_path / "b"), "--workers", "1"],
        env=os.environ | {"PYTHONPATH": str(copy)},
        check=True,
        capture_output=True,
    )
    verdict = api.diff(plain["odd-lm"], tmp_path / "b")
    assert causes(verdict) == [("code", "glassrun/functional/feedforward.py")]
    assert "1.0000001" in verdict.causes[0].b
    assert verdict.divergence is not None
    assert verdict.divergence.b is not None
    assert verdict.divergence.b.line.startswith("glassrun/functional/feedforward.py:")
    assert verdict.divergence.operation.module == "layers.0.feed_forward (FeedForward)"


def that_read_an_unrecorded_file(made: Made, tmp_path: Path) -> list[api.Run]:
    """Two runs of one recipe, whose model reads a file that was changed in between."""
    scale = tmp_path / "scale.txt"
    runs = []
    for value in ("1.0", "1.5"):
        scale.write_text(value)
        model = {"import": "faults:FromAFile", "path": str(scale)}
        runs.append(api.train(recipe(made, model=model), out=tmp_path / value, workers=1))
    return runs


@pytest.mark.long
def test_what_cannot_be_tested_is_suspected_and_never_confirmed(made: Made, tmp_path: Path) -> None:
    """Bits differ for a reason that no record holds; the records say that a library's version differs."""
    runs = that_read_an_unrecorded_file(made, tmp_path)
    header = json.loads((runs[0].path / "run.json").read_bytes())
    del header["checksum"]
    header["environment"]["packages"]["numpy"] = "1.26.4"
    header["checksum"] = digest_bytes(canonical_json(header).encode())
    (runs[0].path / "run.json").write_text(json.dumps(header))
    verdict = api.diff(*runs)
    assert causes(verdict) == []
    assert causes(verdict, "suspected") == [("package", "numpy")]
    assert verdict.reproduced == (False, True)
    assert verdict.divergence is None  # no operation is named where a rerun does not give its recorded bits


@pytest.mark.long
def test_no_cause_is_made_up(made: Made, tmp_path: Path) -> None:
    runs = that_read_an_unrecorded_file(made, tmp_path)
    verdict = api.diff(*runs)
    assert verdict.causes == ()
    assert verdict.reproduced == (False, True)
    assert "cause unknown" in str(verdict)


@pytest.mark.long
def test_runs_that_have_nothing_in_common(plain: dict[str, api.Run]) -> None:
    verdict = api.diff(plain["odd-cnn"], plain["odd-lm"])
    assert verdict.difference is not None
    assert (verdict.difference.step, verdict.difference.phase) == (1, "batch")
    assert {what for _, what in causes(verdict)} == {"task", "data.source", "model.kind"}


@pytest.mark.long
def test_a_run_that_is_a_part_of_another(made: Made, tmp_path: Path) -> None:
    chosen = recipe(made, schedule={"kind": "constant", "warmup_steps": 2})
    long = api.train(chosen, out=tmp_path / "a", workers=1)
    chosen["train"]["steps"] = 2
    short = api.train(chosen, out=tmp_path / "b", workers=1)
    verdict = api.diff(long, short)
    assert verdict.identical
    assert verdict.compared.steps == 2
    assert any("what only one of them has is not compared" in note for note in verdict.notes)
    assert any("train.steps" in note for note in verdict.notes)


def test_bad_input(plain: dict[str, api.Run], command: Command, tmp_path: Path) -> None:
    missing = command("diff", plain["odd-cnn"].path, tmp_path / "none")
    assert missing.code == 2
    assert "no such run folder" in missing.err
    damaged = tmp_path / "damaged"
    shutil.copytree(plain["odd-cnn"].path, damaged)
    lines = (damaged / "ledger.jsonl").read_bytes()
    (damaged / "ledger.jsonl").write_bytes(lines.replace(b'"epoch": 1', b'"epoch": 2', 1))
    done = command("diff", plain["odd-cnn"].path, damaged)
    assert done.code == 2
    assert "checksum" in done.err
    assert "Traceback" not in done.err
