"""What is recorded of an environment, and above all what is not."""

import json
import os
import platform
import subprocess
import sys
from importlib import metadata

import pytest
import torch

from glassrun.digest import canonical_json
from glassrun.record import distributions
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
    found = distributions.versions()
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
    names = [line.partition(":")[0] for line in found]
    assert names[0] == "float32_matmul_precision"
    assert "fp32_precision of mkldnn.matmul" in names
    assert found[-1] == f"threads: recorded {threads}, here {threads + 3}"
    assert differences(before, numerics()) == []


def test_each_fp32_precision_is_told_apart() -> None:
    before = numerics()
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    try:
        found = differences(before, numerics())
    finally:
        torch.backends.mkldnn.conv.fp32_precision = "none"
    assert found == ["fp32_precision of mkldnn.conv: recorded ieee, here bf16"]
    assert differences(before, numerics()) == []


def test_a_wider_fp32_precision_reaches_the_narrower() -> None:
    torch.backends.mkldnn.rnn.fp32_precision = "none"  # type: ignore[attr-defined]  # a test before may have set it
    torch.backends.mkldnn.fp32_precision = "bf16"
    try:
        found = numerics()["fp32_precision"]
    finally:
        torch.backends.mkldnn.fp32_precision = "none"
    assert found["fp32_precision of mkldnn.rnn"] == "bf16"
    assert numerics()["fp32_precision"]["fp32_precision of mkldnn.rnn"] == "ieee"


def test_a_precision_that_was_set_in_two_ways_is_recorded() -> None:
    """torch raises where it is asked for it then."""
    script = (
        "import torch\nfrom glassrun.record.environment import numerics\n"
        "torch.set_float32_matmul_precision('highest')\ntorch.backends.mkldnn.matmul.fp32_precision = 'bf16'\n"
        "print(numerics()['float32_matmul_precision'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set in two ways"


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
