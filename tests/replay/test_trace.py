"""The trace: what is noted of every operation, and the first in which two traces part."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from glassrun.errors import RunFolderError
from glassrun.replay import operations
from glassrun.replay.operations import Operation, first_divergence
from glassrun.replay.trace import Trace


class Small(nn.Module):
    def __init__(self, nudge: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(7, 11)
        self.norm = nn.LayerNorm(11)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Linear(11, 3)
        with torch.no_grad():
            self.last.weight[1, 2] += nudge

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.dropout(self.norm(self.first(x))))


def step(nudge: float = 0.0, seed: int = 0, lr: float = 1e-3) -> list[Operation]:
    """One step of training, traced."""
    torch.manual_seed(5)
    model = Small(nudge)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=True)
    x = torch.randn(13, 7)
    torch.manual_seed(seed)
    with Trace(model) as trace:
        model(x).square().sum().backward()
        optimizer.step()
    return trace.operations


def test_the_same_step_twice_has_the_same_trace() -> None:
    assert first_divergence(step(), step()) is None


def test_tracing_moves_no_bit() -> None:
    def trained(traced: bool) -> list[torch.Tensor]:
        torch.manual_seed(5)
        model = Small()
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        with Trace(model) if traced else nullcontext():
            model(torch.randn(13, 7)).square().sum().backward()
            optimizer.step()
        return list(model.parameters())

    assert all(torch.equal(a, b) for a, b in zip(trained(False), trained(True), strict=True))


def test_forward_and_backward_are_named_by_module_and_line() -> None:
    found = step()
    forward = next(o for o in found if o.name == "aten.native_layer_norm.default")
    backward = next(o for o in found if o.name == "aten.native_layer_norm_backward.default")
    for operation in (forward, backward):
        assert operation.module == "norm (LayerNorm)"
        assert operation.line.partition(":")[0].endswith("test_trace.py")
        assert operation.line.endswith("in forward")
    assert (forward.backward, backward.backward) == (False, True)


def test_a_changed_weight_is_an_input_from_outside_named_with_the_operation_that_computes_with_it() -> None:
    found = first_divergence(step(), step(nudge=1e-7))
    assert found is not None
    assert found.what == "input"
    assert found.operation.name == "aten.addmm.default"  # not the transpose that only looks at it
    assert found.operation.module == "last (Linear)"


def test_scalars_are_inputs() -> None:
    found = first_divergence(step(), step(lr=2e-3))
    assert found is not None
    assert found.what == "scalar"
    assert found.operation.name == "aten._fused_adamw_.default"


def test_the_random_state_is_an_input_of_what_draws() -> None:
    found = first_divergence(step(), step(seed=1))
    assert found is not None
    assert found.what == "random state"
    assert found.operation.module == "dropout (Dropout)"


def test_changes_in_place_are_seen_though_nothing_is_returned() -> None:
    def updated(gradient: float) -> list[Operation]:
        parameters = [torch.ones(5), torch.ones(3)]
        with Trace() as trace:
            torch._foreach_add_(parameters, [torch.full((5,), 2.0), torch.full((3,), gradient)])
        return trace.operations

    found = next(o for o in updated(1.0) if o.name == "aten._foreach_add_.List")
    assert len(found.inputs) == 4
    assert len(found.outputs) == 2
    assert found.outputs[0] != found.inputs[0]
    difference = first_divergence(updated(1.0), updated(2.0))
    assert difference is not None


def test_memory_that_nothing_was_written_to_does_not_count() -> None:
    def filled(before: float) -> list[Operation]:
        with Trace() as trace:
            taken = torch.empty(4096)
            taken.numpy()[:] = before  # what the memory held: no operation writes it
            view = taken[::2]
            view.fill_(1.0)
            taken[1::2] = 2.0
            taken.sum()
        return trace.operations

    a, b = filled(3.0), filled(4.0)
    assert first_divergence(a, b) is None
    summed = next(o for o in a if o.name == "aten.sum.default")
    assert len(summed.inputs[0].split()) == 3, "once all of it is written, it counts"


def test_a_value_from_numpy_and_one_from_the_clock_come_from_outside() -> None:
    def noisy(kind: str) -> list[Operation]:
        x = torch.ones(5)
        with Trace() as trace:
            if kind == "numpy":
                x + torch.from_numpy(np.random.default_rng().normal(size=5))
            else:
                x + time.perf_counter_ns() * 1e-9
        return trace.operations

    assert first_divergence(noisy("numpy"), noisy("numpy")).what == "input"  # type: ignore[union-attr]
    assert first_divergence(noisy("clock"), noisy("clock")).what == "scalar"  # type: ignore[union-attr]


def test_another_operation_and_an_end_before_the_other() -> None:
    def calls(function: object) -> list[Operation]:
        with Trace() as trace:
            function(torch.ones(5))  # type: ignore[operator]
        return trace.operations

    relu, gelu = calls(torch.relu), calls(torch.nn.functional.gelu)
    found = first_divergence(relu, gelu)
    assert found is not None
    assert found.what == "operation"
    assert [o.name for o in (found.a, found.b) if o] == ["aten.relu.default", "aten.gelu.default"]
    more = first_divergence(relu, calls(lambda x: torch.relu(x) + 1))
    assert more is not None
    assert more.a is None
    assert more.operation.name == "aten.add.Tensor"


def test_an_operation_that_gives_other_bits_for_equal_inputs() -> None:
    made = Operation("aten.x", "m (M)", "f.py:1 in g", False, False, "2", ("float32 1 aa",), ("float32 1 bb",))
    other = Operation("aten.x", "m (M)", "f.py:1 in g", False, False, "2", ("float32 1 aa",), ("float32 1 cc",))
    found = first_divergence([made, made], [made, other])
    assert found is not None
    assert (found.what, found.index, found.place) == ("output", 1, 0)


def test_odd_tensors_are_traced() -> None:
    with Trace() as trace:
        (torch.ones(3, dtype=torch.complex64).conj() * 2).abs().sum()
        torch.eye(3).to_sparse() @ torch.ones(3, 2)
        torch.ones(0) + torch.ones(0)
        torch.ones(5, dtype=torch.bfloat16).t() * 3
    assert any(o.name.startswith("aten.mul") for o in trace.operations)


def test_written_and_read_again(tmp_path: Path) -> None:
    operations.write(tmp_path / "trace", step())
    assert operations.read(tmp_path / "trace") == step()
    (tmp_path / "damaged").write_text('{"name": "aten.x"}\n')
    for path in ("damaged", "missing"):
        with pytest.raises(RunFolderError, match="cannot be read"):
            operations.read(tmp_path / path)
