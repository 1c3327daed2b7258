"""Maps of whole models with random weights, beside what the models say themselves where they can."""

import pytest
import torch
from torch import nn

from glassrun.capturing.capture import capture
from glassrun.models.cnn import CNN
from glassrun.models.encoder_decoder import EncoderDecoder
from glassrun.models.llama import llama
from glassrun.models.vision_transformer import VisionTransformer
from glassrun.nn.attention import MultiHeadAttention

# --- ours ------------------------------------------------------------------------------------------------------------

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


def test_weights_are_those_that_our_modules_give_themselves():
    model, source, target = encoder_decoder()
    inputs = {}
    for name, module in model.named_modules():
        if isinstance(module, MultiHeadAttention):
            module.register_forward_pre_hook(
                lambda _module, args, kwargs, name=name: inputs.update({name: (args, kwargs)}), with_kwargs=True
            )
    found = capture(model, (source, target)).attention

    decoder = [f"decoder.{i}.{kind}_attention" for i in range(2) for kind in ("self", "cross")]
    assert list(found) == ["encoder.0.attention", *decoder]
    for name, each in found.items():
        args, kwargs = inputs[name]
        with torch.no_grad():
            own = model.get_submodule(name)(*args, **kwargs, weights=True)[1]
        torch.testing.assert_close(each.weights, own)
        assert each.proof < 1e-5
    assert [each.kind for each in found.values()] == ["self", "self", "cross", "self", "cross"]
    assert [each.masking for each in found.values()] == ["mask", "causal", "mask", "causal", "mask"]
    assert found["encoder.0.attention"].weights.shape == (BATCH, HEADS, SOURCE, SOURCE)
    assert found["decoder.1.cross_attention"].weights.shape == (BATCH, HEADS, TARGET, SOURCE)
    assert found["decoder.0.cross_attention"].weights[1, ..., 3:].eq(0).all()
    assert found["decoder.0.self_attention"].weights.triu(1).eq(0).all()


def test_a_model_that_writes_token_by_token():
    model = fill(llama(17, 11, num_layers=2, d_model=24, num_heads=4, num_key_value_heads=2))
    tokens = torch.randint(17, (BATCH, TARGET), generator=torch.Generator().manual_seed(3))
    whole = capture(model, tokens).attention
    cache = model.new_cache()
    with torch.no_grad():
        model(tokens[:, :-1], cache=cache)
    for name, each in capture(model, {"tokens": tokens[:, -1:], "cache": cache}).attention.items():
        torch.testing.assert_close(each.weights, whole[name].weights[:, :, -1:], rtol=1e-4, atol=1e-6)
        assert (each.kind, each.num_heads, each.num_key_value_heads) == ("self", 4, 2)


def test_an_image_model_and_a_network_without_attention():
    image = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    vision = VisionTransformer(1, 8, 8, 5, patch_size=4, num_layers=2, d_model=12, num_heads=3, d_ff=13)
    found = capture(fill(vision), image).attention
    assert {(each.kind, each.masking, each.weights.shape[1]) for each in found.values()} == {("self", "none", 3)}

    network = fill(CNN(1, 8, 8, 5, channels=(3,)))
    seen = capture(network, image, activations="features.0*")
    assert dict(seen.attention) == {}
    assert seen.activations["features.0"].shape == (2, 3, 8, 8)


# --- torch's own -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True, but")
def test_nn_transformer(training, norm_first):
    model = nn.Transformer(
        12, 4, 2, 2, 13, batch_first=True, norm_first=norm_first, dropout=0.0 if training else 0.1
    ).train(training)
    source, target = (torch.randn(2, n, 12, generator=torch.Generator().manual_seed(n)) for n in (5, 7))
    causal = model.generate_square_subsequent_mask(7)
    inputs = {"src": source, "tgt": target, "tgt_mask": causal, "tgt_is_causal": True}
    found = capture(model, inputs).attention
    kinds = {name: (each.kind, each.masking) for name, each in found.items()}
    assert kinds == {
        **{f"encoder.layers.{i}.self_attn": ("self", "none") for i in range(2)},
        **{f"decoder.layers.{i}.self_attn": ("self", "causal") for i in range(2)},
        **{f"decoder.layers.{i}.multihead_attn": ("cross", "none") for i in range(2)},
    }
    assert all(each.proof < 1e-5 for each in found.values())


def test_the_encoder_in_evaluation_whose_one_kernel_calls_no_modules():
    layer = nn.TransformerEncoderLayer(12, 4, 13, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain = model(x)  # through the kernel
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    seen = capture(model, x, activations="layers.*.linear1")
    assert list(seen.attention) == ["layers.0.self_attn", "layers.1.self_attn"]
    assert list(seen.activations) == ["layers.0.linear1", "layers.1.linear1"]
    torch.testing.assert_close(seen.output, plain)
    masked = capture(model, {"src": x, "src_key_padding_mask": padding}).attention["layers.1.self_attn"]
    assert masked.weights[1, ..., 3:].eq(0).all()
    assert torch.backends.mha.get_fastpath_enabled()
    without = capture(model, x, attention=False, activations="layers.*.linear1")
    assert list(without.activations) == ["layers.0.linear1", "layers.1.linear1"]


def test_an_exported_program():
    layer = nn.TransformerEncoderLayer(12, 4, 13, batch_first=True).eval()
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1))
    exported = torch.export.export(layer, (x,)).module()
    (found,) = capture(exported, x).attention.values()
    torch.testing.assert_close(found.weights, capture(layer, x).attention["self_attn"].weights)
    assert (found.kind, found.num_heads) == ("self", 4)


def test_timm():
    timm = pytest.importorskip("timm", reason="needs timm, which is not installed")
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False).eval()
    found = capture(model, torch.zeros(1, 3, 224, 224), attention="blocks.0", queries=[0]).attention
    assert [each.weights.shape for each in found.values()] == [(1, 3, 1, 197)]
