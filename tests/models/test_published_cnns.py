"""Parameter counts of published networks, built without memory."""

import pytest
import torch

from glassrun.models import published
from glassrun.models.registry import FACTS, MODELS


def parameters(arguments, **facts):
    values = arguments.model_dump()
    kind = values.pop("kind")
    facts = {"in_channels": 3, "image_height": 224, "image_width": 224, "num_classes": 1000} | facts
    with torch.device("meta"):
        model = MODELS[kind](**{name: facts[name] for name in FACTS[kind]}, **values)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        # torchvision's tables of weights say these numbers.
        (published.vgg11(), 132_863_336),
        (published.vgg11(batch_norm=True), 132_868_840),
        (published.vgg13(), 133_047_848),
        (published.vgg13(batch_norm=True), 133_053_736),
        (published.vgg16(), 138_357_544),
        (published.vgg16(batch_norm=True), 138_365_992),
        (published.vgg19(), 143_667_240),
        (published.vgg19(batch_norm=True), 143_678_248),
        (published.resnet18(), 11_689_512),
        (published.resnet34(), 21_797_672),
        (published.resnet50(), 25_557_032),
        (published.resnet101(), 44_549_160),
        (published.resnet152(), 60_192_808),
        (published.convnext_tiny(), 28_589_128),
        (published.convnext_small(), 50_223_688),
        (published.convnext_base(), 88_591_464),
    ],
    ids=lambda value: f"{value:,}" if isinstance(value, int) else value.kind,
)
def test_for_imagenet(arguments, count):
    assert parameters(arguments) == count


def test_lenet5():
    """The paper counts 60,000 (section II.B). Ours differs in three places, each counted there."""
    ours = parameters(published.lenet5(), in_channels=1, image_height=32, image_width=32, num_classes=10)
    subsampling = 12 + 32  # S2 and S4 have a weight and a bias a map; our pooling has none
    table = 16 * (6 * 25 + 1) - 1_516  # C3 sees some maps of S2 in the paper (table I), all of them here
    output = 84 * 10 + 10  # the paper's output is not trained
    assert ours == 60_000 - subsampling + table + output == 61_706


@pytest.mark.parametrize(("layers", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_resnets_for_cifar(layers, millions):
    """Table 6 of the paper gives two digits; the exact number follows from its section 4.2."""
    blocks = (layers - 2) // 6

    def block(before, after):  # two convolutions of 3 × 3 without biases, each with a norm; shortcuts have nothing
        return 9 * before * after + 2 * after + 9 * after * after + 2 * after

    expected = 9 * 3 * 16 + 2 * 16 + 64 * 10 + 10
    for before, after in ((16, 16), (16, 32), (32, 64)):
        expected += block(before, after) + (blocks - 1) * block(after, after)
    found = parameters(published.cifar_resnet(layers), num_classes=10)
    assert found == expected
    assert round(found / 1e6, 1 if millions > 1 else 2) == millions


def test_a_cifar_resnet_has_as_many_layers_as_it_says():
    with torch.device("meta"):
        model = MODELS["resnet"](3, 10, **published.cifar_resnet(56).model_dump(exclude={"kind"}))
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) == 56
