"""The recorder from outside: loops as people write them, and what stands in the folder afterwards."""

import json
import math
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import optimizer as torch_optimizer

import glassrun
from glassrun import Recorder
from glassrun.errors import ConfigError, ModelError, RunFolderError
from glassrun.record.fingerprint import Fingerprinter, combine, stored_name
from glassrun.record.ledger import Step, first_phase
from glassrun.record.run_folder import RunFolder
from glassrun.show import summary
from support import glassrun as command


@pytest.fixture(autouse=True)
def no_hook_is_left() -> Iterator[None]:
    yield
    assert not torch_optimizer._global_optimizer_pre_hooks


def small() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Dropout(0.3), nn.Linear(7, 2))


def inputs(step: int, examples: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(examples, 5, generator=generator)


def loop(
    path: Path,
    *,
    steps: int = 3,
    change: Callable[[int, nn.Module, Any], None] = lambda *_: None,
    batch: Callable[[int], Tensor] = inputs,
    **options: Any,
) -> nn.Module:
    """A loop of an ordinary kind, recorded; `change` is called before each step."""
    model = small()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with glassrun.record(path, {"lr": 1e-2}, seed=3, **options) as run:
        for step in range(1, steps + 1):
            change(step, model, optimizer)
            x = batch(step)
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            run.step(model=model, optimizer=optimizer, loss=loss, batch=x)
    return model


def steps_of(path: Path) -> list[Step]:
    return [line.step for line in RunFolder.open(path).lines()]


def prints(tensors: dict[str, Tensor | None], like: nn.Module) -> str:
    """The combined fingerprint of named tensors; an absent gradient takes its parameter's shape."""
    entries = []
    for name, tensor in tensors.items():
        named = like.get_parameter(name) if tensor is None else tensor
        entries.append((stored_name(name, named), None if tensor is None else Fingerprinter()(tensor)))
    return combine(entries)


def phase(a: Path, b: Path) -> tuple[int, str, str] | None:
    """The first step at which two runs differ, with phase and field."""
    for one, other in zip(steps_of(a), steps_of(b), strict=True):
        if found := first_phase(one, other):
            return (one.step, *found)
    return None


def one_step(path: Path, work: Callable[[Recorder], None]) -> Recorder:
    with glassrun.record(path) as run:
        work(run)
    return run


# --- what is written --------------------------------------------------------------------------------------------------


def test_the_folder_holds_a_whole_run(tmp_path: Path) -> None:
    model = loop(tmp_path / "run", steps=4)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        ".lock",
        "code.zip",
        "ledger.jsonl",
        "ledger.tensors",
        "metrics.jsonl",
        "run.json",
    ]
    folder = RunFolder.open(tmp_path / "run")
    folder.check()
    header = folder.header
    assert (header["kind"], header["name"], header["status"], header["seed"]) == ("recorded", "run", "complete", 3)
    assert header["config"] == {"lr": 1e-2}
    assert header["notes"] == []
    assert header["environment"]["numerics"]["threads"] == 1
    assert header["command"]["arguments"] == sys.orig_argv[1:]
    last = steps_of(tmp_path / "run")[-1]
    trained = dict(model.named_parameters())
    assert last.parameters == header["parameters"] == prints(trained, model)
    assert last.buffers == prints(dict(model.named_buffers()), model)
    assert (last.examples, last.tokens, last.epoch, last.learning_rate) == (3, 0, 0, 1e-2)
    names, rows = folder.tensors()
    assert names[0] == "parameter 0.weight float32 7x5"
    assert names[len(trained)] == "gradient 0.weight float32 7x5"
    assert rows[4][0] == Fingerprinter()(trained["0.weight"])


