"""Logits of loaded models equal those of the library that wrote them, in float32 to 1e-5 of the largest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from glassrun import pretrained
from glassrun.errors import ModelError
from glassrun.nn.attention import MultiHeadAttention
from hugging_face import IMAGES, MODELS, inputs, logits, save

TOLERANCE = 1e-5


def off(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    assert ours.dtype == torch.float32
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("name", MODELS)
def test_logits(name: str, tmp_path: Path) -> None:
    theirs = save(name, tmp_path)
    ours = pretrained.load(tmp_path)
    assert not ours.training
    with torch.no_grad():
        assert off(ours(*inputs(name)), logits(name, theirs)) < TOLERANCE
    if not name.startswith("t5 1.1") and name != "bert untied":  # see docs/pretrained.md
        assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize("name", ["gpt2", "t5", "resnet"])
def test_in_several_files_and_pickled(name: str, tmp_path: Path) -> None:
    theirs = save(name, tmp_path / "sharded", max_shard_size="4KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    sharded = pretrained.load(tmp_path / "sharded")
    (tmp_path / "pickled").mkdir()
    torch.save(theirs.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "pickled" / "config.json").write_bytes((tmp_path / "sharded" / "config.json").read_bytes())
    pickled = pretrained.load(tmp_path / "pickled")
    for (first, one), (second, other) in zip(sharded.named_parameters(), pickled.named_parameters(), strict=True):
        assert first == second
        assert torch.equal(one, other)
    with torch.no_grad():
        assert off(sharded(*inputs(name)), logits(name, theirs)) < TOLERANCE


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = save("gpt2", tmp_path)
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    ours = pretrained.load(tmp_path)
    expected = theirs.to(dtype).float()
    with torch.no_grad():
        assert off(ours(*inputs("gpt2")), logits("gpt2", expected)) < TOLERANCE


def test_names_of_files_that_the_base_class_wrote(tmp_path: Path) -> None:
    """GPT-2's own files have no `transformer.` before their names, and hold the causal mask."""
    theirs = save("gpt2", tmp_path)
    tensors = {name.removeprefix("transformer."): t for name, t in load_file(tmp_path / "model.safetensors").items()}
    tensors["h.0.attn.bias"] = torch.ones(11, 11).tril()[None, None]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with torch.no_grad():
        assert off(pretrained.load(tmp_path)(*inputs("gpt2")), logits("gpt2", theirs)) < TOLERANCE


def test_names_of_the_oldest_files(tmp_path: Path) -> None:
    """As in BERT's own: gamma and beta, the places, and heads that the model has not."""
    theirs = save("bert", tmp_path)
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    heads = {"bert.pooler.dense.bias": torch.zeros(15), "cls.seq_relationship.bias": torch.zeros(2)}
    tensors |= heads | {"bert.embeddings.position_ids": torch.arange(11)[None]}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"no place in the model: pooler\.dense\.bias, cls\.seq_relationship\.bias\."):
        pretrained.load(tmp_path)
    with torch.no_grad():
        assert off(pretrained.load(tmp_path, without=list(heads))(*inputs("bert")), logits("bert", theirs)) < TOLERANCE


def test_masks_and_segments_of_bert(tmp_path: Path) -> None:
    theirs = save("bert untied", tmp_path)
    (tokens,) = inputs("bert")
    segments = tokens % 3
    mask = torch.ones_like(tokens)
    mask[1, 3:] = 0
    with torch.no_grad():
        ours = pretrained.load(tmp_path)(tokens, segments=segments, mask=mask == 1)
        expected = theirs(tokens, token_type_ids=segments, attention_mask=mask).logits
    assert off(ours[:, :3], expected[:, :3]) < TOLERANCE
    assert off(ours[[0, 2]], expected[[0, 2]]) < TOLERANCE


def test_rates_of_dropout_come_with_the_weights(tmp_path: Path) -> None:
    save("gpt2", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"resid_pdrop": 0.2, "embd_pdrop": 0.3, "attn_pdrop": 0.4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = pretrained.load(tmp_path)
    assert model.dropout.p == 0.3
    assert {module.dropout for module in model.modules() if isinstance(module, MultiHeadAttention)} == {0.4}
    assert model.layers[1].feed_forward_residual.dropout.p == 0.2  # type: ignore[index, union-attr]


def test_parts_that_are_not_as_high_as_they_should_be(tmp_path: Path) -> None:
    """Together they are: queries, keys and values are one tensor of ours."""
    save("llama grouped", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    q, k = (f"model.layers.1.self_attn.{part}_proj.weight" for part in "qk")
    tensors[q], tensors[k] = tensors[q][:20].clone(), torch.cat([tensors[k], tensors[q][20:]])
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError) as error:
        pretrained.load(tmp_path)
    assert "expected 40 × 24 together, their heights as 6 to 2 to 2, for layers.1" in str(error.value)
    assert "found 20 × 24 and 12 × 24 and 8 × 24" in str(error.value)


NAMES = {  # of Hugging Face's ResNet in torchvision's
    "resnet.embedder.embedder.convolution": "conv1",
    "resnet.embedder.embedder.normalization": "bn1",
    "classifier.1": "fc",
}


def torchvision_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A ResNet's tensors as torchvision calls them."""
    found = {}
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".")
        if module in NAMES:
            found[f"{NAMES[module]}.{part}"] = tensor
            continue
        _, _, _, stage, _, block, where, *rest = module.split(".")
        if where == "shortcut":
            inside = f"downsample.{int(rest[0] == 'normalization')}"
        else:
            inside = f"{'conv' if rest[1] == 'convolution' else 'bn'}{int(rest[0]) + 1}"
        found[f"layer{int(stage) + 1}.{block}.{inside}.{part}"] = tensor
    return found


