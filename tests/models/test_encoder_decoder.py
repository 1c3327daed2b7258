"""The encoder-decoder against one put together from torch's layers, and what must hold of it."""

import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glassrun.errors import ModelError
from glassrun.models.encoder_decoder import EncoderDecoder
from glassrun.models.positions import Positions
from glassrun.nn.initialisation import initialise
from glassrun.nn.normalisation import RMSNorm

BATCH, SOURCE, TARGET, MAX_LENGTH, SOURCE_WORDS, TARGET_WORDS = 2, 5, 7, 11, 17, 19
ENCODER_LAYERS, DECODER_LAYERS, HEADS, D_MODEL, D_FF = 2, 3, 5, 15, 13
PADDING = 4  # not 0, which a wrong default would hit by chance
properties = settings(max_examples=25, deadline=None)


def make(seed=1, **arguments):
    arguments = {
        "encoder_layers": ENCODER_LAYERS,
        "decoder_layers": DECODER_LAYERS,
        "d_model": D_MODEL,
        "num_heads": HEADS,
        "d_ff": D_FF,
    } | arguments
    model = EncoderDecoder(SOURCE_WORDS, TARGET_WORDS, MAX_LENGTH, PADDING, **arguments)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.4, generator=generator)
    source = torch.randint(PADDING + 1, SOURCE_WORDS, (BATCH, SOURCE), generator=generator)
    source[1, 3:] = PADDING
    target = torch.randint(PADDING + 1, TARGET_WORDS, (BATCH, TARGET), generator=generator)
    return model, source, target


def copy_into(twin, *modules):
    """Torch keeps a layer's parameters in this order: attentions, linear layers, norms."""
    values = [p for module in modules for p in module.parameters()]
    with torch.no_grad():
        for theirs, value in zip(twin.parameters(), values, strict=True):
            theirs.copy_(value)
    return twin


def torch_encoder_layer(layer, settings):
    return copy_into(
        nn.TransformerEncoderLayer(D_MODEL, HEADS, D_FF, **settings),
        layer.attention,
        layer.feed_forward,
        layer.attention_residual.norm,
        layer.feed_forward_residual.norm,
    )


def torch_decoder_layer(layer, settings):
    return copy_into(
        nn.TransformerDecoderLayer(D_MODEL, HEADS, D_FF, **settings),
        layer.self_attention,
        layer.cross_attention,
        layer.feed_forward,
        layer.self_attention_residual.norm,
        layer.cross_attention_residual.norm,
        layer.feed_forward_residual.norm,
    )