def test_the_same_loop_has_the_same_chain_and_another_part_tells_its_phase(tmp_path: Path) -> None:
    loop(tmp_path / "a")
    loop(tmp_path / "b")
    assert RunFolder.open(tmp_path / "a").header["chain"] == RunFolder.open(tmp_path / "b").header["chain"]
    assert (tmp_path / "a" / "ledger.tensors").read_bytes() == (tmp_path / "b" / "ledger.tensors").read_bytes()

    def pixel(step: int) -> Tensor:
        x = inputs(step)
        x[0, 0] += step == 2
        return x

    def slower(step: int, _: nn.Module, optimizer: Any) -> None:
        optimizer.param_groups[0]["lr"] = 1e-2 if step < 3 else 1e-3

    def nudged(step: int, model: nn.Module, _: Any) -> None:
        with torch.no_grad():
            model[0].weight[0, 0] += 1e-4 * (step == 2)  # type: ignore[index]

    def statistics(step: int, model: nn.Module, _: Any) -> None:
        model[1].momentum = 0.1 if step < 3 else 0.2  # type: ignore[index, union-attr, operator]

    for name, expected, options in [
        ("pixel", (2, "batch", "batch"), {"batch": pixel}),
        ("slower", (3, "optimizer", "learning_rate"), {"change": slower}),
        ("nudged", (2, "forward", "loss"), {"change": nudged}),
        ("statistics", (3, "buffers", "buffers"), {"change": statistics}),
    ]:
        loop(tmp_path / name, **options)
        assert phase(tmp_path / "a", tmp_path / name) == expected


def test_recording_moves_no_bit_and_draws_no_number(tmp_path: Path) -> None:
    def plain() -> nn.Module:
        model = small()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for step in range(1, 4):
            model(inputs(step)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return model

    def drawn() -> list[Any]:
        return [torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()]  # noqa: NPY002

    def after(make: Callable[[], nn.Module]) -> tuple[list[Any], list[bytes]]:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        model = make()
        return drawn(), [t.numpy().tobytes() for t in model.state_dict().values()]

    assert after(plain) == after(lambda: loop(tmp_path / "run"))


def test_every_row_of_tensors_that_is_asked_for_and_the_last(tmp_path: Path) -> None:
    loop(tmp_path / "run", steps=7, every=3)
    folder = RunFolder.open(tmp_path / "run")
    folder.check()
    assert list(folder.tensors()[1]) == [3, 6, 7]


def test_what_was_before_the_first_step_is_recorded(tmp_path: Path) -> None:
    loop(tmp_path / "run")
    start = small()
    assert RunFolder.open(tmp_path / "run").header["initial"] == {
        "parameters": prints(dict(start.named_parameters()), start),
        "buffers": None,
    }


def test_evaluations_are_written_as_a_trained_run_writes_them(tmp_path: Path) -> None:
    def work(run: Recorder) -> None:
        run.evaluation(
            "validation", {"loss": 0.1, "accuracy": torch.tensor(0.5, requires_grad=True), "odd": math.inf}, examples=7
        )

    one_step(tmp_path / "run", work)
    (found,) = RunFolder.open(tmp_path / "run").metrics()
    assert found == {
        "step": 0,
        "split": "validation",
        "examples": 7,
        "loss": 0.1,
        "loss_hex": (0.1).hex(),
        "accuracy": 0.5,
        "accuracy_hex": "0x1.0000000000000p-1",
        "odd": None,
        "odd_hex": "inf",
    }
    with pytest.raises(ModelError, match="single numbers"):
        one_step(tmp_path / "other", lambda run: run.evaluation("test", {"loss": torch.zeros(2)}))  # type: ignore[dict-item]


# --- gradients at the stated moment -----------------------------------------------------------------------------------


def test_gradients_are_those_the_step_used_under_accumulation_and_clipping(tmp_path: Path) -> None:
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = []
    with glassrun.record(tmp_path / "run") as run:
        for step in range(1, 3):
            for part in range(3):
                (model(inputs(10 * step + part)).square().mean() / 3).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
            norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients.values()))
            expected.append((prints(dict(gradients), model), norm))
            optimizer.step()
            optimizer.zero_grad()
            run.step(model=model, optimizer=optimizer, loss=1.0)
    found = steps_of(tmp_path / "run")
    assert [step.gradients for step in found] == [fingerprint for fingerprint, _ in expected]
    assert [step.gradient_norm for step in found] == pytest.approx([norm for _, norm in expected], rel=1e-6)
    assert run.notes == []


def test_a_scaler_hands_over_unscaled_gradients_and_a_skipped_step_has_none(tmp_path: Path) -> None:
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with glassrun.record(tmp_path / "run") as run:
        for step in (1, 2):
            optimizer.zero_grad()
            scaler.scale(model(inputs(1)).square().mean() * (math.inf if step == 2 else 1)).backward()
            scaler.step(optimizer)
            if step == 1:
                plain = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
            scaler.update()
            run.step(model=model, optimizer=optimizer, loss=1.0)
    first, skipped = steps_of(tmp_path / "run")
    assert first.gradients == prints(dict(plain), model)
    assert first.gradient_norm < 100  # scaled by 1024 it would be more
    assert skipped.gradients == prints(dict.fromkeys(plain), model)
    assert math.isnan(skipped.gradient_norm)
    assert skipped.parameters == first.parameters
    assert run.notes == RunFolder.open(tmp_path / "run").header["notes"]
    assert [note for note in run.notes if "no optimizer step was seen" in note] == run.notes
    assert run.notes[0].startswith("step 2: ")


