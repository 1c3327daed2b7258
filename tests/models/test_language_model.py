"""The decoder-only Transformer against one put together from torch's layers, and what must hold of it."""

import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glassrun.errors import ModelError
from glassrun.functional import rotary as rotary_functions
from glassrun.models.language_model import LanguageModel
from glassrun.models.llama import llama
from glassrun.models.positions import Positions
from glassrun.nn.initialisation import initialise
from glassrun.nn.normalisation import RMSNorm

BATCH, LENGTH, MAX_LENGTH, VOCABULARY, LAYERS, HEADS, D_MODEL, D_FF = 2, 7, 11, 17, 3, 5, 15, 13
properties = settings(max_examples=25, deadline=None)


def fill(model, generator):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.4, generator=generator)
    return model


def make(seed=1, **arguments):
    arguments = {"num_layers": LAYERS, "d_model": D_MODEL, "num_heads": HEADS, "d_ff": D_FF} | arguments
    model = LanguageModel(VOCABULARY, MAX_LENGTH, **arguments)
    generator = torch.Generator().manual_seed(seed)
    fill(model, generator)
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


# --- positions and kept keys -----------------------------------------------------------------------------------------

EVERY_KIND = pytest.mark.parametrize("positions", get_args(Positions))
ROOMY = {"d_model": 24, "num_heads": 3}  # so that a head has an even number of features


def written(model, tokens, ends):
    """Logits of one call after the other, with a cache."""
    cache, start, logits = model.new_cache(), 0, []
    for end in ends:
        logits.append(model(tokens[:, start:end], cache=cache))
        assert cache.length == end
        start = end
    return torch.cat(logits, 1)


