"""The Vision Transformer. (Parity with Hugging Face's: tests/pretrained.)"""

import pytest
import torch

from glassrun.errors import ModelError
from glassrun.models.arguments import VisionTransformerArguments
from glassrun.models.registry import build
from glassrun.models.vision_transformer import VisionTransformer

FACTS = {"in_channels": 3, "image_height": 10, "image_width": 15, "num_classes": 7}


def model(**arguments):
    section = VisionTransformerArguments(
        kind="vision-transformer", patch_size=5, num_layers=2, d_model=22, num_heads=2, **arguments
    )
    return build(section, FACTS, 1).eval()


@pytest.mark.parametrize(("pooling", "positions"), [("class-token", 7), ("mean", 6)])
def test_shapes(pooling, positions):
    found = model(pooling=pooling)
    assert found.positions.weight.shape == (positions, 22)
    assert found(torch.zeros(2, 3, 10, 15)).shape == (2, 7)


def test_the_head_reads_the_class_token_after_all_layers():
    found = model()
    image = torch.randn(2, 3, 10, 15)
    x = torch.cat([found.class_token.expand(2, 1, 22), found.patches(image)], dim=1) + found.positions.weight
    for layer in found.layers:
        x = layer(x)
    torch.testing.assert_close(found(image), found.classify(found.norm(x[:, 0])))


def test_mean_pooling_without_positions_does_not_see_the_order_of_the_patches():
    found = model(pooling="mean")
    image = torch.randn(2, 3, 10, 15)
    swapped = torch.cat([image[..., 5:10], image[..., :5], image[..., 10:]], dim=-1)
    assert (found(image) - found(swapped)).abs().max() > 1e-3
    with torch.no_grad():
        found.positions.weight.zero_()
    torch.testing.assert_close(found(image), found(swapped), rtol=1e-5, atol=1e-6)


def test_every_parameter_has_a_gradient():
    found = model(dropout=0.1).train()
    found(torch.randn(3, 3, 10, 15)).square().sum().backward()
    for name, parameter in found.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_start():
    found = VisionTransformer(3, 224, 224, 10, patch_size=16, d_model=64, num_heads=4, d_ff=256)
    for name, parameter in found.named_parameters():
        drawn = found.start(name, parameter)
        if parameter.ndim < 2:
            assert drawn == (1.0 if name.endswith("weight") else 0.0), name
            continue
        drawn(parameter.detach(), torch.Generator().manual_seed(1))
        expected = {
            "patches.projection.weight": (2 / (3 * 16 * 16)) ** 0.5,
            "positions.weight": 0.02,
            "class_token": 0.02,
        }.get(name, (2 / (64 + (10 if "classify" in name else 256 if "feed" in name else 64))) ** 0.5)
        assert parameter.std().item() == pytest.approx(expected, rel=0.3), name


def test_patches_must_divide_the_image():
    with pytest.raises(ModelError, match=r"patches of 4 × 4 do not divide images of 10 × 15.*model.patch_size"):
        VisionTransformer(3, 10, 15, 7, patch_size=4)


@pytest.mark.parametrize("size", [(15, 10), (5, 5), (11, 16)])
def test_an_image_of_another_size_is_refused(size: tuple[int, int]) -> None:
    """Whatever its number of patches: they would be told the wrong positions."""
    model = VisionTransformer(1, 10, 15, 3, patch_size=5, num_layers=1, d_model=4, num_heads=2, d_ff=5)
    with pytest.raises(ModelError, match="expected images of 10 × 15"):
        model(torch.zeros(1, 1, *size))


def test_a_larger_image_is_refused():
    with pytest.raises(ModelError, match="expected images of 10 × 15"):
        model()(torch.zeros(1, 3, 15, 15))


def test_heads_that_do_not_fit_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match="nearest number of heads that does is 2"):
        VisionTransformerArguments(kind="vision-transformer", d_model=22, num_heads=3)
