"""The CNN against the pure functions that it stands for, and its block."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from glassrun.errors import ModelError
from glassrun.functional.convolution import average_pooling, convolution, max_pooling
from glassrun.functional.feature_maps import batch_normalisation
from glassrun.models.cnn import CNN
from glassrun.models.resnet import ResNet
from glassrun.nn.convolution import ConvolutionBlock
from glassrun.nn.initialisation import initialise

BATCH, IN, HEIGHT, WIDTH, CLASSES, HIDDEN = 5, 2, 11, 13, 17, 19
CHANNELS = (3, 7)
SMALL = {
    CNN: {"image_height": 11, "image_width": 13, "hidden": HIDDEN, "dropout": 0.0},
    ResNet: {"stem": "cifar", "stem_channels": 3, "blocks": (1, 1)},
}
properties = settings(max_examples=25, deadline=None)


def make(seed=1, **arguments):
    arguments = {"channels": CHANNELS, "hidden": HIDDEN, "dropout": 0.0} | arguments
    model = CNN(IN, HEIGHT, WIDTH, CLASSES, **arguments).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
    return model, torch.randn(BATCH, IN, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)


def by_functions(parameters, image, *, convolutions, kernel_size, pool):
    """The network in training, from the pure functions and its parameters in their order."""
    rest = iter(parameters)
    for _ in CHANNELS:
        for _ in range(convolutions):
            image = convolution(image, next(rest), padding=kernel_size // 2)
            image = batch_normalisation(image, next(rest), next(rest)).clamp(min=0)
        image = pool(image, 2)
    flat = image.reshape(len(image), -1)
    logits = F.linear(F.linear(flat, next(rest), next(rest)).clamp(min=0), next(rest), next(rest))
    assert next(rest, None) is None
    return logits


@pytest.mark.parametrize(("pooling", "pool"), [("max", max_pooling), ("average", average_pooling)])
@pytest.mark.parametrize(("convolutions", "kernel_size"), [(1, 5), (2, 3)])
def test_equals_the_pure_functions_with_gradients(pooling, pool, convolutions, kernel_size):
    model, image = make(pooling=pooling, convolutions=convolutions, kernel_size=kernel_size)
    theirs = [p.detach().clone().requires_grad_() for p in model.parameters()]
    ours = list(model.parameters())

    logits = model(image)
    expected = by_functions(theirs, image, convolutions=convolutions, kernel_size=kernel_size, pool=pool)

    assert logits.shape == (BATCH, CLASSES)
    torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10)
    pull = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for found, wanted in zip(
        torch.autograd.grad(logits, ours, pull), torch.autograd.grad(expected, theirs, pull), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [CNN, ResNet])
def test_with_channels_last_the_same_function_is_computed_on_maps_in_that_order(kind, channels):
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(BATCH, channels, 11, 13, generator=generator, dtype=torch.float64)
    found = []
    for name, order in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        model = kind(in_channels=channels, num_classes=CLASSES, channels=CHANNELS, memory_format=name, **SMALL[kind])
        initialise(model.double(), 7, model.start)
        maps = []
        for module in model.modules():
            if isinstance(module, ConvolutionBlock):
                module.register_forward_hook(lambda *call, maps=maps: maps.append(call[-1]))
        logits = model(image)
        # Also of one channel, which lies in memory as in both orders.
        assert len(maps) > 3
        assert all(one.is_contiguous(memory_format=order) for one in maps)
        found.append([logits, *torch.autograd.grad(logits.square().sum(), list(model.parameters()))])
    for usual, last in zip(*found, strict=True):
        torch.testing.assert_close(last, usual, rtol=1e-9, atol=1e-9)


def test_parameters_counted_by_hand():
    model, _ = make(convolutions=2, kernel_size=3)
    # Per convolution its kernels and two numbers a channel for the norm; 11 × 13 becomes 5 × 6, then 2 × 3.
    blocks = (9 * 2 * 3 + 6) + (9 * 3 * 3 + 6) + (9 * 3 * 7 + 14) + (9 * 7 * 7 + 14)
    dense = (7 * 2 * 3 * HIDDEN + HIDDEN) + (HIDDEN * CLASSES + CLASSES)
    assert sum(p.numel() for p in model.parameters()) == blocks + dense


def test_the_default_pooling_is_max():
    default, image = make()
    chosen, _ = make(pooling="max")
    other, _ = make(pooling="average")
    assert torch.equal(default(image), chosen(image))
    assert not torch.allclose(default(image), other(image))


def test_evaluation_is_per_image():
    # Running averages stand in for the batch's own, so an image's logits do not depend on its neighbours.
    model, image = make()
    model(image)
    model.eval()
    together = model(image)
    alone = torch.cat([model(one[None]) for one in image])
    torch.testing.assert_close(together, alone, rtol=1e-11, atol=1e-11)


def test_dropout_acts_in_training_only():
    model, image = make(dropout=0.9, hidden=499)
    model.eval()
    assert torch.equal(model(image), model(image))
    model.train()
    assert not torch.equal(model(image), model(image))  # 5 × 499 features are dropped at random


def test_block_hand_computed():
    block = ConvolutionBlock(1, 1, 1)
    with torch.no_grad():
        block.convolution.weight.fill_(2.0)
    image = torch.tensor([[[[1.0, 5.0]]], [[[1.0, 5.0]]]])
    # Doubled: 2 and 10, mean 6, variance 16, so (-1, 1), and the ReLU takes the first.
    torch.testing.assert_close(block(image).flatten(), torch.tensor([0.0, 1.0, 0.0, 1.0]), rtol=0, atol=1e-5)
    # A tenth of the way from 0 to the mean, and from 1 to the unbiased variance 64 / 3.
    assert block.norm.running_mean.item() == pytest.approx(0.6)
    assert block.norm.running_var.item() == pytest.approx(0.9 + 0.1 * 64 / 3)
    block.eval()
    expected = max(0.0, (10 - 0.6) / math.sqrt(0.9 + 6.4 / 3 + 1e-5))
    assert block(image)[0, 0, 0, 1].item() == pytest.approx(expected)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_block_keeps_height_and_width(kernel_size):
    block = ConvolutionBlock(2, 3, kernel_size)
    assert block(torch.ones(5, 2, 7, 11)).shape == (5, 3, 7, 11)
    assert block.convolution.bias is None


@properties
@given(st.integers(2, 40), st.integers(2, 40))
def test_too_many_poolings_are_an_error_that_says_how_many_there_can_be(height, width):
    with pytest.raises(ModelError) as error:
        CNN(1, height, width, 2, channels=[1] * 7, convolutions=1, hidden=1)
    message = str(error.value)
    assert f"images of {height} × {width} are too small for 7 poolings" in message
    most = int(message.split("at most ")[1].split()[0])
    # The advice is right: so many work, and one more does not.
    assert CNN(1, height, width, 2, channels=[1] * most, convolutions=1, hidden=1)
    with pytest.raises(ModelError):
        CNN(1, height, width, 2, channels=[1] * (most + 1), convolutions=1, hidden=1)


def test_start():
    model = CNN(1, 16, 16, 211, channels=(31, 61), hidden=257)
    initialise(model, 5, model.start)
    values = dict(model.named_parameters())
    for name, value in values.items():
        if value.ndim == 1:
            assert value.eq(1.0 if name.endswith("norm.weight") else 0.0).all(), name
    # Standard deviations, each to 5 standard errors.
    for name, fan_in in (("features.1.convolution.weight", 9 * 31), ("hidden.weight", 61 * 4 * 4)):
        expected = math.sqrt(2 / fan_in)
        assert values[name].std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * values[name].numel())), name
    bound = math.sqrt(6 / (257 + 211))
    assert 0.99 * bound < values["classify.weight"].abs().max() <= bound