def sines(length):
    return torch.tensor(
        [
            [(math.cos if f % 2 else math.sin)(p / 10000 ** (f // 2 * 2 / D_MODEL)) for f in range(D_MODEL)]
            for p in range(length)
        ]
    )


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize(("positions", "tie"), [("sinusoidal", True), ("learned", False)])
def test_equals_a_model_of_torch_layers(norm, activation, positions, tie):
    model, source, target = make(norm=norm, activation=activation, positions=positions, tie_embeddings=tie)
    model.double()
    layers = {
        "dropout": 0.0,
        "activation": activation,
        "norm_first": norm == "pre",
        "batch_first": True,
        "dtype": torch.float64,
    }
    source_table, target_table = (
        (model.source_positions.weight, model.target_positions.weight)
        if positions == "learned"
        else (sines(SOURCE), sines(TARGET))
    )

    def final(x, norm_layer):
        return nn.functional.layer_norm(x, (D_MODEL,), norm_layer.weight, norm_layer.bias) if norm == "pre" else x

    memory = model.source_embedding.weight[source] * math.sqrt(D_MODEL) + source_table[:SOURCE]
    for layer in model.encoder:
        memory = torch_encoder_layer(layer, layers)(memory, src_key_padding_mask=source == PADDING)
    memory = final(memory, model.encoder_norm)
    x = model.target_embedding.weight[target] * math.sqrt(D_MODEL) + target_table[:TARGET]
    for layer in model.decoder:
        x = torch_decoder_layer(layer, layers)(
            x,
            memory,
            tgt_mask=torch.ones(TARGET, TARGET, dtype=torch.bool).triu(1),
            memory_key_padding_mask=source == PADDING,
        )
    expected = final(x, model.decoder_norm) @ (model.target_embedding if tie else model.output).weight.T

    logits = model(source, target)
    assert logits.shape == (BATCH, TARGET, TARGET_WORDS)
    # The sines are a float32 table in the model, so the comparison ends at its rounding.
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_forward_is_encode_and_decode():
    model, source, target = make()
    memory, mask = model.encode(source)
    assert memory.shape == (BATCH, SOURCE, D_MODEL)
    assert mask.tolist() == [[[[True] * 5]], [[[True, True, True, False, False]]]]
    assert torch.equal(model.decode(target, memory, mask), model(source, target))


@properties
@given(st.integers(0, 2**32), st.integers(1, TARGET - 1), st.sampled_from(["pre", "post"]))
def test_a_later_target_token_changes_nothing_earlier(seed, place, norm):
    model, source, target = make(seed, norm=norm)
    changed = target.clone()
    changed[:, place:] = (target[:, place:] + 1) % TARGET_WORDS
    before, after = model(source, target), model(source, changed)
    assert torch.equal(before[:, :place], after[:, :place])
    assert not torch.equal(before[:, place], after[:, place])


@properties
@given(st.integers(0, 2**32), st.sampled_from(["pre", "post"]))
def test_source_padding_never_leaks(seed, norm):
    model, source, target = make(seed, norm=norm)
    before = model(source, target)
    memory = model.encode(source)[0]
    with torch.no_grad():
        model.source_embedding.weight[PADDING] = 31.0  # what stands in the padding's place
    after = model(source, target)
    assert torch.equal(before, after)
    changed = model.encode(source)[0]
    assert torch.equal(memory[source != PADDING], changed[source != PADDING])
    assert not torch.equal(memory, changed)  # so the padding did change


@pytest.mark.parametrize("more", [1, 4])
def test_more_padding_changes_only_rounding(more):
    # A pair's logits do not depend on how long its neighbours in the slice are.
    model, source, target = make(2)
    padded = nn.functional.pad(source, (0, more), value=PADDING)
    torch.testing.assert_close(model(padded, target), model(source, target), rtol=1e-5, atol=1e-5)
    longer = nn.functional.pad(target, (0, more), value=PADDING)
    torch.testing.assert_close(model(source, longer)[:, :TARGET], model(source, target), rtol=1e-5, atol=1e-5)


def test_a_source_of_padding_alone_gives_finite_logits_and_gradients():
    model, source, target = make(3)
    source[0] = PADDING
    logits = model(source, target)
    logits.square().mean().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_every_source_word_is_read():
    model, source, target = make(4)
    embedded = []
    model.source_embedding.register_forward_hook(lambda _module, _args, output: embedded.append(output))
    (gradient,) = torch.autograd.grad(model(source, target)[:, 0].square().sum(), embedded)
    reached = gradient.abs().amax(-1) > 0
    assert torch.equal(reached, source != PADDING)


def test_tied_weights_are_one_parameter():
    tied, *_ = make()
    untied, *_ = make(tie_embeddings=False)
    assert tied.output.weight is tied.target_embedding.weight
    assert tied.source_embedding.weight is not tied.target_embedding.weight
    assert "output.weight" not in dict(tied.named_parameters())
    assert untied.output.weight is not untied.target_embedding.weight
    sizes = [sum(p.numel() for p in model.parameters()) for model in (tied, untied)]
    assert sizes[1] - sizes[0] == TARGET_WORDS * D_MODEL


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_a_text_that_is_too_long_is_an_error_on_either_side(positions):
    model, *_ = make(positions=positions)
    fits, too_long = (torch.ones(1, length, dtype=torch.int64) for length in (MAX_LENGTH, MAX_LENGTH + 1))
    assert model(fits, fits).shape == (1, MAX_LENGTH, TARGET_WORDS)
    for source, target in ((too_long, fits), (fits, too_long)):
        with pytest.raises(ModelError, match=r"at most 11 tokens.*found 12"):
            model(source, target)


def test_dropout_reaches_both_embeddings_and_every_layer():
    model, source, target = make(dropout=0.5)
    rates = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.5] * (1 + 2 * ENCODER_LAYERS + 3 * DECODER_LAYERS)
    model.dropout.p = 1.0  # all embeddings gone, so no word makes a difference
    zeros = [torch.zeros_like(t) + PADDING + 1 for t in (source, target)]
    for layer in model.modules():
        if isinstance(layer, nn.Dropout) and layer is not model.dropout:
            layer.p = 0.0
        if hasattr(layer, "num_heads"):
            layer.dropout = 0.0
    assert torch.equal(model(zeros[0], target), model(*zeros))
    other = model.encode(zeros[0])[0]
    assert torch.equal(model.encode(zeros[0] + 1)[0], other)


def test_start():
    model = EncoderDecoder(211, 199, 101, 0, d_model=96, num_heads=3, d_ff=193, positions="learned")
    initialise(model, 5, model.start)
    for name, value in model.named_parameters():
        if value.ndim == 1:
            assert value.eq(1.0 if "norm" in name and name.endswith("weight") else 0.0).all(), name
        elif "embedding" in name or "positions" in name:
            expected = 1 / math.sqrt(96) if "embedding" in name else 0.02
            assert value.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * value.numel())), name
        else:
            # The three stacked projections each have their own fan-out.
            fan_out = 96 if "projections" in name else value.shape[0]
            bound = math.sqrt(6 / (fan_out + value.shape[1]))
            assert 0.99 * bound < value.abs().max() <= bound, name


