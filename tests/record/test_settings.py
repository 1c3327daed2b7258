"""Whatever a loop keeps its settings in becomes plain values, the same in every process."""

import argparse
import enum
import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassrun.errors import ConfigError
from glassrun.record.settings import settings

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_plain_values_stay_as_they_are(values: dict[str, Any]) -> None:
    assert settings(values) == values


class Mode(enum.Enum):
    FAST = 1


@dataclass
class Options:
    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    extra: dict[int, Any] = field(default_factory=lambda: {1: {"b", "a"}})


class Thing:
    pass


def test_other_values_become_plain_ones() -> None:
    assert settings(None) == {}
    assert settings(argparse.Namespace(lr=0.1, path=Path("x/y"))) == {"lr": 0.1, "path": "x/y"}
    assert settings(Options()) == {"lr": 0.1, "betas": [0.9, 0.99], "extra": {"1": ["a", "b"]}}
    given_ = {
        "options": Options(),
        "dtype": torch.bfloat16,
        "scalar": np.float32(0.5),
        "tensor": torch.ones(2, dtype=torch.int64),
        "mode": Mode.FAST,
        "class": torch.nn.GELU,
        "function": json.dumps,
        "best": float("inf"),
        "thing": Thing(),
        "partial": functools.partial(Thing().__init__),
    }
    found = settings(given_)
    assert found == {
        "options": {"lr": 0.1, "betas": [0.9, 0.99], "extra": {"1": ["a", "b"]}},
        "dtype": "torch.bfloat16",
        "scalar": 0.5,
        "tensor": [1, 1],
        "mode": "Mode.FAST",
        "class": "torch.nn.modules.activation.GELU",
        "function": "json.dumps",
        "best": "inf",
        "thing": "Thing",
        "partial": "partial",
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_what_is_no_settings_is_told() -> None:
    endless: dict[str, Any] = {}
    endless["self"] = endless
    for wrong, text in (([1], "a mapping"), (endless, "holds itself"), ({"data": "x" * 2**20}, "larger than")):
        with pytest.raises(ConfigError, match=text):
            settings(wrong)
