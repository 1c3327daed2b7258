"""Every block that ships, run forward and backward on small inputs, to see whether this machine repeats it.

A worker's part in `glassrun doctor`: equal bits here, twice, are no proof for every shape, but a block that differs
here will differ in a run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassrun import config
from glassrun.functional import (
    attention,
    convolution,
    feature_maps,
    feedforward,
    jacobian,
    locally_connected,
    masks,
    normalisation,
    positions,
    relative_positions,
    rotary,
    sampling,
)
from glassrun.functional import stochastic_depth as depth
from glassrun.generators import set_generators
from glassrun.keys import derive
from glassrun.models.arguments import ARGUMENTS
from glassrun.models.registry import build
from glassrun.nn.attention import MultiHeadAttention
from glassrun.nn.convnext import ConvNeXtBlock
from glassrun.nn.convolution import ConvolutionBlock, GlobalAveragePooling
from glassrun.nn.feature_maps import ChannelLayerNorm
from glassrun.nn.feedforward import FeedForward, GatedFeedForward
from glassrun.nn.locally_connected import LocallyConnected
from glassrun.nn.normalisation import LayerNorm, RMSNorm
from glassrun.nn.patches import PatchEmbedding
from glassrun.nn.positions import (
    ALiBi,
    LearnedPositions,
    NoPositions,
    RelativePositions,
    RotaryPositions,
    SinusoidalPositions,
    T5Bias,
)
from glassrun.nn.residual import PaddingShortcut, ResidualBlock, bottleneck_branch, projection_shortcut
from glassrun.nn.stochastic_depth import StochasticDepth
from glassrun.nn.transformer import DecoderLayer, EncoderLayer, Residual
from glassrun.record import environment
from glassrun.record.fingerprint import Fingerprinter, combine
from glassrun.train.state import set_numerics
from glassrun.train.workers import Workers

# Widths that are no multiple of a vector's, where kernels have tails; enough elements that torch divides among threads.
BATCH, LENGTH, WIDTH, HEADS, HIDDEN, SIZE, VOCABULARY = 16, 33, 65, 5, 130, 17, 61
FEW = 3  # rows of a product: so few that MKL, if it is let, goes by where its inputs lie (measured)
_TRANSFORMER = {"d_model": 30, "num_heads": 3, "dropout": 0.1}


@dataclass(frozen=True)
class Block:
    """Something to call, and what with."""

    call: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]


def _random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive(1, "doctor", *shape))
    return torch.randn(*shape, generator=generator)


def _tokens() -> Tensor:
    generator = torch.Generator().manual_seed(derive(1, "doctor", "tokens"))
    return torch.randint(0, VOCABULARY, (BATCH, LENGTH), generator=generator)


def _sequence() -> Tensor:
    return _random(BATCH, LENGTH, WIDTH)


def _heads() -> Tensor:
    return _random(BATCH, HEADS, LENGTH, WIDTH // HEADS)


def _frequencies() -> Tensor:
    return rotary.rotary_frequencies(14).float()


def _image(channels: int = 3) -> Tensor:
    return _random(BATCH, channels, SIZE, SIZE)


def _model(kind: str, arguments: dict[str, Any], *inputs: Tensor) -> Block:
    facts = {
        "in_channels": 3,
        "image_height": SIZE,
        "image_width": SIZE,
        "num_classes": 10,
        "vocabulary_size": VOCABULARY,
        "source_vocabulary_size": VOCABULARY,
        "target_vocabulary_size": VOCABULARY,
        "max_length": LENGTH,
        "padding_token": 0,
    }
    return Block(build(ARGUMENTS[kind].model_validate({"kind": kind} | arguments), facts, 1), inputs)


# A test sees that every function, module and model that ships is here.
BLOCKS: dict[str, Callable[[], Block]] = {
    "functional.alibi_bias": lambda: Block(
        lambda slopes: relative_positions.alibi_bias(slopes, LENGTH, LENGTH), (_random(HEADS),)
    ),
    "functional.alibi_slopes": lambda: Block(lambda: relative_positions.alibi_slopes(HEADS), ()),
    "functional.attention": lambda: Block(
        lambda q, k, v: attention.attention(q, k, v, causal=True, dropout=0.1), (_heads(), _heads() + 1, _heads() - 1)
    ),
    "functional.attention_weights": lambda: Block(attention.attention_weights, (_heads(), _heads() + 1)),
    "functional.average_pooling": lambda: Block(lambda x: convolution.average_pooling(x, 2), (_image(),)),
    "functional.batch_normalisation": lambda: Block(
        feature_maps.batch_normalisation, (_image(), _random(3), _random(3))
    ),
    "functional.causal_mask": lambda: Block(lambda: masks.causal_mask(LENGTH, LENGTH), ()),
    "functional.channel_layer_normalisation": lambda: Block(
        feature_maps.channel_layer_normalisation, (_image(13), _random(13), _random(13))
    ),
    "functional.convolution": lambda: Block(
        lambda x, kernel, bias: convolution.convolution(x, kernel, bias, padding=1),
        (_image(), _random(13, 3, 3, 3), _random(13)),
    ),
    "functional.drawn": lambda: Block(
        lambda logits: sampling.drawn(logits, torch.linspace(0.0, 0.99, FEW)), (_random(FEW, VOCABULARY),)
    ),
    "functional.feed_forward": lambda: Block(
        feedforward.feed_forward,
        (_random(FEW, WIDTH), _random(HIDDEN, WIDTH), _random(HIDDEN), _random(WIDTH, HIDDEN), _random(WIDTH)),
    ),
    "functional.gated_feed_forward": lambda: Block(
        feedforward.gated_feed_forward,
        (
            _random(FEW, WIDTH),
            _random(HIDDEN, WIDTH),
            _random(HIDDEN),
            _random(HIDDEN, WIDTH) + 1,
            _random(HIDDEN) + 1,
            _random(WIDTH, HIDDEN),
            _random(WIDTH),
        ),
    ),
    "functional.gelu": lambda: Block(feedforward.gelu, (_sequence(),)),
    "functional.gelu_tanh": lambda: Block(feedforward.gelu_tanh, (_sequence(),)),
    "functional.global_average_pooling": lambda: Block(convolution.global_average_pooling, (_image(),)),
    "functional.group_normalisation": lambda: Block(
        lambda x, weight, bias: feature_maps.group_normalisation(x, 3, weight, bias),
        (_image(6), _random(6), _random(6)),
    ),
    "functional.layer_norm": lambda: Block(normalisation.layer_norm, (_sequence(), _random(WIDTH), _random(WIDTH) + 1)),
    "functional.linear_scaling": lambda: Block(lambda x: rotary.linear_scaling(x, factor=3.0), (_frequencies(),)),
    "functional.llama3_scaling": lambda: Block(
        lambda x: rotary.llama3_scaling(x, factor=3.0, original_length=LENGTH), (_frequencies(),)
    ),
    "functional.locally_connected": lambda: Block(
        locally_connected.locally_connected, (_image(), _random(15 * 15, 5, 3, 3, 3), _random(15 * 15, 5))
    ),
    "functional.max_pooling": lambda: Block(lambda x: convolution.max_pooling(x, 2), (_image(),)),
    "functional.merge_heads": lambda: Block(attention.merge_heads, (_heads(),)),
    "functional.ntk_scaling": lambda: Block(lambda x: rotary.ntk_scaling(x, factor=3.0), (_frequencies(),)),
    "functional.padding_mask": lambda: Block(lambda tokens: masks.padding_mask(tokens, 0), (_tokens(),)),
    "functional.relative_bias": lambda: Block(
        lambda q, a: relative_positions.relative_bias(q, a, LENGTH), (_heads(), _random(7, WIDTH // HEADS))
    ),
    "functional.relative_positions": lambda: Block(lambda: relative_positions.relative_positions(FEW, LENGTH), ()),
    "functional.relu": lambda: Block(feedforward.relu, (_sequence(),)),
    "functional.repeat_heads": lambda: Block(lambda x: attention.repeat_heads(x, 3), (_heads(),)),
    "functional.rms_norm": lambda: Block(normalisation.rms_norm, (_sequence(), _random(WIDTH))),
    "functional.rotary_frequencies": lambda: Block(lambda: rotary.rotary_frequencies(WIDTH + 1), ()),
    "functional.rotary_table": lambda: Block(lambda x: torch.cat(rotary.rotary_table(x, LENGTH)), (_frequencies(),)),
    "functional.rotate": lambda: Block(
        rotary.rotate, (_random(BATCH, HEADS, LENGTH, 14), _random(LENGTH, 7), _random(LENGTH, 7) + 1)
    ),
    "functional.silu": lambda: Block(feedforward.silu, (_sequence(),)),
    "functional.sinusoidal_positions": lambda: Block(lambda: positions.sinusoidal_positions(LENGTH, WIDTH - 1), ()),
    "functional.sinusoidal_shift": lambda: Block(lambda: positions.sinusoidal_shift(3, WIDTH - 1), ()),
    "functional.sliding_window_mask": lambda: Block(lambda: masks.sliding_window_mask(LENGTH, LENGTH, 5), ()),
    "functional.split_heads": lambda: Block(lambda x: attention.split_heads(x, HEADS), (_sequence(),)),
    "functional.top_k": lambda: Block(lambda logits: sampling.top_k(logits, 5), (_random(FEW, VOCABULARY),)),
    "functional.top_p": lambda: Block(lambda logits: sampling.top_p(logits, 0.7), (_random(FEW, VOCABULARY),)),
    "functional.squared_relu": lambda: Block(feedforward.squared_relu, (_sequence(),)),
    "functional.stochastic_depth": lambda: Block(lambda x: depth.stochastic_depth(x, 0.5), (_image(),)),
    "functional.t5_bias": lambda: Block(
        lambda weight: relative_positions.t5_bias(weight, LENGTH, LENGTH, bidirectional=True), (_random(32, HEADS),)
    ),
    "functional.t5_buckets": lambda: Block(
        lambda: relative_positions.t5_buckets(
            relative_positions.relative_positions(LENGTH, LENGTH), bidirectional=False
        ),
        (),
    ),
    "functional.token_jacobian": lambda: Block(
        lambda x: jacobian.token_jacobian(torch.tanh, x), (_random(FEW, HEADS),)
    ),
    "functional.yarn_scaling": lambda: Block(
        lambda x: rotary.yarn_scaling(x, factor=3.0, original_length=LENGTH), (_frequencies(),)
    ),
    "nn.ALiBi": lambda: Block(_OverKeys(ALiBi(HEADS)), (_heads(),)),
    "nn.ChannelLayerNorm": lambda: Block(ChannelLayerNorm(13), (_image(13),)),
    "nn.ConvNeXtBlock": lambda: Block(ConvNeXtBlock(13, layer_scale=0.5, stochastic_depth=0.5), (_image(13),)),
    "nn.ConvolutionBlock": lambda: Block(ConvolutionBlock(3, 13, 3), (_image(),)),
    "nn.DecoderLayer": lambda: Block(DecoderLayer(WIDTH, HEADS, HIDDEN, dropout=0.1), (_sequence(), _sequence() + 1)),
    "nn.EncoderLayer": lambda: Block(EncoderLayer(WIDTH, HEADS, HIDDEN, dropout=0.1), (_sequence(),)),
    "nn.FeedForward": lambda: Block(FeedForward(WIDTH, HIDDEN), (_sequence(),)),
    "nn.GatedFeedForward": lambda: Block(GatedFeedForward(WIDTH, HIDDEN), (_sequence(),)),
    "nn.GlobalAveragePooling": lambda: Block(GlobalAveragePooling(), (_image(),)),
    "nn.LayerNorm": lambda: Block(LayerNorm(WIDTH), (_sequence(),)),
    "nn.LearnedPositions": lambda: Block(LearnedPositions(LENGTH, WIDTH), (_sequence(),)),
    "nn.LocallyConnected": lambda: Block(LocallyConnected(3, 5, (SIZE, SIZE), 3, padding=1), (_image(),)),
    "nn.MultiHeadAttention": lambda: Block(MultiHeadAttention(WIDTH, HEADS), (_sequence(), _sequence() + 1)),
    "nn.NoPositions": lambda: Block(NoPositions(), (_sequence(),)),
    "nn.PaddingShortcut": lambda: Block(PaddingShortcut(3, 13, 2), (_image(),)),
    "nn.PatchEmbedding": lambda: Block(PatchEmbedding(3, 5, WIDTH), (_random(FEW, 3, SIZE, SIZE),)),
    "nn.RMSNorm": lambda: Block(RMSNorm(WIDTH), (_sequence(),)),
    "nn.RelativePositions": lambda: Block(_OverKeys(RelativePositions(WIDTH // HEADS)), (_heads(),)),
    "nn.Residual": lambda: Block(_Doubled(), (_sequence(),)),
    "nn.ResidualBlock": lambda: Block(
        ResidualBlock(
            bottleneck_branch(6, 5, stride=2, norm_groups=None),
            projection_shortcut(6, 20, stride=2, norm_groups=None),
            stochastic_depth=0.5,
        ),
        (_image(6),),
    ),
    "nn.RotaryPositions": lambda: Block(RotaryPositions(_frequencies(), LENGTH), (_random(BATCH, HEADS, LENGTH, 14),)),
    "nn.SinusoidalPositions": lambda: Block(
        SinusoidalPositions(LENGTH, WIDTH - 1), (_random(BATCH, LENGTH, WIDTH - 1),)
    ),
    "nn.StochasticDepth": lambda: Block(StochasticDepth(0.5), (_image(),)),
    "nn.T5Bias": lambda: Block(_OverKeys(T5Bias(HEADS, bidirectional=True)), (_heads(),)),
    "models.cnn": lambda: _model("cnn", {"channels": (8, 13), "hidden": 30}, _random(FEW, 3, SIZE, SIZE)),
    "models.convnext": lambda: _model(
        "convnext",
        {"patch_size": 2, "channels": (9, 13), "blocks": (1, 2), "layer_scale": 0.5, "stochastic_depth": 0.5},
        _random(FEW, 3, SIZE, SIZE),
    ),
    "models.encoder": lambda: _model("encoder", _TRANSFORMER | {"num_layers": 1}, _tokens()),
    "models.encoder-decoder": lambda: _model(
        "encoder-decoder", _TRANSFORMER | {"encoder_layers": 1, "decoder_layers": 1}, _tokens(), _tokens().flip(1)
    ),
    "models.language-model": lambda: _model("language-model", _TRANSFORMER | {"num_layers": 1}, _tokens()),
    "models.lenet": lambda: _model("lenet", {}, _random(FEW, 3, SIZE, SIZE)),
    "models.llama": lambda: _model(
        "llama", _TRANSFORMER | {"num_layers": 1, "num_key_value_heads": 1, "window": 7, "qk_norm": True}, _tokens()
    ),
    "models.resnet": lambda: _model(
        "resnet",
        {"stem_channels": 7, "channels": (7, 13), "blocks": (1, 1), "block": "bottleneck"},
        _random(FEW, 3, SIZE, SIZE),
    ),
    "models.vgg": lambda: _model(
        "vgg",
        {"channels": (8, 13), "convolutions": (1, 2), "batch_norm": True, "hidden": 30},
        _random(FEW, 3, SIZE, SIZE),
    ),
    "models.vision-transformer": lambda: _model(
        "vision-transformer", _TRANSFORMER | {"num_layers": 1, "patch_size": SIZE}, _random(FEW, 3, SIZE, SIZE)
    ),
}
# Operations that have no deterministic form on one device or another.
SUSPECTS: dict[str, Callable[[], Any]] = {
    "torch.Tensor.put_": lambda: torch.zeros(4).put_(torch.tensor([0, 1, 1]), torch.ones(3)),
    "torch.bincount with weights": lambda: torch.bincount(torch.tensor([0, 1, 1]), torch.ones(3)),
    "torch.cumsum": lambda: _random(9).cumsum(0),
    "torch.histc": lambda: _random(9).histc(3),
    "torch.kthvalue": lambda: _random(9).kthvalue(2),
    "torch.median": lambda: _random(9).median(0),
    "torch.nn.functional.ctc_loss": lambda: _backward(
        F.ctc_loss(_leaf(5, 1, 4).log_softmax(-1), torch.tensor([[1, 2]]), torch.tensor([5]), torch.tensor([2]))
    ),
    "torch.nn.functional.grid_sample": lambda: _backward(
        F.grid_sample(_leaf(1, 1, 5, 5), torch.zeros(1, 4, 4, 2), align_corners=False)
    ),
    "torch.nn.functional.interpolate": lambda: _backward(
        F.interpolate(_leaf(1, 1, 5, 5), scale_factor=2, mode="bilinear")
    ),
    "torch.nn.functional.max_unpool2d": lambda: F.max_unpool2d(
        *F.max_pool2d(_leaf(1, 1, 4, 4), 2, return_indices=True), (2, 2)
    ),
    "torch.nn.functional.pad with reflect": lambda: _backward(F.pad(_leaf(1, 1, 5, 5), (1, 1, 1, 1), mode="reflect")),
}


def run(job: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:  # noqa: ARG001 - a job's form
    """Run every block once for each of the job's `offsets`: where its inputs start, in elements (see `fingerprint`).

    Returns:
        `blocks`: each one's fingerprints by worker, then by offset; `errors`: what a block raised, by its name;
        `indeterministic` operations; the `environment`.
    """
    set_numerics(config.Numerics.model_validate(job["numerics"]))
    errors: dict[str, str] = {}
    offsets = job["offsets"]
    values = [value for name, make in BLOCKS.items() for value in _values(name, make, offsets, errors)]
    workers = Workers.join(job["rank"], job["world_size"], job["store"])
    gathered = workers.gather(values)
    workers.leave()
    places = {name: slice(i * len(offsets), (i + 1) * len(offsets)) for i, name in enumerate(BLOCKS)}
    return {
        "blocks": {name: [values[place] for values in gathered] for name, place in places.items()},
        "errors": errors,
        "indeterministic": [name for name, call in SUSPECTS.items() if _has_no_deterministic_form(call)],
        "environment": environment.collect(),
    }


def _values(name: str, make: Callable[[], Block], offsets: list[int], errors: dict[str, str]) -> list[int]:
    try:
        return [fingerprint(make, offset) for offset in offsets]
    except Exception as error:
        errors[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return [0] * len(offsets)


def fingerprint(make: Callable[[], Block], offset: int) -> int:
    """Of all that a block computes: its output, and the gradients of its inputs and parameters.

    Arguments:
        make: makes the block anew, so that nothing is left of the last time.
        offset: of inputs and parameters from a multiple of 64 bytes, in elements.
    """
    set_generators(1, "doctor")
    block = make()
    inputs = [_moved(tensor, offset).requires_grad_(tensor.is_floating_point()) for tensor in block.inputs]
    parameters = list(block.call.parameters()) if isinstance(block.call, nn.Module) else []
    for parameter in parameters:
        parameter.data = _moved(parameter.data, offset)
    output = block.call(*inputs)
    if output.requires_grad:
        torch.autograd.backward(output, _random(*output.shape))
    found = [output.detach(), *(tensor.grad for tensor in (*inputs, *parameters))]
    of = Fingerprinter()
    entries = ((str(place), None if tensor is None else of(tensor)) for place, tensor in enumerate(found))
    return int(combine(entries), 16)


def _moved(tensor: Tensor, offset: int) -> Tensor:
    """A copy that starts so many elements behind a multiple of 64 bytes."""
    memory = torch.empty(prod(tensor.shape) + offset, dtype=tensor.dtype)
    return memory[offset:].view(tensor.shape).copy_(tensor)


def _leaf(*shape: int) -> Tensor:
    return _random(*shape).requires_grad_()


def _backward(output: Tensor) -> None:
    torch.autograd.backward(output.sum())


def _has_no_deterministic_form(call: Callable[[], Any]) -> bool:
    try:
        call()
    except RuntimeError as error:
        return "deterministic" in str(error)
    return False


class _OverKeys(nn.Module):
    """A bias on scores, for as many keys as queries."""

    def __init__(self, bias: nn.Module) -> None:
        super().__init__()
        self.bias = bias

    def forward(self, query: Tensor) -> Tensor:
        found: Tensor = self.bias(query, query.shape[-2])
        return found


class _Doubled(nn.Module):
    """A residual around the simplest part."""

    def __init__(self) -> None:
        super().__init__()
        self.residual = Residual(WIDTH, norm="pre")

    def forward(self, x: Tensor) -> Tensor:
        doubled: Tensor = self.residual(x, lambda y: y * 2)
        return doubled