# --- positions and kept keys -----------------------------------------------------------------------------------------

EVERY_POSITION = pytest.mark.parametrize("positions", get_args(Positions))
ROOMY = {"d_model": 20, "num_heads": 5}  # so that a head has an even number of features


@EVERY_POSITION
@torch.no_grad()
def test_token_by_token_equals_all_at_once(positions):
    model, source, target = make(5, positions=positions, **ROOMY)
    full = model(source, target)
    memory, mask = model.encode(source)
    for ends in (range(1, TARGET + 1), [4, 5, TARGET]):
        cache, start, logits = model.new_cache(), 0, []
        for end in ends:
            logits.append(model.decode(target[:, start:end], memory, mask, cache=cache))
            start = end
        torch.testing.assert_close(torch.cat(logits, 1), full, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_keys_of_the_memory_are_computed_once():
    model, source, target = make(6)
    memory, mask = model.encode(source)
    cache = model.new_cache()
    first = model.decode(target[:, :2], memory, mask, cache=cache)
    # The second call looks at what was kept: another memory changes nothing.
    second = model.decode(target[:, 2:3], torch.full_like(memory, torch.nan), mask, cache=cache)
    expected = model(source, target)
    torch.testing.assert_close(torch.cat([first, second], 1), expected[:, :3], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_rows_of_a_cache_can_be_chosen_as_beam_search_does():
    model, source, target = make(7)
    memory, mask = model.encode(source)
    cache = model.new_cache()
    model.decode(target[:, :3], memory, mask, cache=cache)
    rows = torch.tensor([1, 1, 0])
    cache.select(rows)
    found = model.decode(target[rows, 3:4], memory[rows], mask[rows], cache=cache)
    expected = model(source[rows], target[rows])[:, 3:4]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@EVERY_POSITION
def test_gradients_reach_every_parameter(positions):
    model, source, target = make(8, positions=positions, **ROOMY)
    model(source, target).logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.ne(0).any(), name


def test_t5_tells_both_directions_in_the_encoder_alone():
    model, *_ = make(positions="t5", **ROOMY)
    biases = [layer.attention.score_bias for layer in model.encoder]
    assert all(bias is biases[0] for bias in biases)
    assert biases[0].bidirectional
    assert not model.decoder[0].self_attention.score_bias.bidirectional
    assert model.decoder[0].cross_attention.score_bias is None


def test_one_embedding_for_everything():
    arguments = {"encoder_layers": 1, "decoder_layers": 1, "d_model": D_MODEL, "num_heads": HEADS, "d_ff": D_FF}
    model = EncoderDecoder(17, 17, MAX_LENGTH, PADDING, tie_embeddings="all", **arguments)
    assert model.source_embedding.weight is model.target_embedding.weight is model.output.weight
    assert [name for name, p in model.named_parameters() if p.shape == (17, D_MODEL)] == ["source_embedding.weight"]
    with pytest.raises(ModelError, match="source has 17 tokens and the target 19: one embedding needs one vocabulary"):
        EncoderDecoder(17, 19, MAX_LENGTH, PADDING, tie_embeddings="all", **arguments)


def test_rms_norms_without_biases_and_heads_of_their_own_size():
    model, source, target = make(
        9, bias=False, normalisation="rms", d_k=4, activation="geglu", positions="t5", eps=1e-6
    )
    assert not [name for name, _ in model.named_parameters() if name.endswith("bias")]
    assert model.encoder[0].attention.projections.weight.shape == (3 * HEADS * 4, D_MODEL)
    assert model.decoder[0].cross_attention.output.weight.shape == (D_MODEL, HEADS * 4)
    assert {m.eps for m in model.modules() if isinstance(m, RMSNorm)} == {1e-6}
    assert model(source, target).isfinite().all()
