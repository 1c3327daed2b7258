"""What a forward pass shows, and that watching leaves no trace."""

import pytest
import torch
from torch import nn

from glassrun.look.capture import Layer, capturing
from glassrun.models.cnn import CNN
from glassrun.models.encoder_decoder import EncoderDecoder
from glassrun.models.language_model import LanguageModel
from glassrun.models.llama import llama
from glassrun.nn.attention import MultiHeadAttention

BATCH, SOURCE, TARGET, HEADS, D_MODEL, D_FF = 2, 5, 7, 3, 15, 13
PADDING = 0


def fill(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.4, generator=generator)
    return model.eval()


def encoder_decoder():
    model = EncoderDecoder(
        17, 19, 11, PADDING, encoder_layers=1, decoder_layers=2, d_model=D_MODEL, num_heads=HEADS, d_ff=D_FF
    )
    generator = torch.Generator().manual_seed(2)
    source = torch.randint(1, 17, (BATCH, SOURCE), generator=generator)
    source[1, 3:] = PADDING
    return fill(model), source, torch.randint(1, 19, (BATCH, TARGET), generator=generator)


def hooks_of(model):
    return [hook for module in model.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)]


def test_watching_changes_no_bit_and_leaves_no_hook():
    model, source, target = encoder_decoder()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = model(source, target)
    with capturing(model) as seen:
        watched = model(source, target)
        assert hooks_of(model)
    assert torch.equal(watched, expected)
    assert hooks_of(model) == []
    count = len(seen.layers)
    model(source, target)
    assert len(seen.layers) == count
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_no_hook_is_left_when_the_forward_fails():
    model, source, _ = encoder_decoder()
    too_many = torch.full((BATCH, TARGET), 19)  # the vocabulary ends at 18
    with pytest.raises(IndexError), capturing(model):
        model(source, too_many)
    assert hooks_of(model) == []


def test_hooks_of_others_stay():
    model, source, target = encoder_decoder()
    calls = []
    model.encoder[0].register_forward_hook(lambda *_: calls.append(1))
    with capturing(model):
        model(source, target)
    model(source, target)
    assert len(calls) == 2


def test_attention_weights_are_the_modules_own():
    model, source, target = encoder_decoder()
    inputs = {}
    for name, module in model.named_modules():
        if isinstance(module, MultiHeadAttention):
            module.register_forward_pre_hook(
                lambda _module, args, kwargs, name=name: inputs.update({name: (args, kwargs)}), with_kwargs=True
            )
    with capturing(model) as seen:
        model(source, target)

    decoder = [f"decoder.{i}.{kind}_attention" for i in range(2) for kind in ("self", "cross")]
    assert list(seen.attention) == ["encoder.0.attention", *decoder]
    for name, weights in seen.attention.items():
        args, kwargs = inputs[name]
        assert torch.equal(weights, model.get_submodule(name)(*args, **kwargs, weights=True)[1])
        assert not weights.requires_grad
    assert seen.attention["encoder.0.attention"].shape == (BATCH, HEADS, SOURCE, SOURCE)
    assert seen.attention["decoder.1.cross_attention"].shape == (BATCH, HEADS, TARGET, SOURCE)
    # The masks of the pass are in them: padding here, what comes later there.
    assert seen.attention["encoder.0.attention"][1, ..., 3:].eq(0).all()
    assert seen.attention["decoder.0.cross_attention"][1, ..., 3:].eq(0).all()
    assert seen.attention["decoder.0.self_attention"].triu(1).eq(0).all()
    assert seen.attention["decoder.0.self_attention"].tril().ne(0).sum() == BATCH * HEADS * TARGET * (TARGET + 1) // 2


def test_outputs_are_what_the_modules_returned():
    model, source, target = encoder_decoder()
    with capturing(model) as seen:
        logits = model(source, target)
    assert torch.equal(seen.outputs["output"], logits)
    assert torch.equal(seen.outputs["source_embedding"], model.source_embedding.weight[source])
    assert not any(output.requires_grad for output in seen.outputs.values())
    # What is inside a unit is its own affair.
    assert not [name for name in seen.outputs if name.endswith(("projections", "expand", "attention.output"))]
    assert "decoder.1.feed_forward" in seen.outputs


def test_an_output_stays_as_it_was_when_the_next_layer_works_in_place():
    # A model of the user's may well hold ReLU(inplace=True).
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU(inplace=True))
    with torch.no_grad():
        model[0].weight.fill_(-1.0)
    with capturing(model) as seen:
        model(torch.ones(1, 2))
    assert seen.outputs["1"].tolist() == [[0.0]]
    assert seen.outputs["0"].tolist() == [[-2.0]]


