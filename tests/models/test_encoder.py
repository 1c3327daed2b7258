"""Encoder-only models. (Parity with Hugging Face's BERT: tests/pretrained.)"""

import pytest
import torch

from glassrun.errors import ModelError
from glassrun.models.arguments import EncoderArguments
from glassrun.models.encoder import Encoder, TextClassifier
from glassrun.models.registry import build

FACTS = {"vocabulary_size": 23, "max_length": 7}
TOKENS = torch.tensor([[3, 5, 7, 11, 13, 17, 19], [2, 2, 2, 4, 8, 16, 1]])
POSITIONS = ["sinusoidal", "learned", "rotary", "alibi", "relative", "t5", "none"]


def model(**arguments):
    section = EncoderArguments.model_validate(
        {"kind": "encoder", "num_layers": 2, "d_model": 12, "num_heads": 3} | arguments
    )
    return build(section, FACTS, 1).eval()


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_logits_of_every_token(positions, norm):
    found = model(positions=positions, norm=norm)(TOKENS)
    assert found.shape == (2, 7, 23)
    assert found.isfinite().all()


def test_it_looks_both_ways():
    found = model()
    for changed in (0, 6):
        other = TOKENS.clone()
        other[0, changed] += 1
        moved = (found(TOKENS) - found(other)).abs().amax(-1)
        assert (moved[0] > 0).all()
        assert (moved[1] == 0).all()


def test_what_is_masked_is_not_looked_at():
    found = model()
    mask = torch.tensor([[True] * 5 + [False] * 2, [True] * 7])
    other = TOKENS.clone()
    other[0, 5:] = torch.tensor([0, 22])
    assert torch.equal(found(TOKENS, mask=mask)[0, :5], found(other, mask=mask)[0, :5])
    torch.testing.assert_close(found(TOKENS, mask=mask)[:1, :5], found(TOKENS[:1, :5]), rtol=1e-5, atol=1e-6)


def test_segments_are_added_to_the_tokens():
    torch.manual_seed(0)
    encoder = Encoder(23, 7, num_segments=3, num_layers=1, d_model=12, num_heads=3, d_ff=17).eval()
    assert torch.equal(encoder(TOKENS), encoder(TOKENS, segments=torch.zeros_like(TOKENS)))
    with torch.no_grad():
        encoder.embedding.weight[3] += encoder.segments.weight[2] - encoder.segments.weight[0]
    segments = torch.zeros_like(TOKENS[:1])
    moved = encoder(TOKENS[:1])
    with torch.no_grad():
        encoder.embedding.weight[3] -= encoder.segments.weight[2] - encoder.segments.weight[0]
    segments[0, 0] = 2
    torch.testing.assert_close(encoder(TOKENS[:1], segments=segments), moved, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_shares_the_embedding_or_not(tied):
    found = model(tie_embeddings=tied)
    assert (found.output.weight is found.encoder.embedding.weight) is tied
    assert found.output.bias.shape == (23,)


def test_every_parameter_has_a_gradient():
    found = model(dropout=0.1).train()
    found(TOKENS).square().sum().backward()
    for name, parameter in found.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_classifier_reads_the_first_token():
    torch.manual_seed(0)
    encoder = Encoder(23, 7, num_layers=1, d_model=12, num_heads=3, d_ff=17, pooler=True)
    found = TextClassifier(encoder, 5).eval()
    pooled = torch.tanh(encoder.pooler(encoder(TOKENS)[:, 0]))
    assert torch.equal(found(TOKENS), found.classify(pooled))
    assert found(TOKENS).shape == (2, 5)


def test_a_longer_text_is_refused():
    with pytest.raises(ModelError, match="at most 7 tokens"):
        model()(torch.zeros(1, 8, dtype=torch.int64))


def test_a_gated_head_is_refused():
    with pytest.raises(ValueError, match="activation"):
        EncoderArguments.model_validate({"kind": "encoder", "activation": "swiglu"})
