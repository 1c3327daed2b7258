"""A stranger's folder: whatever is in it, it loads or one clear error says why not; nothing of it runs."""

from __future__ import annotations

import json
import os
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import Tensor

from glassrun import pretrained
from glassrun.errors import ModelError
from glassrun.pretrained.loading import FAMILIES

CONFIG: dict[str, Any] = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "vocab_size": 7,
    "n_positions": 5,
    "n_embd": 6,
    "n_layer": 2,
    "n_head": 3,
}


def tensors() -> dict[str, Tensor]:
    """GPT-2's, under its own names."""
    layer: dict[str, tuple[int, ...]] = {
        "ln_1.weight": (6,),
        "ln_1.bias": (6,),
        "attn.c_attn.weight": (6, 18),
        "attn.c_attn.bias": (18,),
        "attn.c_proj.weight": (6, 6),
        "attn.c_proj.bias": (6,),
        "ln_2.weight": (6,),
        "ln_2.bias": (6,),
        "mlp.c_fc.weight": (6, 24),
        "mlp.c_fc.bias": (24,),
        "mlp.c_proj.weight": (24, 6),
        "mlp.c_proj.bias": (6,),
    }
    shapes = {"wte.weight": (7, 6), "wpe.weight": (5, 6), "ln_f.weight": (6,), "ln_f.bias": (6,)}
    shapes |= {f"h.{number}.{name}": shape for number in range(2) for name, shape in layer.items()}
    generator = torch.Generator().manual_seed(1)
    return {f"transformer.{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write(folder: Path, config: Any = None, weights: dict[str, Tensor] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    save_file(tensors() if weights is None else weights, folder / "model.safetensors")
    return folder


def refused(path: Path, *said: str, **arguments: Any) -> str:
    """The one message of the error, which names what is wrong and where."""
    with pytest.raises(ModelError) as error:
        pretrained.load(path, **arguments)
    for part in said:
        assert part in str(error.value)
    return str(error.value)


def loads_or_says(path: Path, said: str) -> None:
    """The one or the other, and never anything else."""
    message = said
    try:
        pretrained.load(path)
    except ModelError as error:
        message = str(error)
    assert said in message


def test_as_it_should_be(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    model = pretrained.load(write(tmp_path))
    assert torch.equal(torch.get_rng_state(), before)
    assert model(torch.tensor([[1, 2, 3]])).shape == (1, 3, 7)
    assert torch.equal(model.layers[1].attention.projections.weight, tensors()["transformer.h.1.attn.c_attn.weight"].T)  # type: ignore[index, union-attr]


# --- the configuration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "gpt3"}, ["model_type is 'gpt3'", "did you mean 'gpt2'", *FAMILIES]),
        ({"model_type": None}, ["model_type is None", "llama"]),
        ({"model_type": ["gpt2"]}, ["model_type"]),
        ({"use_flash": True, "odd": 1}, ["'odd'", "'use_flash'", "take them out"]),
        ({"scale_attn_by_inverse_layer_idx": True}, ["scale_attn_by_inverse_layer_idx", "False", "found True"]),
        ({"activation_function": "gelu_fast"}, ["activation_function is 'gelu_fast'", "gelu_new"]),
        ({"n_layer": 10**9}, ["n_layer", "at most 28", "1000000000"]),
        ({"n_layer": -1}, ["n_layer", "whole number", "-1"]),
        ({"n_layer": 2.5}, ["n_layer", "whole number", "2.5"]),
        ({"n_layer": True}, ["n_layer", "whole number", "True"]),
        ({"n_layer": "two"}, ["n_layer", "'two'"]),
        ({"n_layer": 3}, ["missing", "h.2.ln_1.weight"]),
        ({"n_layer": 1}, ["no place", "h.1.attn.c_attn.bias", "and 7 more", "without=["]),
        ({"n_head": 4}, ["num_heads is 4", "d_model 6"]),
        ({"vocab_size": 2**31 - 1}, ["wte.weight", "expected 2147483647 × 6", "found 7 × 6"]),
        ({"n_embd": 3 * 2**29}, ["n_inner", "found 6442450944"]),
        ({"n_inner": 2**31 - 1, "n_embd": 2**30, "n_head": 1}, ["no model can be made", "overflow"]),
        ({"n_positions": 6}, ["wpe.weight", "expected 6 × 6 for positions.weight, found 5 × 6"]),
        ({"layer_norm_epsilon": "1e-5"}, ["layer_norm_epsilon", "'1e-5'"]),
        ({"layer_norm_epsilon": float("nan")}, ["layer_norm_epsilon"]),
        ({"layer_norm_epsilon": 10**400}, ["layer_norm_epsilon", "not negative"]),
        ({"pruned_heads": {"0": [1]}}, ["pruned_heads"]),
        ({"attn_pdrop": 1.0}, ["attn_pdrop", "below 1"]),
        ({"tie_word_embeddings": False}, ["missing", "lm_head.weight (for output.weight)"]),
        ({"tie_word_embeddings": "no"}, ["tie_word_embeddings", "true or false"]),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_honoured(change: dict[str, Any], said: list[str], tmp_path: Path) -> None:
    message = refused(write(tmp_path, CONFIG | change), str(tmp_path), *said)
    assert "Traceback" not in message


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", "null", '"gpt2"', "[" * 100_000, '{"model_type": "gpt2", "n_layer": 1e999}', "\xff"],
    ids=lambda text: text[:20],
)
def test_a_configuration_of_another_form(text: str, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    refused(tmp_path, "config.json")


def test_a_configuration_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    write(tmp_path)
    with (tmp_path / "config.json").open("r+b") as file:
        file.truncate(2**40)  # a hole: it takes no room
    refused(tmp_path, "config.json", "bytes")


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(-3, 3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(CONFIG)), value=VALUES)
def test_any_value_loads_or_is_refused(name: str, value: Any, tmp_path: Path) -> None:
    write(tmp_path, CONFIG | {name: value})
    loads_or_says(tmp_path, str(tmp_path))


# --- the weights -----------------------------------------------------------------------------------------------------


def changed(**tensors_: Tensor | None) -> dict[str, Tensor]:
    found = tensors() | {f"transformer.{name.replace('__', '.')}": tensor for name, tensor in tensors_.items()}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (changed(ln_f__bias=None), ["missing", "ln_f.bias (for norm.bias)"]),
        (changed(extra=torch.zeros(1)), ["no place", "extra", "without=['extra'"]),
        (changed(ln_f__bias=torch.zeros(5)), ["ln_f.bias: expected 6 for norm.bias, found 5"]),
        (changed(ln_f__bias=torch.zeros(6, 1)), ["found 6 × 1"]),
        (changed(ln_f__bias=torch.tensor(1.0)), ["found a single number"]),
        (changed(ln_f__bias=torch.zeros(6, dtype=torch.int64)), ["ln_f.bias", "torch.int64"]),
        (changed(ln_f__bias=torch.zeros(6, dtype=torch.float64)), ["ln_f.bias", "F64", "Convert"]),
        (changed(h__0__attn__c_attn__weight=torch.zeros(18, 6)), ["expected 18 × 6, turned round", "found 18 × 6"]),
        (tensors() | {"wte.weight": torch.zeros(7, 6)}, ["'transformer.wte.weight'", "'wte.weight'", "same tensor"]),
        (tensors() | {"lm_head.weight": torch.zeros(7, 6)}, ["lm_head.weight is wte.weight", "differ"]),
        (tensors() | {"a\nb": torch.zeros(1)}, ["'a\\nb'"]),
        ({}, ["missing", "and"]),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[0][:30],
)
def test_tensors_that_do_not_fit(weights: dict[str, Tensor], said: list[str], tmp_path: Path) -> None:
    config = CONFIG | ({"n_layer": 1} if not weights else {})
    with_layers = refused(write(tmp_path, config, weights), *([] if not weights else said))
    assert with_layers


def test_tensors_are_left_out_where_they_are_named(tmp_path: Path) -> None:
    write(tmp_path, weights=tensors() | {"head.weight": torch.zeros(3), "head.bias": torch.zeros(3)})
    refused(tmp_path, "head.bias, head.weight")
    pretrained.load(tmp_path, without=["head.weight", "head.bias"])
    refused(tmp_path, "no tensor head.wait", without=["head.weight", "head.bias", "head.wait"])
    refused(tmp_path, "cannot do without wte.weight", without=["head.weight", "head.bias", "wte.weight"])


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 2**20), value=st.integers(0, 255), cut=st.booleans())
def test_any_byte_changed_or_cut_off(place: int, value: int, cut: bool, tmp_path: Path) -> None:
    """Most changes are in the numbers, which nobody can tell; those in the header must be told."""
    write(tmp_path)
    data = bytearray(save(tensors()))
    header = 8 + int.from_bytes(data[:8], "little")
    place %= header  # where the names, types, shapes and places are
    data = data[:place] if cut else data[:place] + bytes([value]) + data[place + 1 :]
    (tmp_path / "model.safetensors").write_bytes(data)
    loads_or_says(tmp_path, str(tmp_path))