def test_scaled_gradients_that_a_fused_optimizer_gets_are_told(tmp_path: Path) -> None:
    def work(path: Path, unscale: bool) -> Recorder:
        model = small()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        with glassrun.record(path) as run:
            for _ in range(2):
                optimizer.zero_grad()
                scaler.scale(model(inputs(1)).square().mean()).backward()
                if unscale:
                    scaler.unscale_(optimizer)
                scaler.step(optimizer)
                scaler.update()
                run.step(model=model, optimizer=optimizer, loss=1.0)
        return run

    told = work(tmp_path / "scaled", unscale=False)
    assert [note for note in told.notes if "scaled gradients" in note and "unscale_" in note] == told.notes
    assert len(told.notes) == 1
    assert work(tmp_path / "unscaled", unscale=True).notes == []
    scaled, unscaled = (steps_of(tmp_path / name)[0].gradient_norm for name in ("scaled", "unscaled"))
    assert scaled == pytest.approx(1024 * unscaled)


def test_a_closure_is_recorded_after_its_first_call(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.tensor([2.0, 3.0]))
    optimizer = torch.optim.LBFGS([weight], lr=0.1, max_iter=4)
    calls = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        calls.append(weight.grad.clone() if weight.grad is not None else None)
        return loss

    with glassrun.record(tmp_path / "run") as run:
        loss = optimizer.step(closure)  # type: ignore[arg-type]
        run.step(optimizer=optimizer, loss=loss)
    assert len(calls) > 1
    assert calls[0] is not None
    (step,) = steps_of(tmp_path / "run")
    name = "optimizer0.group0.parameter0"
    assert step.gradients == combine([(stored_name(name, calls[0]), Fingerprinter()(calls[0]))])
    assert step.loss == 13.0
    assert sum("closure" in note for note in run.notes) == 1
    assert torch.equal(calls[0], torch.tensor([4.0, 6.0]))


def test_several_optimizers_and_models(tmp_path: Path) -> None:
    """The two players of a GAN, one optimizer each; the second steps twice as often."""
    torch.manual_seed(1)
    models = {"generator": nn.Linear(2, 3), "critic": nn.Linear(3, 1)}
    optimizers = [
        torch.optim.SGD(models["generator"].parameters(), lr=0.1),
        torch.optim.Adam(models["critic"].parameters(), lr=0.2),
    ]
    with glassrun.record(tmp_path / "run") as run:
        for step in range(1, 3):
            for _ in range(2):
                optimizers[1].zero_grad()
                models["critic"](models["generator"](torch.ones(4, 2)).detach()).mean().backward()
                optimizers[1].step()
            optimizers[0].zero_grad()
            loss = models["critic"](models["generator"](torch.ones(4, 2))).mean() * step
            loss.backward()
            optimizers[0].step()
            run.step(model=models, optimizer=optimizers, loss=loss, batch=None)
    names, rows = RunFolder.open(tmp_path / "run").tensors()
    assert names[:4] == [
        "parameter generator.weight float32 3x2",
        "parameter generator.bias float32 3",
        "parameter critic.weight float32 1x3",
        "parameter critic.bias float32 1",
    ]
    assert all(value is not None for row in rows.values() for value in row)
    first, second = steps_of(tmp_path / "run")
    assert first.learning_rate == 0.1
    assert first.batch == second.batch == combine([])
    assert [note for note in run.notes if "Adam stepped more than once" in note] == run.notes


def test_models_in_a_list_are_named_by_place_and_shared_weights_once(tmp_path: Path) -> None:
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.weight = a.weight
    optimizer = torch.optim.SGD({id(p): p for m in (a, b) for p in m.parameters()}.values(), lr=0.1)

    def work(run: Recorder) -> None:
        b(a(torch.ones(1, 2))).sum().backward()
        optimizer.step()
        run.step(model=[a, b], optimizer=optimizer, loss=0.0)

    one_step(tmp_path / "run", work)
    names, _ = RunFolder.open(tmp_path / "run").tensors()
    assert [name.split()[1] for name in names[:3]] == ["0.weight", "0.bias", "1.bias"]


