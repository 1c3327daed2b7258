"""Residual blocks, their branches and shortcuts."""

import pytest
import torch
from torch import nn

from glassrun.nn.convnext import ConvNeXtBlock
from glassrun.nn.residual import (
    PaddingShortcut,
    ResidualBlock,
    basic_branch,
    bottleneck_branch,
    padding_shortcut,
    projection_shortcut,
)


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def test_hand_computed():
    double, negate = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        double.weight.fill_(2.0)
        negate.weight.fill_(-3.0)
    x = torch.tensor([[1.0], [-1.0]])
    assert ResidualBlock(double, nn.Identity())(x).tolist() == [[3.0], [0.0]]
    assert ResidualBlock(double, negate)(x).tolist() == [[0.0], [1.0]]


@pytest.mark.parametrize(("branch", "out"), [(basic_branch, 5), (bottleneck_branch, 20)])
@pytest.mark.parametrize("shortcut", [projection_shortcut, padding_shortcut])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_branch_and_shortcut_have_the_same_shape(branch, out, shortcut, stride):
    x = draw(2, 5, 7, 11)
    shape = branch(5, 5, stride=stride, norm_groups=None)(x).shape
    assert shape == (2, out, -(-7 // stride), -(-11 // stride))
    assert shape == shortcut(5, out, stride=stride, norm_groups=None)(x).shape


def test_where_the_shape_stays_the_shortcut_is_the_identity():
    for shortcut in (projection_shortcut, padding_shortcut):
        assert isinstance(shortcut(5, 5, stride=1, norm_groups=None), nn.Identity)
        assert not isinstance(shortcut(5, 5, stride=2, norm_groups=None), nn.Identity)


def test_padding_takes_every_second_place_and_adds_zeros():
    x = draw(1, 2, 3, 5)
    y = PaddingShortcut(2, 3, 2)(x)
    assert torch.equal(y[:, :2], x[:, :, [0, 2]][..., [0, 2, 4]])
    assert torch.equal(y[:, 2], torch.zeros(1, 2, 3))


def test_the_stride_of_a_bottleneck_is_in_its_middle():
    branch = bottleneck_branch(5, 3, stride=2, norm_groups=None)
    assert [block.convolution.stride for block in branch] == [(1, 1), (2, 2), (1, 1)]


@pytest.mark.parametrize(
    "block",
    [
        ResidualBlock(basic_branch(4, 4, stride=1, norm_groups=2), nn.Identity(), stochastic_depth=0.5),
        ConvNeXtBlock(4, layer_scale=None, stochastic_depth=0.5),
    ],
    ids=["residual", "convnext"],
)
def test_an_example_whose_branch_is_left_out_goes_through_the_shortcut(block):
    x = draw(31, 4, 5, 7).abs()
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(1)
        y = block.train()(x)
    left_out = (y == x).flatten(1).all(1)
    assert 5 < left_out.sum() < 26
    block.eval()  # where it is added as it is, in training twice
    expected = 2 * block(x) - x if isinstance(block, ConvNeXtBlock) else (x + 2 * block.branch(x)).relu()
    torch.testing.assert_close(y[~left_out], expected[~left_out], rtol=1e-5, atol=1e-5)


def test_convnext_by_torchs_own_layers():
    block = ConvNeXtBlock(6, layer_scale=0.3).double()
    x = draw(2, 6, 9, 11).double()
    scale = torch.full((6, 1, 1), 0.3, dtype=torch.float64)
    maps = nn.functional.conv2d(x, block.depthwise.weight, block.depthwise.bias, padding=3, groups=6)
    maps = nn.functional.layer_norm(maps.permute(0, 2, 3, 1), (6,), block.norm.weight, block.norm.bias, 1e-6)
    inner = nn.functional.gelu(block.feed_forward.expand(maps))
    maps = block.feed_forward.contract(inner).permute(0, 3, 1, 2)
    torch.testing.assert_close(block(x), x + scale.float().double() * maps, rtol=0, atol=1e-12)


def test_layer_scale_is_there_or_not():
    assert ConvNeXtBlock(3).scale.tolist() == pytest.approx([1e-6] * 3)
    assert ConvNeXtBlock(3, layer_scale=None).scale is None
    assert "scale" not in dict(ConvNeXtBlock(3, layer_scale=None).named_parameters())