def test_files_that_are_none(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    refused(tmp_path, "expected model.safetensors or pytorch_model.bin", "found neither")
    os.mkfifo(tmp_path / "model.safetensors")  # reading it would wait for ever
    refused(tmp_path, "model.safetensors", "no file")
    refused(tmp_path / "nowhere", "no such folder or file", "not from a hub")
    refused(tmp_path / "config.json" / "x", "no such folder or file")


# --- pickles ---------------------------------------------------------------------------------------------------------


class Evil:
    """When it is unpickled as pickles are, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("ending", ["bin", "pth", "safetensors"])
@pytest.mark.parametrize("how", ["torch", "plain", "inside"])
def test_a_pickle_is_not_obeyed(ending: str, how: str, tmp_path: Path) -> None:
    evil = Evil(tmp_path / "made")
    path = tmp_path / f"model.{ending}"
    if how == "plain":
        path.write_bytes(pickle.dumps(evil))
    else:
        torch.save(evil if how == "torch" else tensors() | {"x": evil}, path)
    refused(path, str(path))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"state_dict": tensors()}, ["'state_dict'", "dict", "save them alone"]),
        ([torch.zeros(1)], ["found list"]),
        ({}, ["found dict"]),
        ({1: torch.zeros(1)}, ["found 1"]),
        ({"x": torch.zeros(2).to_sparse()}, ["'x'", "sparse"]),
        ({"x": torch.zeros(2, dtype=torch.complex64)}, ["'x'", "complex64"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and isinstance(value[0], str) else "",
)
def test_what_is_no_state_dict(content: Any, said: list[str], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.bin")
    refused(tmp_path / "model.bin", *said)


def test_a_small_file_that_stands_for_much_memory(tmp_path: Path) -> None:
    """A tensor with strides of zero: 4 bytes that stand for 64 TB. It is never laid out, for no model asks for it."""
    write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    weights = tensors() | {"transformer.ln_f.bias": torch.zeros(1).expand(2**44)}
    torch.save(weights, tmp_path / "pytorch_model.bin")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(tmp_path, "ln_f.bias", str(2**44))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


@pytest.mark.parametrize(
    "embedding", [torch.zeros(1).expand(10**6, 6), torch.empty(10**6, 6, device="meta")], ids=["strides", "meta"]
)
def test_a_small_file_whose_configuration_asks_for_much_memory(embedding: Tensor, tmp_path: Path) -> None:
    write(tmp_path, CONFIG | {"vocab_size": 10**6})
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors() | {"transformer.wte.weight": embedding}, tmp_path / "pytorch_model.bin")
    refused(tmp_path, "transformer.wte.weight", "1000000 × 6", "fewer numbers in the file")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 2**20), value=st.integers(0, 255), cut=st.booleans())
def test_any_byte_of_a_pickle_changed_or_cut_off(place: int, value: int, cut: bool, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "model.safetensors").unlink(missing_ok=True)
    path = tmp_path / "pytorch_model.bin"
    torch.save(tensors(), path)
    data = bytearray(path.read_bytes())
    place %= len(data)
    path.write_bytes(data[:place] if cut else data[:place] + bytes([value]) + data[place + 1 :])
    loads_or_says(tmp_path, str(tmp_path))


# --- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../other/model.safetensors", "/etc/passwd", "sub/model.safetensors", "..", "", "a\\b", "a\0b"]
)
def test_an_index_does_not_lead_out_of_the_folder(name: str, tmp_path: Path) -> None:
    write(tmp_path / "other")
    folder = write(tmp_path / "mine")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": dict.fromkeys(tensors(), name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "expected the name of a file in this folder", repr(name))


def test_a_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    other, mine = write(tmp_path / "other"), write(tmp_path / "mine")
    (mine / "model.safetensors").unlink()
    (mine / "model.safetensors").symlink_to(other / "model.safetensors")
    refused(mine, "link that leads out of the folder")
    (mine / "model.safetensors").unlink()
    (other / "model.safetensors").rename(mine / "weights.safetensors")
    (mine / "model.safetensors").symlink_to("weights.safetensors")  # inside of it, it may
    pretrained.load(mine)


def test_a_folder_of_the_hubs_cache(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--x" / "blobs", tmp_path / "models--x" / "snapshots" / "1234"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    write(snapshot)
    for number, name in enumerate(("config.json", "model.safetensors")):
        (snapshot / name).rename(blobs / str(number))
        (snapshot / name).symlink_to(f"../../blobs/{number}")
    pretrained.load(snapshot)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({}, ["expected weight_map"]),
        ({"weight_map": {"a": 1}}, ["expected weight_map"]),
        ({"weight_map": {"a": "one.safetensors", "b": "two.bin"}}, ["one format"]),
        ({"weight_map": dict.fromkeys(tensors(), "gone.safetensors")}, ["gone.safetensors", "no such file"]),
        ({"weight_map": dict.fromkeys([*tensors(), "more"], "all.safetensors")}, ["does not agree", "'more'"]),
        ({"weight_map": {"transformer.wte.weight": "all.safetensors"}}, ["does not agree"]),
    ],
    ids=["none", "no names", "formats", "gone", "more", "fewer"],
)
def test_an_index_that_is_wrong(index: Any, said: list[str], tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "all.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(tmp_path, *said)


def test_a_tensor_in_two_files(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
    save_file({"transformer.wte.weight": torch.zeros(7, 6)}, tmp_path / "b.safetensors")
    names = dict.fromkeys(tensors(), "a.safetensors") | {"transformer.wte.weight": "b.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    refused(tmp_path, "'transformer.wte.weight'", "a.safetensors")


# --- under torchvision's names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (tensors(), ["a ResNet for ImageNet", "config.json"]),
        ({"conv1.weight": torch.zeros(4, 3, 3, 3), "fc.weight": torch.zeros(2, 8)}, ["conv1.weight"]),
        ({"conv1.weight": torch.zeros(4, 3, 7, 7), "fc.weight": torch.zeros(2, 8)}, ["layer1.0.conv1.weight"]),
        (
            {
                "conv1.weight": torch.zeros(4, 3, 7, 7),
                "fc.weight": torch.zeros(2, 8),
                "layer999.0.conv1.weight": torch.zeros(4, 3, 3, 3),
            },
            ["without a gap"],
        ),
    ],
    ids=["another", "stem", "no layers", "gap"],
)
def test_a_file_that_is_no_resnet(weights: dict[str, Tensor], said: list[str], tmp_path: Path) -> None:
    save_file(weights, tmp_path / "x.safetensors")
    refused(tmp_path / "x.safetensors", *said)


@pytest.mark.parametrize("name", ["y" * 300 + ".safetensors", "x\ud800.safetensors"])
def test_an_index_with_names_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(tensors(), name)}))
    refused(tmp_path, "is no name of a file")


def test_paths_that_cannot_be() -> None:
    refused(Path("a" * 5000), "no such folder or file")
    refused(Path("~nobody-of-this-name/x"), "no such folder or file")


NATIVE: dict[str, Any] = {
    "model_type": "glassrun",
    "format": 1,
    "model": {"kind": "language-model", "d_model": 6},
    "facts": {"vocabulary_size": 7, "max_length": 5},
}


@pytest.mark.parametrize(
    ("model", "facts"),
    [
        ({"d_model": 2**31 - 1, "num_heads": 7}, {}),
        ({"d_model": 10**30, "num_heads": 7}, {}),
        ({"d_model": 2**28, "num_heads": 2**28, "positions": "alibi"}, {}),
        ({"num_heads": 1, "positions": "sinusoidal"}, {"max_length": 2**31 - 1}),
    ],
    ids=str,
)
def test_sizes_of_our_own_form_that_nobody_has(model: dict[str, Any], facts: dict[str, int], tmp_path: Path) -> None:
    """Each is refused at once, in one line, before anything is laid out."""
    values = NATIVE | {"model": NATIVE["model"] | model, "facts": NATIVE["facts"] | facts}
    assert "frame #" not in refused(write(tmp_path, values), str(tmp_path))
