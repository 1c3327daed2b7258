"""The layers of networks as a pass goes through them."""

import torch
from torch import nn

from glassrun.capturing.capture import capture
from glassrun.capturing.maps import Layer
from glassrun.models.cnn import CNN
from glassrun.models.language_model import LanguageModel
from glassrun.models.llama import llama

BATCH, LENGTH, HEADS, D_MODEL, D_FF = 2, 7, 3, 15, 13
TOKENS = torch.zeros(BATCH, LENGTH, dtype=torch.int64)


def layers_of(model, x):
    return capture(model.eval(), x, attention=False).layers


def test_layers_of_a_cnn():
    model = CNN(1, 12, 10, 7, channels=(3,), convolutions=1, kernel_size=5, hidden=11, dropout=0.25)
    assert layers_of(model, torch.zeros(BATCH, 1, 12, 10)) == (
        Layer("features.0.convolution", "Conv2d", "1 → 3, 5 × 5, stride 1, padding 2, no bias", (BATCH, 3, 12, 10), 75),
        Layer("features.0.norm", "BatchNorm2d", "3 features", (BATCH, 3, 12, 10), 6),
        Layer("features.0.activation", "ReLU", "", (BATCH, 3, 12, 10), 0),
        Layer("features.1", "MaxPool2d", "2, stride 2", (BATCH, 3, 6, 5), 0),
        Layer("flatten", "Flatten", "", (BATCH, 90), 0),
        Layer("hidden", "Linear", "90 → 11", (BATCH, 11), 90 * 11 + 11),
        Layer("activation", "ReLU", "", (BATCH, 11), 0),
        Layer("dropout", "Dropout", "25 %", (BATCH, 11), 0),
        Layer("classify", "Linear", "11 → 7", (BATCH, 7), 11 * 7 + 7),
    )


def test_layers_of_a_language_model():
    layers = layers_of(LanguageModel(17, 11, num_layers=1, d_model=D_MODEL, num_heads=HEADS, d_ff=D_FF), TOKENS)
    shape = (BATCH, LENGTH, D_MODEL)
    assert [(layer.name, layer.settings, layer.shape) for layer in layers if layer.kind != "Dropout"] == [
        ("embedding", "17 tokens → 15", shape),
        ("positions", "", shape),
        ("layers.0.attention_residual.norm", "15 features", shape),
        ("layers.0.attention", "3 heads of 5 features", shape),
        ("layers.0.feed_forward_residual.norm", "15 features", shape),
        ("layers.0.feed_forward", "15 → 13 → 15, gelu", shape),
        ("norm", "15 features", shape),
        ("output", "15 → 17, no bias", (BATCH, LENGTH, 17)),
    ]
    counts = {layer.name: layer.parameters for layer in layers}
    assert counts["layers.0.attention"] == 4 * 15 * 15 + 4 * 15
    assert counts["layers.0.feed_forward"] == 2 * 15 * 13 + 13 + 15


def test_layers_of_llama():
    layers = layers_of(llama(17, 11, num_layers=1, d_model=24, num_heads=4, num_key_value_heads=2, d_ff=13), TOKENS)
    described = [(layer.name, layer.kind, layer.settings) for layer in layers if layer.kind != "Dropout"]
    assert described[2:6] == [
        ("layers.0.attention_residual.norm", "RMSNorm", "24 features"),
        ("layers.0.attention", "MultiHeadAttention", "4 heads of 6 features, 2 of keys and values"),
        ("layers.0.feed_forward_residual.norm", "RMSNorm", "24 features"),
        ("layers.0.feed_forward", "GatedFeedForward", "24 → 13 → 24, silu, gated"),
    ]


def test_torch_s_attention_is_one_layer_in_a_model_and_alone():
    layer = nn.TransformerEncoderLayer(12, 3, 13, dropout=0.0)
    kinds = [found.kind for found in layers_of(layer, torch.zeros(5, 1, 12)) if found.kind != "Dropout"]
    assert kinds == ["MultiheadAttention", "LayerNorm", "Linear", "Linear", "LayerNorm"]
    (alone,) = layers_of(layer.self_attn, [torch.zeros(5, 1, 12)] * 3)
    assert (alone.name, alone.settings, alone.shape) == ("", "3 heads of 4 features", (5, 1, 12))


def test_uneven_sizes_are_written_out():
    model = nn.Sequential(
        nn.Conv2d(1, 2, (3, 5), stride=(1, 2), padding=(0, 1)), nn.AvgPool2d((2, 3)), nn.LayerNorm((1, 4)), nn.Tanh()
    )
    assert [layer.settings for layer in layers_of(model, torch.zeros(1, 1, 5, 25))] == [
        "1 → 2, 3 × 5, stride 1 × 2, padding 0 × 1",
        "2 × 3, stride 2 × 3",
        "1 × 4 features",
        "",
    ]
