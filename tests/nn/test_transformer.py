"""Encoder and decoder layers against torch's own, with the norm before and after."""

import pytest
import torch
from torch import nn

from glassrun.nn.transformer import DecoderLayer, EncoderLayer, Residual

BATCH, SOURCE, TARGET, HEADS, D_MODEL, D_FF = 2, 5, 7, 3, 33, 13
EVERY_LAYER = pytest.mark.parametrize("activation", ["relu", "gelu"])
EVERY_NORM = pytest.mark.parametrize("norm", ["pre", "post"])
EVERY_BIAS = pytest.mark.parametrize("bias", [True, False])


def fill(module, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    return module


def draw(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, D_MODEL, generator=generator, dtype=torch.float64) for shape in shapes]


def attention_pairs(ours, theirs):
    return [
        (ours.projections.weight, theirs.in_proj_weight),
        (ours.output.weight, theirs.out_proj.weight),
        (ours.projections.bias, theirs.in_proj_bias),
        (ours.output.bias, theirs.out_proj.bias),
    ]


def affine_pairs(ours, theirs):
    return [(ours.weight, theirs.weight), (ours.bias, theirs.bias)]


def encoder_pairs(ours, theirs):
    return [
        *attention_pairs(ours.attention, theirs.self_attn),
        *affine_pairs(ours.attention_residual.norm, theirs.norm1),
        *affine_pairs(ours.feed_forward.expand, theirs.linear1),
        *affine_pairs(ours.feed_forward.contract, theirs.linear2),
        *affine_pairs(ours.feed_forward_residual.norm, theirs.norm2),
    ]


def decoder_pairs(ours, theirs):
    return [
        *attention_pairs(ours.self_attention, theirs.self_attn),
        *affine_pairs(ours.self_attention_residual.norm, theirs.norm1),
        *attention_pairs(ours.cross_attention, theirs.multihead_attn),
        *affine_pairs(ours.cross_attention_residual.norm, theirs.norm2),
        *affine_pairs(ours.feed_forward.expand, theirs.linear1),
        *affine_pairs(ours.feed_forward.contract, theirs.linear2),
        *affine_pairs(ours.feed_forward_residual.norm, theirs.norm3),
    ]


def copy_over(pairs):
    """Give torch's layer our weights, and say which pairs there are (without bias there are fewer)."""
    present = [(ours, theirs) for ours, theirs in pairs if ours is not None]
    assert all(theirs is None for ours, theirs in pairs if ours is None)
    with torch.no_grad():
        for ours, theirs in present:
            theirs.copy_(ours)
    return present


def assert_same(output, expected, ours, theirs):
    torch.testing.assert_close(output, expected, rtol=1e-11, atol=1e-11)
    (pull,) = draw(99, output.shape[:-1])
    for found, wanted in zip(
        torch.autograd.grad(output, ours, pull), torch.autograd.grad(expected, theirs, pull), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-11)


@EVERY_LAYER
@EVERY_NORM
@EVERY_BIAS
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_encoder_layer_equals_torch_with_gradients(activation, norm, bias, padded, causal):
    layer = fill(EncoderLayer(D_MODEL, HEADS, D_FF, activation=activation, norm=norm, bias=bias).double(), 1)
    # In training mode, without dropout: in evaluation torch would take another way through its layer.
    twin = nn.TransformerEncoderLayer(
        D_MODEL,
        HEADS,
        D_FF,
        dropout=0.0,
        activation=activation,
        norm_first=norm == "pre",
        bias=bias,
        batch_first=True,
        dtype=torch.float64,
    )
    pairs = copy_over(encoder_pairs(layer, twin))
    assert len(pairs) == len(list(layer.parameters()))
    (x,) = draw(2, (BATCH, SOURCE))
    real = torch.ones(BATCH, SOURCE, dtype=torch.bool)
    real[1, -2:] = False
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()

    output = layer(ours, mask=real[:, None, None, :] if padded else None, causal=causal)
    expected = twin(
        theirs,
        src_mask=torch.ones(SOURCE, SOURCE, dtype=torch.bool).triu(1) if causal else None,
        src_key_padding_mask=~real if padded else None,
    )

    assert_same(output, expected, [ours, *(a for a, _ in pairs)], [theirs, *(b for _, b in pairs)])


