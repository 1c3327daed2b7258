"""A model taken elsewhere gives the same outputs there, on sizes that it was not traced with."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import glassrun as api
from glassrun import config, pretrained
from glassrun.errors import ConfigError, ModelError
from glassrun.export import Exported, Inputs, to_onnx, to_safetensors, to_torch_export
from glassrun.models.arguments import ARGUMENTS
from glassrun.models.registry import FACTS, MODELS, build
from glassrun.pretrained.native import describe
from glassrun.record.fingerprint import Fingerprinter
from glassrun.run import Run
from glassrun.train.loop import initial_fingerprints
from glassrun.train.state import load_data, prepare
from in_process import trained
from support import Command, Made

TOLERANCE = 1e-5
DATA = {
    "in_channels": 2,
    "image_height": 28,
    "image_width": 28,
    "num_classes": 7,
    "vocabulary_size": 29,
    "source_vocabulary_size": 19,
    "target_vocabulary_size": 23,
    "max_length": 13,
    "padding_token": 3,
}
TRANSFORMER = {"d_model": 12, "num_heads": 3}
SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"channels": [3, 5], "hidden": 7},
    "convnext": {"channels": [3, 5], "blocks": [1, 1], "patch_size": 2},
    "encoder": TRANSFORMER | {"num_layers": 1, "positions": "t5"},
    "encoder-decoder": TRANSFORMER | {"encoder_layers": 1, "decoder_layers": 1},
    "language-model": TRANSFORMER | {"num_layers": 1},
    "lenet": {},
    "llama": TRANSFORMER | {"num_layers": 1, "num_key_value_heads": 1, "window": 4, "qk_norm": True},
    "resnet": {
        "channels": [3, 5],
        "blocks": [1, 1],
        "stem_channels": 3,
        "shortcut": "padding",
        "memory_format": "channels_last",
    },
    "vgg": {"channels": [3], "convolutions": [1], "hidden": 7, "batch_norm": True},
    "vision-transformer": TRANSFORMER | {"num_layers": 1, "patch_size": 14},
}


def model(kind: str, **arguments: Any) -> nn.Module:
    section = ARGUMENTS[kind].model_validate_json(json.dumps({"kind": kind} | SMALL[kind] | arguments))
    return build(section, DATA, 1).eval()


def inputs(kind: str, batch: int, length: int) -> Inputs:
    """Examples of these sizes; the first source is all padding."""
    generator = torch.Generator().manual_seed(batch)

    def tokens(size: int, longer: int = 0) -> Tensor:
        return torch.randint(size, (batch, min(length + longer, 13)), generator=generator)

    if kind == "encoder-decoder":
        source, target = tokens(19), tokens(23, 1)
        source[0] = DATA["padding_token"]
        axes = {name: {0: "batch", 1: f"{name} length"} for name in ("source", "target")}
        return Inputs({"source": source, "target": target}, axes)
    if kind in ("encoder", "language-model", "llama"):
        return Inputs({"tokens": tokens(29)}, {"tokens": {0: "batch", 1: "length"}})
    return Inputs({"image": torch.rand(batch, 2, 28, 28, generator=generator)}, {"image": {0: "batch"}})


def off(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@torch.no_grad()
def check(kind: str, run: Any, original: nn.Module) -> None:
    """Another batch and other lengths, one among them."""
    for batch, length in ((1, 1), (4, 13)):
        given = inputs(kind, batch, length)
        assert off(run(given), original(*given.arguments)) < TOLERANCE


def no_limits(kind: str, written: Exported) -> None:
    names = ("source", "target") if kind == "encoder-decoder" else ("tokens",)
    limited = kind in ("language-model", "llama", "encoder-decoder")  # by positions, which are a table
    for limit in written.limits:
        assert limited, limit
        assert any(limit.startswith(f"{name}: ") for name in names)
        assert limit.endswith("length is at most 13")


# Tracing takes seconds a model: the one with the most in it is traced in every test run, the others in the long one.
KINDS = [kind if kind == "encoder-decoder" else pytest.param(kind, marks=pytest.mark.long) for kind in SMALL]


def test_every_kind_of_model_is_here() -> None:
    assert set(SMALL) == set(MODELS) == set(FACTS)


@pytest.mark.parametrize("kind", KINDS)
def test_torch_export(kind: str, tmp_path: Path) -> None:
    original = model(kind)
    written = to_torch_export(original, tmp_path / "model.pt2", inputs(kind, 3, 5))
    assert written.difference == 0.0
    no_limits(kind, written)
    program = torch.export.load(tmp_path / "model.pt2").module()
    check(kind, lambda given: program(*given.arguments), original)


@pytest.mark.parametrize("kind", KINDS)
def test_onnx(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs onnxscript: pip install 'glassrun[onnx]'")
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'glassrun[onnx]'")
    original = model(kind)
    written = to_onnx(original, tmp_path / "model.onnx", inputs(kind, 3, 5))
    assert written.difference is not None
    assert written.difference < TOLERANCE
    no_limits(kind, written)
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    named = {value.name: value.shape for value in session.get_inputs()}
    for name, axes in inputs(kind, 3, 5).axes.items():
        assert all(named[name][axis] == called for axis, called in axes.items())

    def run(given: Inputs) -> Tensor:
        (found,) = session.run(None, {name: tensor.numpy() for name, tensor in given.tensors.items()})
        return torch.from_numpy(found)

    check(kind, run, original)


@pytest.mark.parametrize("kind", SMALL)
def test_safetensors_there_and_back(kind: str, tmp_path: Path) -> None:
    original = model(kind)
    section = {"kind": kind} | SMALL[kind]
    to_safetensors(original, tmp_path / "model", describe(section, DATA))
    again = pretrained.load(tmp_path / "model")
    assert type(again) is type(original)
    assert not again.training
    own = original.state_dict()
    assert again.state_dict().keys() == own.keys()
    assert all(torch.equal(tensor, own[name]) for name, tensor in again.state_dict().items())
    given = inputs(kind, 2, 6).arguments
    assert torch.equal(again(*given), original(*given))


def test_nothing_in_a_program_is_a_pickle(tmp_path: Path) -> None:
    to_torch_export(
        nn.Linear(3, 2).eval(), tmp_path / "model.pt2", Inputs({"x": torch.rand(4, 3)}, {"x": {0: "batch"}})
    )
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert any("weight" in name for name in contents)
    for name, data in contents.items():
        assert not data.startswith((b"PK", b"\x80")), name  # an archive of torch.save's, a pickle
        if name.endswith("config.json"):
            assert b'"use_pickle": true' not in data


class Answer:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


class Odd(nn.Module):
    """A user's model: its answer is an object, and its second half works for one length alone."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Any:
        return Answer(self.linear(x.view(x.shape[0], 5)))


