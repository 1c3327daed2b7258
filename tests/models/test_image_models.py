"""LeNet, VGG, ResNet and ConvNeXt: their layers in a row, sizes of images, arguments, starts."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from glassrun.errors import ModelError
from glassrun.models.arguments import ARGUMENTS
from glassrun.models.convnext import ConvNeXt
from glassrun.models.image_size import pooled_size
from glassrun.models.lenet import LeNet
from glassrun.models.resnet import ResNet
from glassrun.models.vgg import VGG
from glassrun.nn.initialisation import initialise
from glassrun.nn.stochastic_depth import StochasticDepth

BATCH, IN, CLASSES = 3, 2, 17


def filled(model, seed=1):
    """Every parameter and running average drawn anew, so that no layer is the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0, generator=generator)
            elif tensor.is_floating_point():
                fan_in = tensor[0].numel() if tensor.ndim > 1 else 1
                tensor.normal_(0.0, fan_in**-0.5, generator=generator)
    return model


def images(*size, seed=2):
    return torch.randn(BATCH, IN, *size, generator=torch.Generator().manual_seed(seed))


def test_vgg_is_its_layers_in_a_row():
    model = filled(VGG(IN, 9, 11, CLASSES, channels=(3, 5), convolutions=(1, 2), hidden=7)).eval()
    c1, b1, c2, b2, c3, b3, w1, v1, w2, v2, w3, v3 = model.parameters()
    x = images(9, 11)
    maps = nn.functional.max_pool2d(nn.functional.conv2d(x, c1, b1, padding=1).relu(), 2)
    maps = nn.functional.conv2d(nn.functional.conv2d(maps, c2, b2, padding=1).relu(), c3, b3, padding=1).relu()
    flat = nn.functional.max_pool2d(maps, 2).flatten(1)
    expected = (flat @ w1.T + v1).relu() @ w2.T + v2
    torch.testing.assert_close(model(x), expected.relu() @ w3.T + v3, rtol=1e-5, atol=1e-5)
    normed = VGG(IN, 9, 11, CLASSES, channels=(3, 5), convolutions=(1, 2), hidden=7, batch_norm=True)
    kinds = [type(layer).__name__ for layer in normed.features]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", *["Conv2d", "BatchNorm2d", "ReLU"] * 2, "MaxPool2d"]


def test_lenet_is_its_layers_in_a_row():
    model = filled(LeNet(IN, 17, 21, CLASSES, padding=1)).eval()
    c1, b1, c3, b3, w5, v5, w6, v6, w, v = model.parameters()
    x = images(17, 21)
    maps = nn.functional.avg_pool2d(nn.functional.conv2d(x, c1, b1, padding=1).tanh(), 2)
    maps = nn.functional.avg_pool2d(nn.functional.conv2d(maps, c3, b3).tanh(), 2)
    hidden = ((maps.flatten(1) @ w5.T + v5).tanh() @ w6.T + v6).tanh()
    torch.testing.assert_close(model(x), hidden @ w.T + v, rtol=1e-5, atol=1e-5)
    assert c3.shape[:2] == (16, 6)
    assert (len(w5), len(w6)) == (120, 84)


# --- sizes of images -------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2))
def test_lenet_says_which_images_are_too_small(height, width, padding):
    needed = 16 - 2 * padding
    if min(height, width) >= needed:
        model = LeNet(1, height, width, CLASSES, padding=padding)
        assert model(torch.zeros(1, 1, height, width)).shape == (1, CLASSES)
        return
    with pytest.raises(ModelError, match=f"images of {height} × {width} are too small .* at least {needed} × {needed}"):
        LeNet(1, height, width, CLASSES, padding=padding)


@settings(max_examples=40)
@given(st.integers(1, 33), st.integers(1, 33), st.integers(1, 3), st.integers(1, 3))
def test_convnext_says_which_images_are_too_small(height, width, patch_size, stages):
    arguments = {"patch_size": patch_size, "channels": (3,) * stages, "blocks": (1,) * stages}
    needed = patch_size * 2 ** (stages - 1)
    if min(height, width) >= needed:
        assert ConvNeXt(1, height, width, CLASSES, **arguments)(torch.zeros(1, 1, height, width)).shape == (1, CLASSES)
        return
    with pytest.raises(ModelError, match=f"images of {height} × {width} .* which need {needed} × {needed}"):
        ConvNeXt(1, height, width, CLASSES, **arguments)


def test_vgg_says_which_images_are_too_small():
    with pytest.raises(ModelError, match=r"images of 28 × 31 are too small for 5 poolings.* at most 4 entries"):
        VGG(1, 28, 31, CLASSES)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 8))
def test_every_pooling_halves_and_leaves_out_what_is_odd(height, width, poolings):
    if min(height, width) >> poolings:
        assert pooled_size(height, width, poolings) == (height >> poolings, width >> poolings)
    else:
        with pytest.raises(ModelError, match="too small"):
            pooled_size(height, width, poolings)


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
@pytest.mark.parametrize("shortcut", ["projection", "padding"])
def test_images_of_any_size_go_through_a_resnet(stem, shortcut):
    model = ResNet(IN, CLASSES, stem=stem, shortcut=shortcut, stem_channels=3, channels=(3, 5), blocks=(1, 2)).eval()
    for size in ((1, 1), (5, 3), (16, 31)):
        assert model(images(*size)).shape == (BATCH, CLASSES)


