"""Models of transformers' with random weights, written out and fused: the maps are those that they give themselves."""

import pytest
import torch

from glassrun.capturing.capture import capture
from hugging_face import BERT, CONVNEXT, GPT2, IMAGES, LLAMA, RESNET, T5, TOKENS, VIT, make

PADDED = torch.ones(TOKENS.shape, dtype=torch.int64)
PADDED[1, 4:] = 0
MARIAN = {
    "vocab_size": 19,
    "d_model": 12,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 3,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 13,
    "decoder_ffn_dim": 11,
    "max_position_embeddings": 17,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}
TEXT = {"input_ids": TOKENS}
PAIR = {"input_ids": TOKENS, "attention_mask": PADDED, "decoder_input_ids": TOKENS[:, :5]}

# What makes the model; what it is called with; by the name of its own list of weights the kind and the masking.
CASES = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2, TEXT, {"attentions": ("self", "causal")}),
    "bert": ("BertModel", "BertConfig", BERT, TEXT, {"attentions": ("self", "none")}),
    "bert padded": (
        "BertModel",
        "BertConfig",
        BERT,
        TEXT | {"attention_mask": PADDED},
        {"attentions": ("self", "mask")},
    ),
    "vit": ("ViTModel", "ViTConfig", VIT, {"pixel_values": IMAGES}, {"attentions": ("self", "none")}),
    "llama": (
        "LlamaForCausalLM",
        "LlamaConfig",
        LLAMA | {"num_key_value_heads": 2},
        TEXT,
        {"attentions": ("self", "causal")},
    ),
    "llama padded": (
        "LlamaForCausalLM",
        "LlamaConfig",
        LLAMA | {"num_key_value_heads": 2},
        TEXT | {"attention_mask": PADDED},
        {"attentions": ("self", "causal+mask")},
    ),
    "marian": (
        "MarianMTModel",
        "MarianConfig",
        MARIAN,
        PAIR,
        {
            "encoder_attentions": ("self", "mask"),
            "decoder_attentions": ("self", "causal"),
            "cross_attentions": ("cross", "mask"),
        },
    ),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        T5 | {"decoder_start_token_id": 0},
        PAIR,
        {
            "encoder_attentions": ("self", "mask"),
            "decoder_attentions": ("self", "causal"),
            "cross_attentions": ("cross", "mask"),
        },
    ),
}


@pytest.mark.parametrize("way", ["eager", "sdpa"])
@pytest.mark.parametrize("case", CASES)
def test_maps_are_the_models_own(case, way):
    kind, config, values, inputs, kinds = CASES[case]
    model = make(kind, config, **values, attn_implementation="eager")
    with torch.no_grad():
        own = model(**inputs, output_attentions=True)
    model.set_attn_implementation(way)
    found = list(capture(model, inputs).attention.values())

    if len(kinds) > 1:  # each layer of the decoder has two
        decoder = zip(own.decoder_attentions, own.cross_attentions, strict=True)
        names = ["encoder_attentions"] * len(own.encoder_attentions)
        names += ["decoder_attentions", "cross_attentions"] * len(own.decoder_attentions)
        expected = [*own.encoder_attentions, *(each for pair in decoder for each in pair)]
    else:
        names, expected = ["attentions"] * len(own.attentions), own.attentions
    assert len(found) == len(expected)
    for name, each, weights in zip(names, found, expected, strict=True):
        torch.testing.assert_close(each.weights, weights, rtol=1e-4, atol=1e-5)
        assert each.proof < 1e-5
        assert (each.kind, each.masking) == kinds[name]
        assert each.num_heads == weights.shape[1]
        assert each.num_key_value_heads == values.get("num_key_value_heads", weights.shape[1])


@pytest.mark.parametrize("case", ["gpt2", "bert", "t5"])
def test_in_training_mode(case):
    kind, config, values, inputs, _ = CASES[case]
    model = make(kind, config, **values, attn_implementation="eager").train()
    torch.manual_seed(5)
    eager = capture(model, inputs).attention
    assert len(eager) >= 2
    for each in eager.values():
        torch.testing.assert_close(each.weights.sum(-1), torch.ones(each.weights.shape[:-1]))
        assert each.proof != each.proof  # dropout is active


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")  # versions before know no other
@pytest.mark.parametrize("way", ["eager", "sdpa"])
def test_with_keys_and_values_from_a_cache(way):
    kind, config, values, _, _ = CASES["llama"]
    model = make(kind, config, **values, attn_implementation=way)
    whole = capture(model, TOKENS).attention
    with torch.no_grad():
        before = model(TOKENS[:, :-1], use_cache=True).past_key_values
    found = capture(model, {"input_ids": TOKENS[:, -1:], "past_key_values": before}).attention
    assert list(found) == list(whole)
    for name, each in found.items():
        torch.testing.assert_close(each.weights, whole[name].weights[:, :, -1:], rtol=1e-4, atol=1e-5)
        assert (each.kind, each.num_key_value_heads) == ("self", 2)


def test_convolutional_networks_have_activations():
    resnet = make("ResNetForImageClassification", "ResNetConfig", **RESNET)
    seen = capture(resnet, IMAGES, activations=["resnet.encoder.stages.*", "resnet"])
    assert seen.activations["resnet.encoder.stages.2"].shape[:2] == (2, 20)
    with torch.no_grad():
        assert torch.equal(seen.activations["resnet"], resnet.resnet(IMAGES).last_hidden_state)
    convnext = make("ConvNextForImageClassification", "ConvNextConfig", **CONVNEXT)
    assert [layer.kind for layer in capture(convnext, IMAGES, attention=False).layers][:1] == ["Conv2d"]
