"""Predictions of trained models, without their data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import glassrun as api
from glassrun import predict
from glassrun.data import recorded
from glassrun.data.encoding import TextEncoding
from glassrun.data.tokenizers import ByteTokenizer
from glassrun.errors import BadInput
from glassrun.generate.texts import generator_of
from in_process import trained
from support import Command, Made, glassrun

SEVEN = Path(__file__).parents[1] / "examples" / "seven.png"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    folder = tmp_path_factory.mktemp("digits")
    return trained("digits-cnn", folder / "run", train__steps=120, schedule__warmup_steps=20)


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


def test_a_language_model_goes_on_alike_for_equal_seeds(made: Made, command: Command, tmp_path: Path) -> None:
    run = trained(made.recipe("odd-lm"), tmp_path / "run")
    texts = [run.generate(["glass"], tokens=40, temperature=0.9, seed=seed)[0] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("glass")
    assert len(texts[0]) == 45
    for prompt, match in (("", "at least one character"), ("Ω", "Ω")):
        with pytest.raises(BadInput, match=match):
            run.generate([prompt], tokens=1)
    with pytest.raises(BadInput, match="temperature nan"):
        run.generate(["glass"], temperature=float("nan"))
    with pytest.raises(BadInput, match=r"give \['glass'\]"):
        run.generate("glass")
    assert run.generate(["glass"], stop=" ", tokens=400)[0].count(" ") <= 1
    printed = glassrun("predict", run.path, "--prompt", "glass", "--tokens", 40, "--temperature", 0.9)
    assert printed.out == texts[0] + "\n"
    prompts = ["glass", "run", "seed", "ledger", "kiln"]
    (tmp_path / "prompts").write_text("\n".join(prompts) + "\n", encoding="utf-8")
    several = command(
        "predict", run.path, "--lines", tmp_path / "prompts", "--temperature", 0.9, "--json", "--tokens", 40
    )
    assert [row["prompt"] for row in several.json] == prompts
    assert [row["text"] for row in several.json] == [
        run.generate([prompt], tokens=40, temperature=0.9)[0] for prompt in prompts
    ]
    refused = command("predict", run.path, "--prompt", "glass", "--beams", 3, "--seed", 2)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: seed would be ignored: beam search draws nothing")
    assert "Traceback" not in refused.err
    with pytest.raises(BadInput, match="expected a text of one token, found 5 tokens"):
        run.generate(["glass"], stop="glass")


def test_no_data_are_needed(made: Made, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes((made.folder / "text.txt").read_bytes())
    run = trained(made.recipe("odd-lm", **{"data.path": str(text), "train.steps": 2}), tmp_path / "run")
    text.unlink()
    assert len(api.load(run.path).generate(["run"], tokens=5, temperature=0.0)[0]) == 8


def test_a_blank_text_is_an_empty_one(made: Made, tmp_path: Path) -> None:
    run = trained(made.recipe("odd-pairs", **{"train.steps": 2}), tmp_path / "run")
    with pytest.raises(BadInput, match="found 0"):
        run.generate([" "])
    assert run.generate([" glass "]) == run.generate(["glass"])
    with pytest.raises(BadInput, match="a translation ends by itself"):
        run.generate(["glass"], stop="a")
    with pytest.raises(BadInput, match="tokens 256: expected at most 255"):
        run.generate(["glass"], tokens=256)


def test_byte_pairs_are_kept_in_the_run(made: Made, command: Command, tmp_path: Path) -> None:
    """Trained, resumed, replayed and written with: the text and what was learned from it need not be there again."""
    recipe = made.recipe("odd-lm", **{"data.tokenizer": {"kind": "bpe", "vocabulary_size": 270}, "train.steps": 4})
    run = trained(recipe, tmp_path / "run")
    assert run.replay(workers=2)
    metrics = run.metrics[-1]
    assert metrics["bits_per_character"] < metrics["loss"] / np.log(2)  # for a token has more than one character
    text = run.generate(["glass run"], tokens=9)[0]
    assert text.startswith("glass run")
    shown = command("predict", run.path, "--prompt", "glass run", "--tokens", 9, "--json").json
    assert shown["text"] == text
    assert shown["decoding"] == "sampling"
    header = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    changed = header["encoding"]["tokenizer"]["json"].replace('"Ġ":', '"Ġ0":')
    with pytest.raises(BadInput):
        recorded.of_run(
            header
            | {"encoding": header["encoding"] | {"tokenizer": {"kind": "bpe", "special": False, "json": changed}}},
            "r",
        )


def test_a_model_that_fills_gaps_does_not_go_on_from_a_prompt() -> None:
    encoding = TextEncoding(ByteTokenizer(special=False), 8)
    with pytest.raises(BadInput, match="fills gaps in a text"):
        generator_of(torch.nn.Identity(), encoding, "masked-language-model")
