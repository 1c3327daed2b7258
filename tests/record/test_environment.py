"""What is recorded of an environment, and above all what is not."""

import json
import os
import platform
import sys
from importlib import metadata

import pytest
import torch

from glassrun.digest import canonical_json
from glassrun.record import environment
from glassrun.record.environment import VARIABLES, collect, differences, numerics

SECRET = "hunter2-and-nothing-else"


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "WANDB_API_KEY", "MKL_SECRET", "XOMP_NUM_THREADS", "PATH_TO_MY_LIFE"],
)
def test_variables_that_are_not_on_the_list_are_nowhere(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, SECRET)
    text = json.dumps(collect())
    assert SECRET not in text
    assert name not in text


def test_no_value_of_this_process_that_is_not_on_the_list_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate([*os.environ, "NEW_ONE"]):
        if name not in VARIABLES and name != "PYTEST_CURRENT_TEST":
            monkeypatch.setenv(name, f"{SECRET}-{number}")
    assert SECRET not in json.dumps(collect())


@pytest.mark.parametrize("name", [name for name in VARIABLES if name != "PYTHONHASHSEED"])
def test_variables_on_the_list_are_recorded_and_told_apart(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name, raising=False)
    without = numerics()
    assert name not in without["variables"]
    monkeypatch.setenv(name, "7")
    assert numerics()["variables"][name] == "7"
    assert differences(without, numerics()) == [f"{name}: recorded None, here 7"]


def test_the_hash_seed_is_free_of_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    first = numerics()
    monkeypatch.setenv("PYTHONHASHSEED", "2")
    assert differences(first, numerics()) == []


def test_the_record_is_plain_values() -> None:
    found = collect()
    assert json.loads(canonical_json(found)) == found


def test_what_is_recorded() -> None:
    found = collect()
    assert found["python"] == f"{platform.python_implementation()} {'.'.join(map(str, sys.version_info[:3]))}"
    assert found["cpus"] == os.cpu_count()
    assert found["numerics"]["torch"] == torch.__version__
    assert found["numerics"]["threads"] == torch.get_num_threads()
    assert found["numerics"]["cpu"] != ""
    assert found["numerics"]["cpu_capability"] in torch.backends.cpu.get_cpu_capability()
    assert found["numerics"]["onednn"] in found["torch_build"]


def test_every_installed_distribution_is_recorded_with_its_version() -> None:
    found = environment.packages()
    for name in ("torch", "numpy", "pydantic", "safetensors", "pytest"):
        assert found[name] == metadata.version(name)
    assert list(found) == sorted(found)


def test_equal_numerics_have_no_difference() -> None:
    assert differences(numerics(), json.loads(canonical_json(numerics()))) == []


def test_a_changed_setting_of_torch_is_a_difference() -> None:
    before, threads = numerics(), torch.get_num_threads()
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_num_threads(threads + 3)
        torch.set_float32_matmul_precision("medium" if precision != "medium" else "high")
        found = differences(before, numerics())
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
    assert [line.partition(":")[0] for line in found] == ["float32_matmul_precision", "threads"]
    assert f"recorded {threads}, here {threads + 3}" in found[1]
    assert differences(before, numerics()) == []


def test_flushed_denormals_are_a_difference() -> None:
    before = numerics()
    supported = torch.set_flush_denormal(True)
    try:
        found = numerics()["flush_denormal"]
    finally:
        torch.set_flush_denormal(False)
    assert found is supported
    assert before["flush_denormal"] is False


def test_differences_tell_what_only_one_side_has() -> None:
    recorded = {"torch": "1", "variables": {"A": "1", "B": "2"}}
    here = {"torch": "2", "variables": {"B": "3", "C": "4"}, "new": True}
    assert differences(recorded, here) == [
        "new: recorded None, here True",
        "torch: recorded 1, here 2",
        "A: recorded 1, here None",
        "B: recorded 2, here 3",
        "C: recorded None, here 4",
    ]
