"""The doctor: every block that ships is covered, a block that does not repeat is found, each threat is said."""

from __future__ import annotations

import copy
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from glassrun import doctor, functional
from glassrun import nn as blocks_of_ours
from glassrun.blocks import BLOCKS, Block, fingerprint
from glassrun.models.registry import MODELS
from glassrun.record.code import lay_out
from support import Done, glassrun


def shipped() -> set[str]:
    """Every public function that gives a tensor, every module and every model that there is."""
    found = {f"models.{kind}" for kind in MODELS}
    for package in (functional, blocks_of_ours):
        place = package.__name__.rpartition(".")[2]
        for entry in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{entry.name}")
            for name, value in vars(module).items():
                if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                    continue
                is_module = inspect.isclass(value) and issubclass(value, nn.Module)
                if is_module or (inspect.isfunction(value) and _gives_a_tensor(value) and place == "functional"):
                    found.add(f"{place}.{name}")
    return found


def _gives_a_tensor(function: Any) -> bool:
    return "Tensor" in function.__annotations__["return"]


def test_every_block_that_ships_is_run() -> None:
    assert set(BLOCKS) == shipped()


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_gives_something_and_the_same_twice(name: str) -> None:
    first = fingerprint(BLOCKS[name], 0)
    assert first == fingerprint(BLOCKS[name], 0)
    assert first == fingerprint(BLOCKS[name], 3)


def test_a_block_counts_with_its_output_and_all_gradients() -> None:
    def block(scale: float, slope: float, bias: float) -> Block:
        class Sloped(torch.autograd.Function):
            @staticmethod
            def forward(context: Any, x: torch.Tensor) -> torch.Tensor:  # noqa: ARG004 - torch's form
                return x * scale

            @staticmethod
            def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
                return gradient * slope

        return Block(lambda x, b: Sloped.apply(x) + b * bias, (torch.ones(3), torch.zeros(3)))

    values = {fingerprint(lambda v=v: block(*v), 0) for v in ((1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2))}
    assert len(values) == 4


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """As it is on a machine whose user set what runs do not follow."""
    done = glassrun("doctor", "--json", MKL_CBWR="COMPATIBLE", OMP_NUM_THREADS="7")
    assert done.code == 0, done.err
    return done.json  # type: ignore[no-any-return]


def test_here_every_block_repeats_and_lies_anywhere(found: dict[str, Any]) -> None:
    assert found["repeats"] is True
    assert set(found["blocks"]) == set(BLOCKS)
    for name, block in found["blocks"].items():
        assert block["repeats"], name
        assert block["alignments"], name
        assert block["error"] is None


def test_operations_without_a_deterministic_form_are_named(found: dict[str, Any]) -> None:
    (text,) = [text for text in found["warnings"] if text.startswith("no deterministic form here")]
    assert "torch.Tensor.put_" in text
    assert "cumsum" not in text


def test_variables_that_runs_do_not_follow_are_said_and_not_followed(found: dict[str, Any]) -> None:
    assert any(text.startswith("MKL_CBWR=COMPATIBLE is not followed") for text in found["warnings"])
    assert found["environment"]["numerics"]["threads"] == 1
    assert found["environment"]["numerics"]["variables"]["MKL_CBWR"] == "AUTO"


def test_for_people_it_is_a_table(found: dict[str, Any]) -> None:
    text = doctor.as_text(found)
    assert f"{len(BLOCKS)} of {len(BLOCKS)} blocks repeat" in text
    assert f"torch       {found['environment']['numerics']['torch']}" in text
    assert all(any(line.startswith(f"{name} ") for line in text.splitlines()) for name in BLOCKS)
    failing = copy.deepcopy(found)
    failing["blocks"]["nn.Residual"] |= {"repeats": False, "error": "RuntimeError: no kernel"}
    assert f"{len(BLOCKS) - 1} of {len(BLOCKS)} blocks repeat" in doctor.as_text(failing)
    assert "\n  RuntimeError: no kernel\n" in doctor.as_text(failing)


