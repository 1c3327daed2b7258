"""Parameter counts of published encoders, built without memory."""

import pytest
import torch

from glassrun.models import published
from glassrun.models.encoder import Encoder
from glassrun.models.registry import construct

IMAGENET = {"in_channels": 3, "image_height": 224, "image_width": 224, "num_classes": 1000}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    # As Hugging Face counts the BertModel of `bert-base-uncased` and `bert-large-uncased`; the paper says 110 and 340
    # million, with the heads.
    [(published.bert_base(), 109_482_240), (published.bert_large(), 335_141_888)],
    ids=["base", "large"],
)
def test_bert(arguments, expected):
    values = arguments.model_dump(exclude={"kind", "tie_embeddings"}) | {"d_ff": arguments.feed_forward_width}
    with torch.device("meta"):
        model = Encoder(30_522, 512, num_segments=2, pooler=True, **values)
    assert count(model) == expected
    # By hand: embeddings of tokens, positions and segments, and a norm; layers of four square matrices, two of d_ff,
    # their biases and two norms; the pooler.
    d, f = arguments.d_model, arguments.feed_forward_width
    layer = 4 * (d * d + d) + d * f + f + f * d + d + 2 * 2 * d
    assert count(model) == (30_522 + 512 + 2 + 2) * d + arguments.num_layers * layer + d * d + d


@pytest.mark.parametrize(
    ("arguments", "expected"),
    # As torchvision documents vit_b_16, vit_b_32 and vit_l_16; the paper says 86, 88 and 307 million, ours without the
    # extra hidden layer that its heads had in pre-training.
    [(published.vit_b16(), 86_567_656), (published.vit_b32(), 88_224_232), (published.vit_l16(), 304_326_632)],
    ids=["B/16", "B/32", "L/16"],
)
def test_vision_transformer(arguments, expected):
    with torch.device("meta"):
        assert count(construct(arguments, IMAGENET)) == expected