@pytest.mark.parametrize("name", ["resnet", "resnet basic"])
@pytest.mark.parametrize("ending", ["safetensors", "bin", "pth"])
def test_state_dicts_under_the_names_of_torchvision(name: str, ending: str, tmp_path: Path) -> None:
    theirs = MODELS[name]()
    tensors = torchvision_names(dict(theirs.state_dict()))
    if ending == "pth":  # as older files are: before torch's archives, and without batch norm's counters
        tensors = {name: tensor for name, tensor in tensors.items() if "num_batches" not in name}
        torch.save(tensors, tmp_path / "model.pth", _use_new_zipfile_serialization=False)
    elif ending == "bin":
        torch.save(tensors, tmp_path / "model.bin")
    else:
        save_file(tensors, tmp_path / "model.safetensors")
    ours = pretrained.load(tmp_path / f"model.{ending}")
    with torch.no_grad():
        assert off(ours(IMAGES), logits(name, theirs)) < TOLERANCE


def test_a_resnet_of_torchvision_itself(tmp_path: Path) -> None:
    try:
        from torchvision.models import resnet18
    except Exception as error:  # its build for another torch fails in many ways
        pytest.skip(f"torchvision does not import here: {type(error).__name__}")
    theirs = resnet18().eval()
    save_file(theirs.state_dict(), tmp_path / "resnet18.safetensors")
    with torch.no_grad():
        assert off(pretrained.load(tmp_path / "resnet18.safetensors")(IMAGES), theirs(IMAGES)) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("gpt2", {"n_special": 0, "predict_special_tokens": True}),  # of GPT-2 from 355M up
        ("gpt2", {"_num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}),  # of DistilGPT-2
        ("gpt2", {"is_decoder": False, "pruned_heads": {}, "torchscript": False, "use_bfloat16": False}),
        ("bert", {"directionality": "bidi", "pooler_fc_size": 768, "pooler_type": "first_token_transform"}),
    ],
)
def test_settings_of_published_files_that_change_nothing(name: str, extra: dict[str, object], tmp_path: Path) -> None:
    theirs = save(name, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | extra))
    with torch.no_grad():
        assert off(pretrained.load(tmp_path)(*inputs(name)), logits(name, theirs)) < TOLERANCE


@pytest.mark.parametrize("extra", [{"dense_act_fn": "gelu"}, {"is_gated_act": True}])
def test_an_activation_of_t5_that_is_not_that_of_its_form(extra: dict[str, object], tmp_path: Path) -> None:
    """Their code computes with these, whatever `feed_forward_proj` says."""
    save("t5", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | extra))
    with pytest.raises(ModelError, match=next(iter(extra))):
        pretrained.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rope_type": "yarn", "factor": 2.0, "rope_theta": 1.0}, "rope_theta"),
        ({"rope_type": "yarn", "factor": 0.0}, "factor"),
        ({"rope_type": "yarn", "factor": 2.0, "beta_fast": 0}, "beta_fast"),
        ({"rope_type": "linear", "factor": 0.0}, "factor"),
        ({"rope_type": "linear", "factor": 10**400}, "factor"),
        ({"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0}, "high_freq_factor"),
        ({"rope_type": "default", "rope_theta": 0.0}, "rope_theta"),
    ],
)
def test_rotary_positions_that_cannot_be(change: dict[str, object], said: str, tmp_path: Path) -> None:
    save("llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"rope_parameters": {"rope_theta": 50.0} | change}))
    with pytest.raises(ModelError, match=said):
        pretrained.load(tmp_path)


def test_a_table_of_positions_that_no_file_pays_for(tmp_path: Path) -> None:
    save("llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2**31 - 1}))
    with pytest.raises(ModelError, match=r"tables of 34,359,738,352 bytes that are in no file"):
        pretrained.load(tmp_path)
