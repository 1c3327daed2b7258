"""Predictions of trained models, without their data."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

import glassrun as api
from glassrun import predict
from glassrun.data.encoding import TextEncoding
from glassrun.data.tokenizers import ByteTokenizer
from glassrun.errors import BadInput
from support import Made, glassrun

SEVEN = Path(__file__).parents[1] / "examples" / "seven.png"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    folder = tmp_path_factory.mktemp("digits")
    return api.train("digits-cnn", {"train.steps": 120, "schedule.warmup_steps": 20}, out=folder / "run", workers=2)


def test_a_drawn_digit(digits: api.Run, tmp_path: Path) -> None:
    found = predict.classify(digits, SEVEN)
    assert found.values["class"] == "7"
    assert found.text.startswith("7 ")
    assert sum(found.values["probabilities"].values()) == pytest.approx(1.0)
    light_on_dark = tmp_path / "inverted.png"
    ImageOps.invert(Image.open(SEVEN).convert("L")).save(light_on_dark)
    assert predict.classify(digits, light_on_dark).values["class"] == "7"


def test_real_digits_written_as_pictures_give_the_metrics_back(digits: api.Run, tmp_path: Path) -> None:
    """Test images as files of 64 × 64 pixels, read again, are classified as in the evaluation."""
    split = digits.dataset.splits["test"]
    right = 0
    for index in range(len(split)):
        pixels = np.kron(split.raw(index)[0], np.ones((8, 8), dtype=np.uint8)) * 15
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "digit.png")
        found = predict.classify(digits, tmp_path / "digit.png").values["class"]
        right += found == digits.dataset.encoding.classes[split.example(index, 0)["label"]]
    accuracy = next(line for line in digits.metrics if line["split"] == "test")["accuracy"]
    assert right / len(split) == pytest.approx(accuracy, abs=0.02)


def test_a_language_model_goes_on_alike_for_equal_seeds(made: Made, tmp_path: Path) -> None:
    run = api.train(made.recipe("odd-lm"), out=tmp_path / "run", workers=1)
    texts = [predict.go_on(run, "glass", tokens=40, temperature=0.9, seed=seed).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("glass")
    assert len(texts[0]) == 45
    for prompt, match in (("", "at least one character"), ("Ω", "Ω")):
        with pytest.raises(BadInput, match=match):
            predict.go_on(run, prompt, tokens=1, temperature=1.0, seed=1)
    with pytest.raises(BadInput, match="--temperature nan"):
        predict.go_on(run, "glass", tokens=1, temperature=float("nan"), seed=1)
    printed = glassrun("predict", run.path, "--prompt", "glass", "--tokens", 40, "--temperature", 0.9)
    assert printed.out == texts[0] + "\n"


def test_no_data_are_needed(made: Made, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes((made.folder / "text.txt").read_bytes())
    run = api.train(
        made.recipe("odd-lm", **{"data.path": str(text), "train.steps": 2}), out=tmp_path / "run", workers=1
    )
    text.unlink()
    assert len(predict.go_on(api.load(run.path), "run", tokens=5, temperature=0.0, seed=1).text) == 8


def test_a_blank_text_is_an_empty_one(made: Made, tmp_path: Path) -> None:
    run = api.train(made.recipe("odd-pairs", **{"train.steps": 2}), out=tmp_path / "run", workers=1)
    with pytest.raises(BadInput, match="found 0"):
        predict.translate(run, " ")
    assert predict.translate(run, " glass ").text == predict.translate(run, "glass").text


def test_a_model_that_fills_gaps_does_not_go_on_from_a_prompt(tmp_path: Path) -> None:
    recipe = SimpleNamespace(name="gaps", task="masked-language-model")
    encoding = TextEncoding(ByteTokenizer(special=False), 8)
    folder = SimpleNamespace(header={"encoding": encoding.to_plain()}, recipe=recipe, path=tmp_path)
    run: Any = SimpleNamespace(folder=folder, recipe=recipe)
    with pytest.raises(BadInput, match="fills gaps in a text"):
        predict.go_on(run, "glass", tokens=3, temperature=0.0, seed=1)
