"""ResNet and ConvNeXt with Hugging Face's weights, drawn at random, give Hugging Face's logits."""

import re

import pytest
import torch

from glassrun.models.convnext import ConvNeXt
from glassrun.models.resnet import ResNet

transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'glassrun[hub]'")

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


def copied(ours, theirs, renamed):
    """Our model with their weights: every tensor of theirs goes to the name that `renamed` gives, and none is left."""
    weights = {}
    for name, tensor in theirs.state_dict().items():
        for pattern, replacement in renamed:
            name = re.sub(pattern, replacement, name)
        weights[name] = tensor
    ours.load_state_dict(weights)
    return ours.eval()


RESNET = [
    (r"^resnet\.embedder\.embedder", "stem.0"),
    (r"^resnet\.encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut", r"stages.\1.\2.shortcut"),
    (r"^resnet\.encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)", r"stages.\1.\2.branch.\3"),
    (r"\.normalization\.", ".norm."),
    (r"^classifier\.1", "classify"),
]


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_resnet_gives_hugging_faces_logits(block, mode):
    expansion = 4 if block == "bottleneck" else 1
    channels = (6, 10, 14)
    theirs = filled(
        transformers.ResNetForImageClassification(
            transformers.ResNetConfig(
                num_channels=IN,
                embedding_size=6,
                hidden_sizes=[expansion * width for width in channels],
                depths=[1, 3, 2],
                layer_type=block,
                num_labels=CLASSES,
            )
        )
    )
    ours = ResNet(IN, CLASSES, stem_channels=6, channels=channels, blocks=(1, 3, 2), block=block)
    ours = copied(ours, theirs, RESNET)
    x = images(37, 53)
    for model in (ours, theirs):
        model.train(mode == "train")
    # Measured: at most 1e-6 apart.
    torch.testing.assert_close(ours(x), theirs(x).logits, rtol=1e-5, atol=1e-5)


CONVNEXT = [
    (r"^convnext\.embeddings\.patch_embeddings", "stem.0"),
    (r"^convnext\.embeddings\.layernorm", "stem.1"),
    (r"^convnext\.layernorm", "norm"),
    (r"^classifier", "classify"),
    (r"^convnext\.encoder\.stages\.(\d+)\.downsampling_layer\.(\d+)", r"stages.\1.\2"),
    (r"^convnext\.encoder\.stages\.0\.layers\.(\d+)", r"stages.0.\1"),
    (r"^convnext\.encoder\.stages\.(\d+)\.layers\.(\d+)", lambda m: f"stages.{m[1]}.{int(m[2]) + 2}"),
    (r"layer_scale_parameter", "scale"),
    (r"dwconv", "depthwise"),
    (r"layernorm", "norm"),
    (r"pwconv1", "feed_forward.expand"),
    (r"pwconv2", "feed_forward.contract"),
]


@pytest.mark.parametrize("layer_scale", [0.7, None])
def test_convnext_gives_hugging_faces_logits(layer_scale):
    theirs = filled(
        transformers.ConvNextForImageClassification(
            transformers.ConvNextConfig(
                num_channels=IN,
                patch_size=3,
                num_stages=3,
                hidden_sizes=[6, 10, 14],
                depths=[1, 3, 2],
                layer_scale_init_value=layer_scale or 0.0,
                num_labels=CLASSES,
            )
        )
    ).eval()
    ours = ConvNeXt(
        IN,
        31,
        41,
        CLASSES,
        patch_size=3,
        channels=(6, 10, 14),
        blocks=(1, 3, 2),
        layer_scale=layer_scale,
        final_norm_eps=theirs.config.layer_norm_eps,
    )
    ours = copied(ours, theirs, CONVNEXT)
    x = images(31, 41)
    torch.testing.assert_close(ours(x), theirs(x).logits, rtol=1e-5, atol=1e-5)