@EVERY_LAYER
@EVERY_NORM
@EVERY_BIAS
@pytest.mark.parametrize("padded", [False, True])
def test_decoder_layer_equals_torch_with_gradients(activation, norm, bias, padded):
    layer = fill(DecoderLayer(D_MODEL, HEADS, D_FF, activation=activation, norm=norm, bias=bias).double(), 3)
    twin = nn.TransformerDecoderLayer(
        D_MODEL,
        HEADS,
        D_FF,
        dropout=0.0,
        activation=activation,
        norm_first=norm == "pre",
        bias=bias,
        batch_first=True,
        dtype=torch.float64,
    )
    pairs = copy_over(decoder_pairs(layer, twin))
    assert len(pairs) == len(list(layer.parameters()))
    x, memory = draw(4, (BATCH, TARGET), (BATCH, SOURCE))
    real = torch.ones(BATCH, SOURCE, dtype=torch.bool)
    real[1, -2:] = False
    ours = [t.clone().requires_grad_() for t in (x, memory)]
    theirs = [t.clone().requires_grad_() for t in (x, memory)]

    output = layer(*ours, memory_mask=real[:, None, None, :] if padded else None)
    expected = twin(
        *theirs,
        tgt_mask=torch.ones(TARGET, TARGET, dtype=torch.bool).triu(1),
        memory_key_padding_mask=~real if padded else None,
    )

    assert_same(output, expected, [*ours, *(a for a, _ in pairs)], [*theirs, *(b for _, b in pairs)])


def test_residual_hand_computed():
    x = torch.tensor([[[1.0, 3.0]]])  # mean 2, deviation 1, so its norm is (-1, 1)
    pre, post = Residual(2, norm="pre"), Residual(2, norm="post")
    torch.testing.assert_close(pre(x, lambda y: 10 * y), torch.tensor([[[-9.0, 13.0]]]), rtol=0, atol=1e-3)
    # x + (4, 0) = (5, 3), whose norm is (1, -1).
    torch.testing.assert_close(
        post(x, lambda y: y + torch.tensor([3.0, -3.0])), torch.tensor([[[1.0, -1.0]]]), rtol=0, atol=1e-3
    )


def test_residual_dropout_acts_on_the_part_alone():
    x = torch.full((3, 5, D_MODEL), 7.0)
    residual = Residual(D_MODEL, norm="pre", dropout=0.75)
    output = residual.train()(x, lambda y: torch.ones_like(y))
    # 495 entries: the shortcut stays, the part is dropped or scaled by 4.
    assert set(output.unique().tolist()) == {7.0, 11.0}
    assert residual.eval()(x, lambda y: torch.ones_like(y)).eq(8.0).all()


@pytest.mark.parametrize("kind", [EncoderLayer, DecoderLayer])
def test_dropout_reaches_every_part(kind):
    layer = kind(D_MODEL, HEADS, D_FF, dropout=0.25)
    rates = {name: module.p for name, module in layer.named_modules() if isinstance(module, nn.Dropout)}
    assert rates == dict.fromkeys(
        (f"{name}.dropout" for name, m in layer.named_modules() if isinstance(m, Residual)), 0.25
    )
    attentions = [m.dropout for name, m in layer.named_modules() if name.endswith("attention")]
    assert attentions == [0.25] * (1 if kind is EncoderLayer else 2)


@EVERY_NORM
def test_decoder_is_causal_to_the_bit(norm):
    layer = fill(DecoderLayer(D_MODEL, HEADS, D_FF, norm=norm), 5)
    x, memory = (t.float() for t in draw(6, (BATCH, TARGET), (BATCH, SOURCE)))
    before = layer(x, memory)
    for place in range(1, TARGET):
        changed = x.clone()
        changed[:, place:] *= -2.0
        after = layer(changed, memory)
        assert torch.equal(before[:, :place], after[:, :place])
        assert not torch.equal(before[:, place], after[:, place])


@EVERY_NORM
def test_encoder_padding_never_leaks(norm):
    layer = fill(EncoderLayer(D_MODEL, HEADS, D_FF, norm=norm), 7)
    (x,) = (t.float() for t in draw(8, (BATCH, SOURCE)))
    mask = torch.ones(BATCH, 1, 1, SOURCE, dtype=torch.bool)
    mask[1, ..., 3:] = False
    changed = x.clone()
    changed[1, 3:] = 1e3
    before, after = layer(x, mask=mask), layer(changed, mask=mask)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1, :3], after[1, :3])
    assert not torch.equal(layer(changed)[1, :3], after[1, :3])