@pytest.mark.long
def test_a_block_that_does_not_repeat_is_found(tmp_path: Path) -> None:
    """In a glassrun whose gelu adds the time of day, in real processes."""
    source = Path(glassrun_file("functional/feedforward.py")).read_text()
    changed = source.replace("return F.gelu(x)", "import time; return F.gelu(x) + time.time_ns() % 1009")
    assert changed != source
    lay_out({"glassrun/functional/feedforward.py": changed.encode()}, tmp_path)
    process = subprocess.run(
        [sys.executable, "-m", "glassrun", "doctor", "--json"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
    )
    done = Done(process.returncode, process.stdout, process.stderr)
    assert done.code == 1, done.err
    failing = {name for name, block in done.json["blocks"].items() if not block["repeats"]}
    own = {"functional.gelu", "nn.ConvNeXtBlock"}
    whole = {"models.convnext", "models.encoder", "models.language-model", "models.vision-transformer"}
    assert failing == own | whole  # all whose usual activation is gelu


def glassrun_file(name: str) -> str:
    return str(Path(str(functional.__file__)).parents[1] / name)


# --- what differs is judged ------------------------------------------------------------------------------------------


def judged(alone: list[int], beside: list[int], threaded: list[int], error: str = "") -> dict[str, Any]:
    def result(workers: list[list[int]]) -> dict[str, Any]:
        return {"blocks": {"a": workers}, "errors": {"a": error} if error else {}}

    return doctor._judged("a", result([alone]), result([[value] for value in beside]), result([threaded]))


def test_each_way_not_to_repeat() -> None:
    fine = {"repeats": True, "alignments": True, "threads": True, "error": None}
    assert judged([7, 7, 7, 7], [7, 7], [7, 7]) == fine
    assert judged([7, 8, 7, 7], [7, 7], [7, 7]) == fine | {"repeats": False}
    assert judged([7, 7, 7, 7], [7, 8], [7, 7]) == fine | {"repeats": False}
    assert judged([7, 7, 7, 8], [7, 7], [7, 7]) == fine | {"alignments": False}
    assert judged([7, 7, 7, 7], [7, 7], [8, 8]) == fine | {"threads": False}
    assert judged([7, 7, 7, 7], [7, 7], [7, 8])["repeats"] is False
    assert judged([0, 0, 0, 0], [0, 0], [0, 0], "no kernel") == fine | {"repeats": False, "error": "no kernel"}


# --- warnings --------------------------------------------------------------------------------------------------------

QUIET: dict[str, Any] = {
    "environment": {
        "cpus": 1,
        "cuda": None,
        "numerics": {
            "torch": "2.13.0+cpu",
            "machine": "x86_64",
            "cpu": "Intel Xeon",
            "cpu_capability": "AVX2",
            "blas": "MKL",
            "fp32_precision": {"fp32_precision of mkldnn.matmul": "ieee", "fp32_precision of cudnn.conv": "tf32"},
        },
    },
    "indeterministic": [],
    "meeting": "",
    "here": {
        "variables": {"PYTHONHASHSEED": "0"},
        "ignored": [],
        "disk": 2**40,
        "shared_memory": 2**30,
        "git": "/usr/bin/git",
    },
}


def warned(*path: str, value: Any) -> list[str]:
    """The warnings where one thing is not quiet."""
    values = copy.deepcopy(QUIET)
    inner = values
    for name in path[:-1]:
        inner = inner[name]
    if path:
        inner[path[-1]] = value
    return doctor.warnings(**values)


def test_on_a_quiet_machine_there_is_nothing_to_warn_of() -> None:
    assert warned(value=None) == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("environment", "numerics", "torch"), "2.14.0", "torch is 2.14.0; glassrun is tested with 2.13.0"),
        (("environment", "numerics", "cpu_capability"), "AVX512", "numerics.isa=avx2"),
        (("environment", "numerics", "cpu"), "AMD EPYC", "MKL on AMD EPYC"),
        (("environment", "numerics", "machine"), "aarch64", "aarch64 is untested"),
        (("environment", "cpus"), 8, "up to 8 threads"),
        (("environment", "numerics", "fp32_precision", "fp32_precision of mkldnn.matmul"), "bf16", "matmul to bf16"),
        (("environment", "cuda"), {"devices": ["a GPU"]}, "cudnn.conv to tf32"),
        (("indeterministic",), ["torch.kthvalue"], "torch.kthvalue"),
        (("meeting",), "no interface", "two workers cannot meet (gloo): no interface"),
        (("here", "variables"), {}, "PYTHONHASHSEED is not set"),
        (("here", "variables"), {"PYTHONHASHSEED": "0", "NVIDIA_TF32_OVERRIDE": "1"}, "TF32 is on"),
        (("here", "ignored"), ["MKL_CBWR=COMPATIBLE is not followed"], "MKL_CBWR=COMPATIBLE"),
        (("here", "disk"), 10**6, "1,000,000 bytes left"),
        (("here", "shared_memory"), 10**6, "/dev/shm has 1,000,000"),
        (("here", "git"), None, "git is not here"),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_each_threat_is_said_and_alone(path: tuple[str, ...], value: Any, said: str) -> None:
    (text,) = warned(*path, value=value)
    assert said in text