def test_layers_of_a_cnn():
    model = fill(CNN(1, 12, 10, 7, channels=(3,), convolutions=1, kernel_size=5, hidden=11, dropout=0.25))
    with capturing(model) as seen:
        model(torch.zeros(BATCH, 1, 12, 10))
    assert seen.layers == [
        Layer("features.0.convolution", "Conv2d", "1 → 3, 5 × 5, stride 1, padding 2, no bias", (BATCH, 3, 12, 10), 75),
        Layer("features.0.norm", "BatchNorm2d", "3 features", (BATCH, 3, 12, 10), 6),
        Layer("features.0.activation", "ReLU", "", (BATCH, 3, 12, 10), 0),
        Layer("features.1", "MaxPool2d", "2, stride 2", (BATCH, 3, 6, 5), 0),
        Layer("flatten", "Flatten", "", (BATCH, 90), 0),
        Layer("hidden", "Linear", "90 → 11", (BATCH, 11), 90 * 11 + 11),
        Layer("activation", "ReLU", "", (BATCH, 11), 0),
        Layer("dropout", "Dropout", "25 %", (BATCH, 11), 0),
        Layer("classify", "Linear", "11 → 7", (BATCH, 7), 11 * 7 + 7),
    ]


def test_layers_of_a_language_model():
    model = fill(LanguageModel(17, 11, num_layers=1, d_model=D_MODEL, num_heads=HEADS, d_ff=D_FF))
    with capturing(model) as seen:
        model(torch.zeros(BATCH, TARGET, dtype=torch.int64))
    shape = (BATCH, TARGET, D_MODEL)
    described = [(layer.name, layer.settings, layer.shape) for layer in seen.layers if layer.kind != "Dropout"]
    assert described == [
        ("embedding", "17 tokens → 15", shape),
        ("positions", "", shape),
        ("layers.0.attention_residual.norm", "15 features", shape),
        ("layers.0.attention", "3 heads of 5 features", shape),
        ("layers.0.feed_forward_residual.norm", "15 features", shape),
        ("layers.0.feed_forward", "15 → 13 → 15, gelu", shape),
        ("norm", "15 features", shape),
        ("output", "15 → 17, no bias", (BATCH, TARGET, 17)),
    ]
    counts = {layer.name: layer.parameters for layer in seen.layers}
    assert counts["layers.0.attention"] == 4 * 15 * 15 + 4 * 15
    assert counts["layers.0.feed_forward"] == 2 * 15 * 13 + 13 + 15


def test_layers_of_llama():
    model = fill(llama(17, 11, num_layers=1, d_model=24, num_heads=4, num_key_value_heads=2, d_ff=13))
    with capturing(model) as seen:
        model(torch.zeros(BATCH, TARGET, dtype=torch.int64))
    described = [(layer.name, layer.kind, layer.settings) for layer in seen.layers if layer.kind != "Dropout"]
    assert described[2:6] == [
        ("layers.0.attention_residual.norm", "RMSNorm", "24 features"),
        ("layers.0.attention", "MultiHeadAttention", "4 heads of 6 features, 2 of keys and values"),
        ("layers.0.feed_forward_residual.norm", "RMSNorm", "24 features"),
        ("layers.0.feed_forward", "GatedFeedForward", "24 → 13 → 24, silu, gated"),
    ]


def test_watching_a_model_write_token_by_token_changes_nothing():
    model = fill(llama(17, 11, num_layers=2, d_model=24, num_heads=4))
    tokens = torch.randint(17, (BATCH, TARGET), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        with capturing(model) as whole:
            expected = model(tokens)
        cache = model.new_cache()
        model(tokens[:, :-1], cache=cache)
        with capturing(model) as seen:
            last = model(tokens[:, -1:], cache=cache)
    torch.testing.assert_close(last, expected[:, -1:], rtol=1e-4, atol=1e-5)
    for name, weights in seen.attention.items():
        torch.testing.assert_close(weights, whole.attention[name][:, :, -1:], rtol=1e-4, atol=1e-6)


def test_uneven_sizes_are_written_out():
    model = nn.Sequential(
        nn.Conv2d(1, 2, (3, 5), stride=(1, 2), padding=(0, 1)), nn.AvgPool2d((2, 3)), nn.LayerNorm((1, 4)), nn.Tanh()
    )
    with capturing(model) as seen:
        model(torch.zeros(1, 1, 5, 25))
    assert [layer.settings for layer in seen.layers] == [
        "1 → 2, 3 × 5, stride 1 × 2, padding 0 × 1",
        "2 × 3, stride 2 × 3",
        "1 × 4 features",
        "",
    ]