@EVERY_KIND
@pytest.mark.parametrize("options", [{}, {"window": 3}, {"num_key_value_heads": 1, "qk_norm": True}])
@torch.no_grad()
def test_token_by_token_equals_all_at_once(positions, options):
    model, tokens = make(5, positions=positions, **ROOMY, **options)
    full = model(tokens)
    torch.testing.assert_close(written(model, tokens, range(1, LENGTH + 1)), full, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(written(model, tokens, [4, 5, LENGTH]), full, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_llama_token_by_token_equals_all_at_once():
    model = llama(VOCABULARY, MAX_LENGTH, num_layers=2, d_model=24, num_heads=4, num_key_value_heads=2, window=4)
    fill(model, torch.Generator().manual_seed(6))
    tokens = torch.randint(VOCABULARY, (BATCH, LENGTH), generator=torch.Generator().manual_seed(6))
    torch.testing.assert_close(written(model, tokens, range(1, LENGTH + 1)), model(tokens), rtol=1e-4, atol=1e-5)


@EVERY_KIND
@torch.no_grad()
def test_padding_before_a_text_changes_only_rounding(positions):
    model, tokens = make(7, positions=positions, **ROOMY)
    padded = torch.nn.functional.pad(tokens, (3, 0), value=1)
    mask = torch.ones(padded.shape, dtype=torch.bool)
    mask[:, :3] = False
    mask[1, 3:5] = False  # the second text is shorter still
    alone = model(tokens)[0], model(tokens[1:, 2:])[0]
    found = model(padded, mask=mask)
    torch.testing.assert_close(found[0, 3:], alone[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1, 5:], alone[1], rtol=1e-4, atol=1e-5)
    # And so it is token by token.
    cache = model.new_cache()
    pieces = [model(padded[:, :6], mask=mask[:, :6], cache=cache)]
    pieces += [model(padded[:, i : i + 1], mask=mask[:, : i + 1], cache=cache) for i in range(6, padded.shape[1])]
    torch.testing.assert_close(torch.cat(pieces, 1)[1, 5:], alone[1], rtol=1e-4, atol=1e-5)


@EVERY_KIND
def test_gradients_reach_every_parameter(positions):
    model, tokens = make(8, positions=positions, **ROOMY)
    model(tokens).logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.ne(0).any(), name


@pytest.mark.parametrize("positions", ["alibi", "t5", "relative", "none"])
def test_a_text_may_be_longer_where_positions_are_distances(positions):
    model, _ = make(positions=positions, **ROOMY)
    assert model(torch.zeros(1, MAX_LENGTH + 3, dtype=torch.int64)).shape == (1, MAX_LENGTH + 3, VOCABULARY)


def test_beyond_the_positions_there_is_an_error_with_a_cache_too():
    for positions in ("sinusoidal", "learned", "rotary"):
        model, _ = make(positions=positions, **ROOMY)
        cache = model.new_cache()
        with torch.no_grad():
            model(torch.zeros(1, MAX_LENGTH, dtype=torch.int64), cache=cache)
            with pytest.raises(ModelError, match=r"at most 11 tokens.*found 12"):
                model(torch.zeros(1, 1, dtype=torch.int64), cache=cache)


def test_settings_that_would_be_ignored_are_errors():
    for wrong in ({"rotary_base": 500.0}, {"rotary_scaling": {"kind": "linear", "factor": 2.0}}):
        with pytest.raises(ModelError, match="of rotary positions, but positions is learned"):
            make(**wrong)
    with pytest.raises(ModelError, match="a head has 3: make it an even number"):
        make(positions="rotary")
    for num_heads in (0, 4):
        with pytest.raises(ModelError, match=f"num_heads is {num_heads}, which does not divide d_model 15"):
            make(num_heads=num_heads)


@pytest.mark.parametrize(
    "scaling",
    [
        {"kind": "linear", "factor": 2.0},
        {"kind": "ntk", "factor": 2.0},
        {"kind": "llama3", "factor": 2.0, "original_length": 8},
        {"kind": "yarn", "factor": 2.0, "original_length": 8},
    ],
)
def test_rotary_scaling_reaches_the_angles(scaling):
    plain, tokens = make(9, positions="rotary", **ROOMY)
    scaled, _ = make(9, positions="rotary", rotary_scaling=scaling, **ROOMY)
    rotary = scaled.layers[0].attention.rotary
    assert rotary is scaled.layers[1].attention.rotary
    kind, *arguments = scaling.values()
    expected = getattr(rotary_functions, f"{kind}_scaling")(
        rotary_functions.rotary_frequencies(8), **dict(zip(list(scaling)[1:], arguments, strict=True))
    )
    cosine = (5 * expected).cos() * (rotary_functions.yarn_amplitude(2.0) if kind == "yarn" else 1.0)
    torch.testing.assert_close(rotary.cosine[5], cosine.float())
    assert not torch.equal(plain(tokens), scaled(tokens))


def test_yarn_knows_the_base():
    scaling = {"kind": "yarn", "factor": 4.0, "original_length": 64}
    model, _ = make(positions="rotary", rotary_base=77.0, rotary_scaling=scaling, **ROOMY)
    frequencies = rotary_functions.rotary_frequencies(8, 77.0)
    expected = rotary_functions.yarn_scaling(frequencies, factor=4.0, original_length=64, base=77.0)
    table = (3 * expected).sin() * rotary_functions.yarn_amplitude(4.0)
    torch.testing.assert_close(model.layers[0].attention.rotary.sine[3], table.float())


def test_llama_has_no_bias_and_three_matrices_in_its_network():
    model = llama(VOCABULARY, MAX_LENGTH, num_layers=1, d_model=24, num_heads=4, num_key_value_heads=2, d_ff=13)
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == {
        "embedding.weight": (VOCABULARY, 24),
        "layers.0.attention.projections.weight": (24 + 12 + 12, 24),
        "layers.0.attention.output.weight": (24, 24),
        "layers.0.attention_residual.norm.weight": (24,),
        "layers.0.feed_forward.gate.weight": (13, 24),
        "layers.0.feed_forward.expand.weight": (13, 24),
        "layers.0.feed_forward.contract.weight": (24, 13),
        "layers.0.feed_forward_residual.norm.weight": (24,),
        "norm.weight": (24,),
        "output.weight": (VOCABULARY, 24),
    }


def test_llama_equals_hugging_faces():
    theirs = pytest.importorskip("transformers.models.llama", reason="transformers is not installed")
    config = theirs.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        intermediate_size=13,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
        rms_norm_eps=1e-3,
        rope_parameters={"rope_type": "default", "rope_theta": 77.0},
        attn_implementation="eager",
    )
    twin = fill(theirs.LlamaForCausalLM(config), torch.Generator().manual_seed(10)).eval()
    model = llama(
        VOCABULARY,
        MAX_LENGTH,
        num_layers=2,
        d_model=24,
        num_heads=4,
        num_key_value_heads=2,
        d_ff=13,
        eps=1e-3,
        rotary_base=77.0,
    )
    with torch.no_grad():
        model.embedding.weight.copy_(twin.model.embed_tokens.weight)
        model.norm.weight.copy_(twin.model.norm.weight)
        model.output.weight.copy_(twin.lm_head.weight)
        for ours, layer in zip(model.layers, twin.model.layers, strict=True):
            attention, network = layer.self_attn, layer.mlp
            parts = [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
            ours.attention.projections.weight.copy_(torch.cat(parts))
            ours.attention.output.weight.copy_(attention.o_proj.weight)
            ours.attention_residual.norm.weight.copy_(layer.input_layernorm.weight)
            ours.feed_forward_residual.norm.weight.copy_(layer.post_attention_layernorm.weight)
            for name, of in (("gate", network.gate_proj), ("expand", network.up_proj), ("contract", network.down_proj)):
                getattr(ours.feed_forward, name).weight.copy_(of.weight)
    tokens = torch.randint(VOCABULARY, (BATCH, MAX_LENGTH), generator=torch.Generator().manual_seed(11))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), twin(tokens).logits, rtol=1e-4, atol=1e-5)


def test_one_epsilon_for_all_norms():
    model = llama(VOCABULARY, MAX_LENGTH, num_layers=2, d_model=24, num_heads=4, qk_norm=True, eps=1e-7)
    norms = [module for module in model.modules() if isinstance(module, RMSNorm)]
    assert len(norms) == 2 * 4 + 1
    assert {norm.eps for norm in norms} == {1e-7}


@pytest.mark.parametrize(
    "values",
    [
        {"positions": "rope"},
        {"norm": "Pre"},
        {"normalisation": "rmsnorm"},
        {"activation": "gelu_tanh"},
        {"window": 0},
        {"positions": "rotary", "rotary_scaling": {"kind": "dynamic", "factor": 2.0}},
    ],
    ids=str,
)
def test_a_name_that_is_not_known_is_an_error(values: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=f"{next(reversed(values))}"):
        LanguageModel(7, 5, num_layers=1, d_model=4, num_heads=2, d_ff=8, **values)
