"""The convolution block in 1, 2 and 3 dimensions, against the pure functions."""

import pytest
import torch
from torch import nn

from glassrun.functional.convolution import convolution, global_average_pooling, output_size
from glassrun.functional.feature_maps import batch_normalisation, group_normalisation
from glassrun.nn.convolution import ConvolutionBlock, GlobalAveragePooling
from glassrun.nn.feature_maps import ChannelLayerNorm

BATCH, IN, OUT = 2, 4, 6
SIZES = {1: (13,), 2: (7, 11), 3: (5, 7, 6)}
EVERY_DIMENSION = pytest.mark.parametrize("dimensions", [1, 2, 3])


def filled(module, seed=1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
    return module.double()


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@EVERY_DIMENSION
@pytest.mark.parametrize("norm_groups", [None, 3])
@pytest.mark.parametrize("activation", [False, True])
def test_a_block_is_convolution_norm_and_relu(dimensions, norm_groups, activation):
    options = {"stride": 2, "dilation": 3, "groups": 2}
    block = filled(
        ConvolutionBlock(IN, OUT, 3, norm_groups=norm_groups, activation=activation, dimensions=dimensions, **options)
    )
    x = draw(BATCH, IN, *SIZES[dimensions])
    kernel, weight, bias = block.parameters()
    maps = convolution(x, kernel, padding=3, **options)
    if norm_groups is None:
        expected = batch_normalisation(maps, weight, bias)
    else:
        expected = group_normalisation(maps, norm_groups, weight, bias)
    found = block(x)
    torch.testing.assert_close(found, expected.clamp(min=0) if activation else expected, rtol=0, atol=1e-11)
    assert list(found.shape[2:]) == [output_size(side, 1, stride=2) for side in SIZES[dimensions]]


def test_a_volume_goes_through_a_network_of_3_d_blocks():
    network = nn.Sequential(
        ConvolutionBlock(1, 3, 3, dimensions=3),
        nn.MaxPool3d(2),
        ConvolutionBlock(3, 5, 3, stride=2, dimensions=3),
        GlobalAveragePooling(),
        nn.Linear(5, 7),
    )
    volume = torch.randn(2, 1, 9, 11, 13, generator=torch.Generator().manual_seed(3))
    logits = network(volume)
    assert logits.shape == (2, 7)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_global_average_pooling_calls_its_function():
    x = draw(BATCH, IN, 5, 7)
    assert torch.equal(GlobalAveragePooling()(x), global_average_pooling(x))


def test_channel_layer_norm_is_torchs_layer_norm_of_each_place():
    x = draw(BATCH, OUT, 5, 7)
    ours, theirs = filled(ChannelLayerNorm(OUT, eps=1e-3)), nn.LayerNorm(OUT, eps=1e-3).double()
    theirs.load_state_dict(ours.state_dict())
    expected = theirs(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-13)