def test_the_learning_rate_is_the_one_the_step_used(tmp_path: Path) -> None:
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    with glassrun.record(tmp_path / "run") as run:
        for _ in range(3):
            model(inputs(1)).sum().backward()
            optimizer.step()
            scheduler.step()
            run.step(model=model, optimizer=optimizer, loss=0.0)
    assert [step.learning_rate for step in steps_of(tmp_path / "run")] == [1.0, 0.5, 0.25]


# --- what is unusual, and said ----------------------------------------------------------------------------------------


class NoRate(torch.optim.Optimizer):
    """An optimizer with no learning rate, which knows its own."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override] # noqa: ARG002
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad)


def test_an_optimizer_without_rate_with_a_parameter_that_the_model_lacks(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    temperature = nn.Parameter(torch.ones(()))
    optimizer = NoRate([*model.parameters(), temperature])
    with glassrun.record(tmp_path / "run") as run:
        for _ in range(2):
            (model(torch.ones(1, 2)) * temperature).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            run.step(model=model, optimizer=optimizer, loss=0.0)
    names, rows = RunFolder.open(tmp_path / "run").tensors()
    assert "parameter optimizer0.group0.parameter2 float32 scalar" in names
    assert rows[2][names.index("parameter optimizer0.group0.parameter2 float32 scalar")] == Fingerprinter()(temperature)
    assert math.isnan(steps_of(tmp_path / "run")[0].learning_rate)
    assert len(run.notes) == 2
    assert "no learning rate" in run.notes[0]
    assert "only an optimizer holds optimizer0.group0.parameter2" in run.notes[1]


def test_frozen_parameters_count_as_buffers_and_may_thaw(tmp_path: Path) -> None:
    model = small()
    frozen = model[0]  # type: ignore[index]
    frozen.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with glassrun.record(tmp_path / "run") as run:
        for step in (1, 2):
            if step == 2:
                frozen.requires_grad_(True)
            model(inputs(step)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            run.step(model=model, optimizer=optimizer, loss=0.0)
    names, rows = RunFolder.open(tmp_path / "run").tensors()
    place = names.index("gradient 0.weight float32 7x5")
    assert rows[1][place] is None
    assert rows[2][place] is not None
    assert rows[1][names.index("parameter 0.weight float32 7x5")] is not None
    assert run.notes == []


def test_a_parameter_that_comes_later_is_in_the_combined_fingerprint(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with glassrun.record(tmp_path / "run") as run:
        for step in (1, 2):
            if step == 2:
                model.append(nn.Linear(2, 1))
                optimizer.add_param_group({"params": list(model[1].parameters())})
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            run.step(model=model, optimizer=optimizer, loss=0.0)
    folder = RunFolder.open(tmp_path / "run")
    folder.check()
    assert len(folder.tensors()[0]) == 4
    assert steps_of(tmp_path / "run")[1].parameters == prints(dict(model.named_parameters()), model)
    assert [note for note in run.notes if "came later" in note and note.startswith("step 2")] == run.notes


def test_sparse_gradients_are_read_as_they_are_stored(tmp_path: Path) -> None:
    def work(word: int) -> Callable[[Recorder], None]:
        def step(run: Recorder) -> None:
            torch.manual_seed(1)
            model = nn.Embedding(5, 3, sparse=True)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            model(torch.tensor([word])).sum().backward()
            optimizer.step()
            run.step(model=model, optimizer=optimizer, loss=0.0)

        return step

    for name, word in (("a", 1), ("b", 1), ("c", 2)):
        one_step(tmp_path / name, work(word))
    a, b, c = (steps_of(tmp_path / name)[0] for name in "abc")
    assert a == b
    assert a.gradients != c.gradients
    assert a.gradient_norm == c.gradient_norm == pytest.approx(math.sqrt(3))


def test_what_is_missing_is_told_once(tmp_path: Path) -> None:
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)

    class Odd:
        pass

    with glassrun.record(tmp_path / "run") as run:
        for _ in range(3):
            other(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            run.step(model=model, batch=[Odd(), 1])
        optimizer.step()
    expected = ["no loss", "holds weight, bias", "stepped 2 parameters", "cannot be read: ", "after the last run.step"]
    assert len(run.notes) == len(expected)
    for text, note in zip(expected, run.notes, strict=True):
        assert text in note
    assert "Odd" in run.notes[3]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["notes"] == run.notes


def test_numerics_that_are_set_inside_are_recorded_and_told(tmp_path: Path) -> None:
    def change(step: int, *_: Any) -> None:
        torch.set_float32_matmul_precision("medium" if step == 1 else "highest")

    loop(tmp_path / "run", change=change)
    header = RunFolder.open(tmp_path / "run").header
    assert header["environment"]["numerics"]["float32_matmul_precision"] == "medium"
    assert "float32_matmul_precision: on entry highest, then medium" in header["notes"][0]


# --- bad input and bad ends -------------------------------------------------------------------------------------------


def test_a_folder_that_exists_is_never_overwritten(tmp_path: Path) -> None:
    loop(tmp_path / "run")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    with pytest.raises(RunFolderError, match="nothing is overwritten"):
        loop(tmp_path / "run")
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunFolderError, match="nothing is overwritten"):
        loop(tmp_path / "file")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"every": 0}, "every"),
        ({"every": 1.5}, "every"),
        ({"seed": "1"}, "seed"),
        ({"config": [1]}, "config"),
    ],
)
def test_arguments_of_another_form_are_told(tmp_path: Path, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        glassrun.record(tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "expected a model, an optimizer"),
        ({"model": nn.Linear(1, 1), "loss": torch.zeros(2)}, r"shape \[2\]"),
        ({"model": nn.Linear(1, 1), "loss": "low"}, "single number"),
        ({"model": nn.Linear(1, 1, device="meta")}, "weight: expected a whole tensor in memory"),
    ],
)
def test_a_step_that_cannot_be_read_stops_the_run(tmp_path: Path, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        one_step(tmp_path / "run", lambda run: run.step(**arguments))
    found = summary(tmp_path / "run")
    assert (found["status"], found["steps"]) == ("stopped", 0)
    assert found["reason"].startswith("ModelError: ")


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ValueError("bad\nidea"), "stopped", "ValueError: bad idea"),
        (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"),
        (SystemExit(3), "stopped", "SystemExit: 3"),
        (SystemExit(0), "complete", None),
    ],
)
def test_how_a_loop_ends_is_recorded(tmp_path: Path, error: BaseException, status: str, reason: str | None) -> None:
    def change(step: int, *_: Any) -> None:
        if step == 3:
            raise error

    with pytest.raises(type(error)):
        loop(tmp_path / "run", change=change)
    found = summary(tmp_path / "run")
    assert (found["status"], found["reason"], found["steps"]) == (status, reason, 2)
    assert not RunFolder.open(tmp_path / "run").locked_by_another()


def test_a_loss_that_is_not_finite_is_recorded_and_stops_nothing(tmp_path: Path) -> None:
    loop(tmp_path / "run", batch=lambda step: inputs(step) * (math.nan if step == 2 else 1))
    _, second, third = steps_of(tmp_path / "run")
    assert math.isnan(second.loss)
    assert math.isnan(second.gradient_norm)
    assert math.isnan(third.loss)
    RunFolder.open(tmp_path / "run").check()


def test_the_commands_tell_what_a_recorded_run_is(tmp_path: Path) -> None:
    loop(tmp_path / "run")
    shown = command("show", tmp_path / "run")
    assert shown.code == 0
    assert "recorded from another program's loop" in shown.out
    assert "steps       3," in shown.out
    assert command("show", tmp_path / "run", "--json").json["kind"] == "recorded"
    for refused in (["resume"], ["replay"], ["predict", "--prompt", "x"]):
        done = command(refused[0], tmp_path / "run", *refused[1:])
        assert done.code == 2
        assert "recorded from another program's loop" in done.err
        assert "Traceback" not in done.err


def test_the_report_of_a_recorded_run(tmp_path: Path) -> None:
    loop(tmp_path / "run")
    page = glassrun.report(glassrun.load(tmp_path / "run")).read_text()
    for text in ("Recorded from another program", "Loss and learning rate", "glassrun diff run ANOTHER", "torch"):
        assert text in page
    assert "glassrun replay" not in page
    one_step(tmp_path / "none", lambda _: None)
    with pytest.raises(RunFolderError, match="no step"):
        glassrun.report(glassrun.load(tmp_path / "none"))
