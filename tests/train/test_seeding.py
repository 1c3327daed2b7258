"""`glassrun.seed` in processes of its own: what it sets repeats, and what it cannot set it says."""

import json
import os
import subprocess
import sys

import pytest

import glassrun
from glassrun.train.seeding import Seeded

DRAW = """
import json, sys, warnings
warnings.simplefilter("error")
import random, numpy, torch
torch.set_num_threads(int(sys.argv[2]))
import glassrun
before = [torch.rand(3).sum().item(), random.random(), numpy.random.rand()] if "used" in sys.argv else None
draws = []
for seed in sys.argv[1].split():
    done = glassrun.seed(int(seed))
    linear = torch.nn.Linear(3, 5)
    draws.append([random.random(), random.sample(range(1000), 5), numpy.random.rand(3).tolist(),
                  torch.rand(3).tolist(),
                  torch.randperm(11).tolist(), linear.weight.tolist(),
                  torch.nn.functional.dropout(torch.ones(20)).tolist()])
print(json.dumps({
    "draws": draws,
    "deterministic": torch.are_deterministic_algorithms_enabled(),
    "cudnn": [torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark],
    "workspace": __import__("os").environ.get("CUBLAS_WORKSPACE_CONFIG"),
    "set": done.set, "not_set": done.not_set, "text": str(done),
}))
"""


def draw(*seeds: int, used: bool = False, threads: int = 1, **variables: str) -> dict:  # type: ignore[type-arg]
    """What a new process draws after each of these seeds, and what it says of the last."""
    names = ("PYTHONHASHSEED", "MKL_CBWR", "CUBLAS_WORKSPACE_CONFIG")
    environment = {name: value for name, value in os.environ.items() if name not in names} | variables
    done = subprocess.run(
        [sys.executable, "-c", DRAW, " ".join(map(str, seeds)), str(threads), *(["used"] if used else [])],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def used() -> dict:  # type: ignore[type-arg]
    """Of a process that has drawn already, on two threads."""
    return draw(7, used=True, threads=2)


def test_all_generators_repeat_even_when_they_were_used_before(used: dict) -> None:  # type: ignore[type-arg]
    """In another process, and in the same after other draws; also from both ends of the range."""
    found = draw(7, 8, 7, 0, 2**32 - 1)
    first, *others = (found["draws"][place] for place in (0, 1, 3, 4))
    assert first == found["draws"][2] == used["draws"][0]
    for other in others:
        assert all(a != b for a, b in zip(first, other, strict=True))
    assert others[1] != others[2]
    assert found["deterministic"] is True
    assert found["cudnn"] == [True, False]
    assert found["workspace"] == ":4096:8"


def test_it_says_what_came_too_late(used: dict) -> None:  # type: ignore[type-arg]
    missed = " ".join(used["not_set"])
    for word in ("PYTHONHASHSEED", "MKL_CBWR", "threads: torch uses 2", "numpy.random.default_rng()"):
        assert word in missed
    assert used["text"].splitlines() == [
        *(f"set: {item}" for item in used["set"]),
        *(f"NOT set: {item}" for item in used["not_set"]),
    ]


def test_it_does_not_ask_for_what_is_there() -> None:
    found = draw(7, PYTHONHASHSEED="0", MKL_CBWR="AUTO", CUBLAS_WORKSPACE_CONFIG=":16:8")
    (missed,) = found["not_set"]
    assert missed.startswith("generators of your own")
    assert "CUBLAS_WORKSPACE_CONFIG=:16:8" in found["set"]


@pytest.mark.parametrize("number", [-1, 2**32])
def test_outside_the_range(number: int) -> None:
    with pytest.raises(ValueError, match=f"found {number}"):
        glassrun.seed(number)


def test_seeded_prints_one_line_for_each() -> None:
    assert str(Seeded(("a", "b"), ("c",))) == "set: a\nset: b\nNOT set: c"


def test_the_newer_precision_settings_are_set_too() -> None:
    script = """
import torch
import glassrun
torch.backends.mkldnn.conv.fp32_precision = torch.backends.mkldnn.matmul.fp32_precision = "bf16"
done = glassrun.seed(1)
b = torch.backends
places = (b.mkldnn.matmul, b.mkldnn.conv, b.mkldnn.rnn, b.cuda.matmul, b.cudnn.conv, b.cudnn.rnn)
assert [place.fp32_precision for place in places] == ["ieee"] * 6
assert any("fp32_precision" in line and "mkldnn.conv" in line for line in done.set), done
"""
    subprocess.run([sys.executable, "-c", script], check=True)