def test_the_stems_and_stages_of_a_resnet_reduce_as_the_paper_says():
    sizes = {}
    for stem in ("imagenet", "cifar"):
        model = ResNet(IN, CLASSES, stem=stem, stem_channels=3, channels=(3, 5, 7), blocks=(1, 1, 1))
        x = model.stem(torch.zeros(BATCH, IN, 64, 32))
        sizes[stem] = [tuple(x.shape[2:])]
        for stage in model.stages:
            x = stage(x)
            sizes[stem].append(tuple(x.shape[2:]))
    assert sizes["imagenet"] == [(16, 8), (16, 8), (8, 4), (4, 2)]
    assert sizes["cifar"] == [(64, 32), (64, 32), (32, 16), (16, 8)]


# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "vgg", "channels": [3, 5], "convolutions": [1]}, "channels has 2 entries, but convolutions 1"),
        ({"kind": "resnet", "channels": [3, 5], "blocks": [1]}, "channels has 2 entries, but blocks 1"),
        ({"kind": "convnext", "channels": [3], "blocks": [1, 1]}, "channels has 1 entries, but blocks 2"),
        ({"kind": "resnet", "norm_groups": 48}, "norm_groups is 48, which does not divide 64 channels"),
        (
            {"kind": "resnet", "shortcut": "padding", "channels": [32], "blocks": [1]},
            "found 32 maps after 64. Take projection",
        ),
        ({"kind": "resnet", "block": "wide"}, "basic"),
        ({"kind": "lenet", "padding": 3}, "less than or equal to 2"),
        ({"kind": "convnext", "layer_scale": 0.0}, "greater than 0"),
        ({"kind": "convnext", "stochastic_depth": 1.0}, "less than 1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(values, message):
    fitting = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    with pytest.raises(ValidationError, match=re.escape(message)):
        ARGUMENTS[values["kind"]].model_validate(fitting)


def test_padding_may_follow_bottlenecks():
    assert ARGUMENTS["resnet"].model_validate(
        {"kind": "resnet", "block": "bottleneck", "shortcut": "padding", "channels": (16,), "blocks": (1,)}
    )


# --- group norm, stochastic depth, starts ----------------------------------------------------------------------------


def test_with_group_norm_an_image_does_not_depend_on_its_neighbours_in_training():
    model = filled(ResNet(IN, CLASSES, stem="cifar", stem_channels=4, channels=(4, 6), blocks=(1, 1), norm_groups=2))
    x = images(9, 9)
    together = model(x)
    alone = torch.cat([model(one[None]) for one in x])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    batch = filled(ResNet(IN, CLASSES, stem="cifar", stem_channels=4, channels=(4, 6), blocks=(1, 1)))
    assert not torch.allclose(batch(x)[:2], batch(x[:2]), atol=1e-3)


@pytest.mark.parametrize(
    "model",
    [
        ResNet(1, 2, stem_channels=2, channels=(2, 3), blocks=(2, 3), stochastic_depth=0.4),
        ConvNeXt(1, 8, 8, 2, patch_size=1, channels=(2, 3), blocks=(2, 3), stochastic_depth=0.4),
    ],
    ids=["resnet", "convnext"],
)
def test_stochastic_depth_rises_over_the_blocks(model):
    rates = [module.rate for module in model.modules() if isinstance(module, StochasticDepth)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])  # the first block is never left out


@pytest.mark.parametrize(
    "model",
    [
        LeNet(1, 28, 28, 97),
        VGG(1, 8, 8, 97, channels=(31, 61), convolutions=(1, 2), hidden=101, batch_norm=True),
        ResNet(1, 97, stem_channels=31, channels=(31, 61), blocks=(1, 2)),
        ConvNeXt(1, 8, 8, 97, patch_size=2, channels=(31, 61), blocks=(1, 2), layer_scale=0.25),
    ],
    ids=lambda model: type(model).__name__,
)
def test_start(model):
    """Standard deviations by hand, each to 5 standard errors of a normal (a uniform's is smaller)."""
    initialise(model, 5, model.start)
    for name, value in model.named_parameters():
        if name.endswith("scale"):
            assert value.eq(0.25).all()
        elif value.ndim == 1:
            is_norm = name.endswith("weight")
            assert value.eq(1.0 if is_norm else 0.0).all(), name
        else:
            fan_in, fan_out = value[0].numel(), len(value) * value[0, 0].numel()
            expected = math.sqrt(2 / fan_in)
            if isinstance(model, ConvNeXt):
                expected = 0.02
            elif isinstance(model, LeNet) or name.startswith("classify"):
                expected = math.sqrt(2 / (fan_in + fan_out))
            assert value.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * value.numel())), name
