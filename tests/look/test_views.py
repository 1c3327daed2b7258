"""Views as JSON: what `glass.js` gets (that it reads it so, test_browser shows)."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassrun.look import views


def numbers(packed: dict[str, Any]) -> Any:
    kind = {"float16": "<f2", "float32": "<f4"}[packed["type"]]
    return np.frombuffer(base64.b64decode(packed["data"]), dtype=kind).reshape(packed["shape"])


@given(st.integers(-12, 12), st.integers(0, 2**32 - 1))
def test_maps_keep_three_digits_at_every_scale(power: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(3, 7)) * 10.0**power
    packed = views.payload(views.heatmap(values))["arrays"]["values"]
    assert packed["shape"] == [3, 7]
    # Of the largest: what is smaller by far is of the same colour.
    np.testing.assert_allclose(numbers(packed), values, rtol=5e-4, atol=1e-5 * np.abs(values).max())


def test_weights_take_two_bytes_each() -> None:
    weights = np.full((2, 3, 5), 1 / 3)
    payload = views.payload(views.attention([views.Maps("one", weights, list("abc"), list("vwxyz"))]))
    assert payload["arrays"]["weights.0"]["type"] == "float16"
    assert len(base64.b64decode(payload["arrays"]["weights.0"]["data"])) == 2 * 30


def test_curves_keep_their_steps() -> None:
    steps = np.arange(1.0, 100_001.0, 999.0)
    payload = views.payload(views.curves([views.Panel("loss", [views.Line("training", steps, 1 / steps)])]))
    np.testing.assert_array_equal(numbers(payload["arrays"]["x.0.0"]), steps)
    chosen = views.payload(
        views.choice("figure", {"a": views.curves([views.Panel("loss", [views.Line("b", steps, steps)])])})
    )
    np.testing.assert_array_equal(numbers(chosen["arrays"]["0/x.0.0"]), steps)


def test_no_value_stays_no_value() -> None:
    packed = views.payload(views.heatmap(np.array([[np.nan, 1.0]])))["arrays"]["values"]
    assert np.isnan(numbers(packed)).tolist() == [[True, False]]
    everywhere = views.payload(views.heatmap(np.full((1, 2), np.nan)))["arrays"]["values"]
    assert np.isnan(numbers(everywhere)).all()


def test_what_json_cannot_hold_does_not_pass() -> None:
    assert json.dumps(views.payload(views.heatmap(np.eye(2))), allow_nan=False)
    with pytest.raises(ValueError, match="shape"):
        views.payload(views.heatmap(np.zeros((0, 3))))
