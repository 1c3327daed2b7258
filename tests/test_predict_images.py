"""What is said of an image: a class, labels, numbers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glassrun import predict
from glassrun.data.encoding import ImageEncoding
from glassrun.data.manifest import manifest_digest


def said(tmp_path: Path, outputs: list[float], **target: Any) -> predict.Prediction:
    """The prediction of a model that gives these outputs for a picture of 4 × 6 pixels."""
    encoding = ImageEncoding(("a", "b", "c"), 1, 4, 6, 255, (0.5,), (0.25,), dark_border=False, ink=1.0, **target)

    def model(image: torch.Tensor) -> torch.Tensor:
        assert image.shape == (1, 1, 4, 6)
        return torch.tensor([outputs])

    manifest: dict[str, Any] = {"preprocessing": []}
    header = {"encoding": encoding.to_plain(), "data": manifest, "data_digest": manifest_digest(manifest)}
    folder = SimpleNamespace(header=header, recipe=None, path=tmp_path)
    Image.fromarray(np.zeros((4, 6), dtype=np.uint8)).save(tmp_path / "picture.png")
    run: Any = SimpleNamespace(folder=folder, model=model)
    return predict.classify(run, tmp_path / "picture.png")


def test_a_class(tmp_path: Path) -> None:
    found = said(tmp_path, [0.0, np.log(2.0), 0.0])
    assert found.values["class"] == "b"
    assert found.values["probabilities"] == pytest.approx({"b": 0.5, "a": 0.25, "c": 0.25})
    assert list(found.values["probabilities"]) == ["b", "a", "c"]
    assert found.text.splitlines()[1:] == ["a  25.00 %", "c  25.00 %"]


def test_labels_above_one_half(tmp_path: Path) -> None:
    found = said(tmp_path, [np.log(3.0), -np.log(3.0), np.log(4.0)], target="labels")
    assert found.values["labels"] == ["c", "a"]
    assert found.values["probabilities"] == pytest.approx({"c": 0.8, "a": 0.75, "b": 0.25})
    assert [line.split()[0] for line in found.text.splitlines()] == ["c", "a"]


def test_no_label_is_said_with_what_comes_nearest(tmp_path: Path) -> None:
    found = said(tmp_path, [-3.0, -2.0, -4.0], target="labels")
    assert found.values["labels"] == []
    assert found.text == "none; the nearest is b  11.92 %"


def test_numbers_in_their_own_units(tmp_path: Path) -> None:
    scales = {"number_means": (100.0, 0.0, 1.0), "number_stds": (10.0, 0.5, 2.0)}
    found = said(tmp_path, [0.5, -1.0, 0.0], target="numbers", **scales)
    assert found.values == {"numbers": {"a": 105.0, "b": -0.5, "c": 1.0}}
    assert found.text == "a  105\nb  -0.5\nc  1"