class Untraceable(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (2 if x.sum() > 0 else 3)


def test_a_model_of_the_users(tmp_path: Path) -> None:
    original = Odd().eval()
    given = Inputs({"x": torch.rand(4, 5)}, {"x": {0: "batch", 1: "length"}})
    written = to_torch_export(original, tmp_path / "model.pt2", given)
    assert written.limits == ("x: length is 5",)
    x = torch.rand(7, 5)
    assert torch.equal(torch.export.load(tmp_path / "model.pt2").module()(x), original(x).logits)


@pytest.mark.long
@pytest.mark.parametrize("name", ["bert", "gpt2", "vit"])
def test_a_model_of_hugging_faces(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs transformers: pip install 'glassrun[hub]'")
    from hugging_face import IMAGES, MODELS, TOKENS, logits

    axes = {"x": {0: "batch"} | ({} if name == "vit" else {1: "length"})}
    original, given = MODELS[name](), IMAGES if name == "vit" else TOKENS
    written = to_torch_export(original, tmp_path / "model.pt2", Inputs({"x": given}, axes))
    assert written.limits == (("x: length is at most 11",) if name == "bert" else ())
    program = torch.export.load(tmp_path / "model.pt2").module()
    assert torch.equal(program(given), logits(name, original))


def test_a_model_that_torch_cannot_trace_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be traced by torch\.export: ") as error:
        to_torch_export(Untraceable(3, 2), tmp_path / "model.pt2", Inputs({"x": torch.rand(4, 3)}, {}))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "model.pt2").exists()


class Drawing(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.rand(1)


def test_a_program_that_gives_other_outputs_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gives other outputs than the model: they differ by .* Nothing was written"):
        to_torch_export(Drawing(3, 2), tmp_path / "model.pt2", Inputs({"x": torch.rand(4, 3)}, {}))
    assert not (tmp_path / "model.pt2").exists()


# --- what is written is described, and nobody's code is run ----------------------------------------------------------


def described(tmp_path: Path, **change: Any) -> Path:
    config = describe({"kind": "cnn"} | SMALL["cnn"], DATA) | change
    to_safetensors(model("cnn"), tmp_path / "model", config)
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format"),
        ({"model": None}, "expected the model's section"),
        ({"model": {"kind": "cnm"}}, "did you mean 'cnn'"),
        ({"model": {"kind": "cnn", "convolution": 2}}, "convolution"),
        ({"model": {"kind": "cnn", "convolutions": 10**9}}, "at most"),
        ({"model": {"import": "os:system"}}, "a folder's code is not run"),
        ({"facts": {"in_channels": 2}}, "also image_height"),
        ({"facts": DATA | {"in_channels": "2"}}, "in_channels"),
        ({"facts": DATA | {"in_channels": 3}}, "expected 3 × 3 × 3 × 3 for features.0.convolution.weight"),
        ({"more": 1}, "'more'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_description_that_is_wrong(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said) as error:
        pretrained.load(described(tmp_path, **change))
    assert str(tmp_path) in str(error.value)


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = made.recipe("odd-lm", **{"train.steps": 1})
    return trained(recipe, tmp_path_factory.mktemp("export") / "run")


def test_a_run_from_the_command_line_and_back(run: Run, command: Command, tmp_path: Path) -> None:
    done = command("export", run.path, "--to", "safetensors", "--out", tmp_path / "model", "--json")
    assert done.code == 0, done.err
    assert done.json == {"path": str(tmp_path / "model"), "difference": None, "limits": []}
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.equal(pretrained.load(tmp_path / "model")(tokens), run.model(tokens))


@pytest.mark.parametrize(
    ("to", "out", "said"),
    [
        ("onx", None, "did you mean 'onnx'"),
        ("onnx", "model.pt2", r"ends in \.onnx"),
        ("torch-export", "model", r"ends in \.pt2"),
        ("safetensors", ".", "nothing is overwritten"),
    ],
)
def test_a_request_that_is_wrong(to: str, out: str | None, said: str, run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        run.export(to, None if out is None else tmp_path / out)


@pytest.mark.long
def test_a_run_as_a_program(run: Run) -> None:
    written = run.export("torch-export")
    assert written.path == run.path / "model.pt2"
    assert written.limits == ("tokens: length is at most 13",)
    tokens = torch.tensor([[1, 2, 3, 4]])
    found = torch.export.load(written.path).module()(tokens)
    assert torch.equal(found, run.model(tokens))


# --- a pretrained model as the start of a run ------------------------------------------------------------------------


def start_from(run: Run, made: Made, folder: Path) -> dict[str, Any]:
    """A recipe that starts from a run's exported weights."""
    run.export("safetensors", folder)
    model = {"import": "glassrun.pretrained:load", "path": str(folder)}
    return made.recipe("odd-lm", model=model, **{"train.steps": 2})


def move_one_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["layers.0.attention.output.bias"][0] += 2.0**-20
    save_file(tensors, folder / "model.safetensors")


def test_pretrained_weights_stay_as_they_are_and_are_told_apart(run: Run, made: Made, tmp_path: Path) -> None:
    recipe = config.load(start_from(run, made, tmp_path / "start"))
    states = [prepare(recipe, load_data(recipe))]
    weights = pretrained.load(tmp_path / "start").state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in states[0].model.state_dict().items())
    move_one_weight(tmp_path / "start")
    states.append(prepare(recipe, load_data(recipe)))
    first, second = (initial_fingerprints(state, Fingerprinter()) for state in states)
    assert first["parameters"] != second["parameters"]


@pytest.mark.long
def test_a_run_that_starts_from_pretrained_weights(run: Run, made: Made, tmp_path: Path) -> None:
    recipe = start_from(run, made, tmp_path / "start")
    first = api.train(recipe, out=tmp_path / "first", workers=1)
    assert first.replay(workers=2)
    move_one_weight(tmp_path / "start")
    second = api.train(recipe, out=tmp_path / "second", workers=1)
    assert second.ledger[0].chain != first.ledger[0].chain
    assert not first.replay(workers=1)
