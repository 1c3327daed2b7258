"""From layers to the blocks of a drawing."""

import pytest
import torch

from glassrun.look.exhibits.cnn_architecture import called_layers
from glassrun.look.layer_graph import trace
from glassrun.look.network_blocks import network_blocks
from glassrun.models.cnn import CNN
from glassrun.models.convnext import ConvNeXt
from glassrun.models.lenet import LeNet
from glassrun.models.resnet import ResNet
from glassrun.models.vgg import VGG


def blocks_of(model, *shape):
    image = torch.zeros(1, *shape)
    layers = called_layers(model.eval(), image)
    traced = trace(model, image, {layer.name for layer in layers})
    return network_blocks(model, layers, traced, image.shape)


def test_norm_and_activation_are_told_with_their_convolution():
    blocks = blocks_of(CNN(1, 8, 8, 10, channels=(4, 6), convolutions=1, hidden=12), 1, 8, 8)
    assert [(b.kind, b.title, b.shape) for b in blocks] == [
        ("input", "input", (1, 8, 8)),
        ("convolution", "conv 3 × 3", (4, 8, 8)),
        ("pooling", "max pool 2 × 2", (4, 4, 4)),
        ("convolution", "conv 3 × 3", (6, 4, 4)),
        ("pooling", "max pool 2 × 2", (6, 2, 2)),
        ("other", "flatten", (24,)),
        ("linear", "linear", (12,)),
        ("linear", "linear", (10,)),
    ]
    assert blocks[1].notes == ("stride 1, pad 1", "then norm, ReLU")
    assert blocks[6].notes == ("from 24", "then ReLU, dropout")


MODELS = {
    "cnn": (lambda: CNN(3, 16, 16, 7, channels=(4, 6)), (3, 16, 16)),
    "lenet": (lambda: LeNet(1, 28, 28, 10), (1, 28, 28)),
    "vgg": (lambda: VGG(3, 32, 32, 7, channels=(4, 5, 6, 7, 8), hidden=12, batch_norm=True), (3, 32, 32)),
    "resnet": (lambda: ResNet(3, 7, stem_channels=4, channels=(4, 6, 8, 10)), (3, 64, 64)),
    "resnet-padding": (
        lambda: ResNet(3, 7, stem="cifar", stem_channels=4, channels=(4, 6), blocks=(5, 5), shortcut="padding"),
        (3, 16, 16),
    ),
    "convnext": (lambda: ConvNeXt(3, 32, 32, 7, channels=(4, 6, 8), blocks=(2, 2, 6)), (3, 32, 32)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_parameter_is_in_one_block(kind):
    make, shape = MODELS[kind]
    model = make()
    blocks = blocks_of(model, *shape)
    assert sum(b.parameters * b.count for b in blocks) == sum(p.numel() for p in model.parameters())
    assert blocks[0].shape == shape
    assert blocks[-1].shape == (7 if kind != "lenet" else 10,)


def test_what_repeats_is_told_once():
    blocks = [b for b in blocks_of(*_of("resnet-padding")) if b.kind == "block"]
    # The first stage keeps the shape; the first block of the second halves it.
    assert [(b.title, b.count, b.shape, b.branches) for b in blocks] == [
        ("ResidualBlock", 5, (4, 16, 16), True),
        ("ResidualBlock", 1, (6, 8, 8), True),
        ("ResidualBlock", 4, (6, 8, 8), True),
    ]
    assert blocks[1].notes == ("2 weighted layers", "stride 2")
    (*_, last) = [b for b in blocks_of(*_of("convnext")) if b.kind == "block"]
    assert (last.title, last.count, last.shape, last.branches) == ("ConvNeXtBlock", 6, (8, 2, 2), True)


def test_a_deep_network_stays_a_drawing():
    model = VGG(1, 64, 64, 7, channels=(2, 3), convolutions=(30, 30), hidden=5)
    blocks = blocks_of(model, 1, 64, 64)
    assert len(blocks) <= 42
    deep = torch.nn.Sequential(*(torch.nn.Conv2d(1, 1, 1 + 2 * (n % 2), padding=n % 2) for n in range(60)))
    blocks = blocks_of(deep, 1, 8, 8)
    assert len(blocks) == 42
    assert [b.title for b in blocks if b.kind == "other"] == ["20 more"]
    assert sum(b.parameters * b.count for b in blocks) == sum(p.numel() for p in deep.parameters())


def _of(kind):
    make, shape = MODELS[kind]
    return make(), *shape
