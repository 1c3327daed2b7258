"""The decoder-only Transformer against one put together from torch's layers, and what must hold of it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glassrun.errors import ModelError
from glassrun.models.language_model import LanguageModel
from glassrun.nn.initialisation import initialise

BATCH, LENGTH, MAX_LENGTH, VOCABULARY, LAYERS, HEADS, D_MODEL, D_FF = 2, 7, 11, 17, 3, 5, 15, 13
properties = settings(max_examples=25, deadline=None)


def make(seed=1, **arguments):
    arguments = {"num_layers": LAYERS, "d_model": D_MODEL, "num_heads": HEADS, "d_ff": D_FF} | arguments
    model = LanguageModel(VOCABULARY, MAX_LENGTH, **arguments)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.4, generator=generator)
    tokens = torch.randint(VOCABULARY, (BATCH, LENGTH), generator=generator)
    return model, tokens


def torch_layer(layer, *, activation, norm, bias):
    twin = nn.TransformerEncoderLayer(
        D_MODEL,
        HEADS,
        D_FF,
        dropout=0.0,
        activation=activation,
        norm_first=norm == "pre",
        bias=bias,
        batch_first=True,
        dtype=torch.float64,
    )
    ours = [
        layer.attention.projections,
        layer.attention.output,
        layer.feed_forward.expand,
        layer.feed_forward.contract,
        layer.attention_residual.norm,
        layer.feed_forward_residual.norm,
    ]
    # In torch's order: in_proj, out_proj, linear1, linear2, norm1, norm2, with their biases where they have one.
    values = [p for module in ours for p in module.parameters()]
    with torch.no_grad():
        for theirs, value in zip(twin.parameters(), values, strict=True):
            theirs.copy_(value)
    return twin


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize(("bias", "tie"), [(True, True), (False, False)])
def test_equals_a_model_of_torch_layers(norm, activation, positions, bias, tie):
    model, tokens = make(norm=norm, activation=activation, positions=positions, bias=bias, tie_embeddings=tie)
    model.double()
    table = model.positions.weight if positions == "learned" else model.positions.table

    x = model.embedding.weight[tokens] + table[:LENGTH]
    for layer in model.layers:
        twin = torch_layer(layer, activation=activation, norm=norm, bias=bias)
        x = twin(x, src_mask=torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1))
    if norm == "pre":
        x = nn.functional.layer_norm(x, (D_MODEL,), model.norm.weight, model.norm.bias)
    expected = x @ (model.embedding if tie else model.output).weight.T

    logits = model(tokens)
    assert logits.shape == (BATCH, LENGTH, VOCABULARY)
    torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10)


def test_parameters_counted_by_hand():
    model, _ = make()
    attention = 4 * D_MODEL * D_MODEL + 4 * D_MODEL
    feed_forward = 2 * D_MODEL * D_FF + D_FF + D_MODEL
    norms = 4 * D_MODEL
    ends = VOCABULARY * D_MODEL + MAX_LENGTH * D_MODEL + 2 * D_MODEL
    assert sum(p.numel() for p in model.parameters()) == LAYERS * (attention + feed_forward + norms) + ends


def test_without_bias_no_parameter_is_one():
    model, _ = make(bias=False)
    assert not [name for name, _ in model.named_parameters() if name.endswith("bias")]


@properties
@given(st.integers(0, 2**32), st.integers(1, LENGTH - 1), st.sampled_from(["pre", "post"]))
def test_a_later_token_changes_nothing_earlier(seed, place, norm):
    model, tokens = make(seed, norm=norm)
    changed = tokens.clone()
    changed[:, place:] = (tokens[:, place:] + 1) % VOCABULARY
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :place], after[:, :place])
    assert not torch.equal(before[:, place], after[:, place])


def test_every_position_reads_all_that_stands_before_it():
    model, tokens = make(2)
    embedded = []
    model.embedding.register_forward_hook(lambda _module, _args, output: embedded.append(output))
    logits = model(tokens)
    (gradient,) = torch.autograd.grad(logits[0, LENGTH - 1].square().sum(), embedded[0])
    assert gradient[0].abs().amax(-1).gt(0).all()
    assert gradient[1].eq(0).all()  # and nothing of the other text


def test_order_matters():
    model, tokens = make(3)
    swapped = tokens.clone()
    swapped[:, 0], swapped[:, 1] = tokens[:, 1], tokens[:, 0]
    assert tokens[0, 0] != tokens[0, 1]
    assert not torch.allclose(model(tokens)[0, -1], model(swapped)[0, -1])


def test_tied_weights_are_one_parameter():
    tied, tokens = make(4)
    untied, _ = make(4, tie_embeddings=False)
    assert tied.output.weight is tied.embedding.weight
    assert untied.output.weight is not untied.embedding.weight
    assert "output.weight" not in dict(tied.named_parameters())
    numbers = {name: sum(p.numel() for p in m.parameters()) for name, m in (("tied", tied), ("untied", untied))}
    assert numbers["untied"] - numbers["tied"] == VOCABULARY * D_MODEL
    # Its gradient comes from both ends: a token that is in no text still gets the output's share.
    absent = next(t for t in range(VOCABULARY) if t not in tokens)
    tied(tokens).logsumexp(-1).sum().backward()
    untied(tokens).logsumexp(-1).sum().backward()
    assert tied.embedding.weight.grad[absent].ne(0).all()
    assert untied.embedding.weight.grad[absent].eq(0).all()


def test_a_text_that_is_too_long_is_an_error():
    model, _ = make()
    assert model(torch.zeros(1, MAX_LENGTH, dtype=torch.int64)).shape == (1, MAX_LENGTH, VOCABULARY)
    with pytest.raises(ModelError, match=r"at most 11 tokens.*found 12"):
        model(torch.zeros(1, MAX_LENGTH + 1, dtype=torch.int64))


def test_dropout_reaches_the_embedding_and_every_layer():
    model, tokens = make(dropout=0.5)
    rates = [m.p for m in model.modules() if isinstance(m, nn.Dropout)] + [
        m.dropout for m in model.modules() if hasattr(m, "num_heads")
    ]
    assert rates == [0.5] * (1 + 3 * LAYERS)
    dropped = model.dropout(torch.ones(101, 103))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


def test_start_is_that_of_gpt2():
    model = LanguageModel(211, 101, num_layers=8, d_model=96, num_heads=3, d_ff=193, tie_embeddings=False)
    initialise(model, 5, model.start)
    for name, value in model.named_parameters():
        if value.ndim == 1:
            assert value.eq(1.0 if "norm" in name and name.endswith("weight") else 0.0).all(), name
            continue
        # What is added to the residual stream is made smaller by √(2 · 8) = 4.
        residual = "attention.output" in name or "contract" in name
        expected = 0.005 if residual else 0.02
        assert value.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * value.numel())), name
        assert abs(value.mean().item()) < 5 * expected / math.sqrt(value.numel()), name
