"""What `blocks.py` times: each of our blocks beside others that do the same work at the same size.

A contest's contenders have equally many parameters, but for biases, and get the same inputs; ours comes first.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassrun.functional import convolution, feature_maps, locally_connected, positions, rotary
from glassrun.functional.attention import attention, merge_heads, split_heads
from glassrun.nn.attention import MultiHeadAttention
from glassrun.nn.convnext import ConvNeXtBlock
from glassrun.nn.convolution import ConvolutionBlock
from glassrun.nn.feedforward import FeedForward, GatedFeedForward
from glassrun.nn.normalisation import LayerNorm, RMSNorm
from glassrun.nn.patches import PatchEmbedding
from glassrun.nn.positions import RotaryPositions
from glassrun.nn.residual import ResidualBlock, basic_branch
from glassrun.nn.transformer import DecoderLayer, EncoderLayer

OURS, TORCH, X, HUGGING_FACE = "glassrun", "torch.nn", "x-transformers", "Hugging Face"
BATCH, LENGTH, D_MODEL, HEADS, D_FF = 8, 128, 256, 4, 1024
D_K = D_MODEL // HEADS
X_INSTALLED = importlib.util.find_spec("x_transformers") is not None


@dataclass(frozen=True)
class Contender:
    """Something to call, and what with."""

    call: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Contest:
    """One block and its peers by name."""

    name: str
    contenders: Callable[[], dict[str, Contender]]


def random(*shape: int) -> Tensor:
    """The same numbers at each call, with a gradient."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).requires_grad_()


def tokens() -> Tensor:
    return random(BATCH, LENGTH, D_MODEL)


def heads(count: int = HEADS) -> Tensor:
    return random(BATCH, count, LENGTH, D_K)


def maps(channels: int = 32, size: int = 28) -> Tensor:
    return random(BATCH, channels, size, size)


def with_x(found: dict[str, Contender], make: Callable[[Any], Callable[..., Tensor]], *inputs: Tensor) -> None:
    """Add x-transformers' block, where it is installed."""
    if X_INSTALLED:
        from x_transformers import x_transformers

        found[X] = Contender(make(x_transformers), inputs)


# --- attention -------------------------------------------------------------------------------------------------------


def scaled_dot_product() -> dict[str, Contender]:
    q, k, v = heads(), heads(), heads()
    fused = F.scaled_dot_product_attention
    return {
        OURS: Contender(lambda *x: attention(*x, causal=True), (q, k, v)),
        TORCH: Contender(lambda *x: fused(*x, is_causal=True), (q, k, v)),
    }


def self_attention() -> dict[str, Contender]:
    x, ours = tokens(), MultiHeadAttention(D_MODEL, HEADS)
    theirs = nn.MultiheadAttention(D_MODEL, HEADS, batch_first=True)
    found = {
        OURS: Contender(lambda y: ours(y, y), (x,)),
        TORCH: Contender(lambda y: theirs(y, y, y, need_weights=False)[0], (x,)),
        HUGGING_FACE: Contender(_bert_attention(), (x,)),
    }
    with_x(found, lambda x_: x_.Attention(D_MODEL, dim_head=D_K, heads=HEADS, flash=True), x)
    return found


def _bert_attention() -> Callable[[Tensor], Tensor]:
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertSelfAttention

    config = BertConfig(hidden_size=D_MODEL, num_attention_heads=HEADS, attention_probs_dropout_prob=0.0)
    config._attn_implementation = "sdpa"
    projections, output = BertSelfAttention(config), nn.Linear(D_MODEL, D_MODEL)
    return lambda x: output(projections(x)[0])


def causal_self_attention() -> dict[str, Contender]:
    from transformers import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Attention

    x, ours = tokens(), MultiHeadAttention(D_MODEL, HEADS)
    config = GPT2Config(n_embd=D_MODEL, n_head=HEADS, attn_pdrop=0.0, resid_pdrop=0.0)
    config._attn_implementation = "sdpa"
    theirs = GPT2Attention(config, layer_idx=0)
    found = {
        OURS: Contender(lambda y: ours(y, y, causal=True), (x,)),
        HUGGING_FACE: Contender(lambda y: theirs(y)[0], (x,)),
    }
    with_x(found, lambda x_: x_.Attention(D_MODEL, dim_head=D_K, heads=HEADS, causal=True, flash=True), x)
    return found


def cross_attention() -> dict[str, Contender]:
    x, memory, ours = tokens(), random(BATCH, LENGTH + 1, D_MODEL), MultiHeadAttention(D_MODEL, HEADS)
    theirs = nn.MultiheadAttention(D_MODEL, HEADS, batch_first=True)
    found = {
        OURS: Contender(ours, (x, memory)),
        TORCH: Contender(lambda y, m: theirs(y, m, m, need_weights=False)[0], (x, memory)),
    }

    def peer(x_: Any) -> Callable[..., Tensor]:
        module = x_.Attention(D_MODEL, dim_head=D_K, heads=HEADS, flash=True)
        return lambda y, m: module(y, context=m)

    with_x(found, peer, x, memory)
    return found


def grouped_query_attention() -> dict[str, Contender]:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

    x = tokens()
    rotation = RotaryPositions(rotary.rotary_frequencies(D_K), LENGTH)
    ours = MultiHeadAttention(D_MODEL, HEADS, num_key_value_heads=2, bias=False, rotary=rotation)
    config = LlamaConfig(hidden_size=D_MODEL, num_attention_heads=HEADS, num_key_value_heads=2)
    config._attn_implementation = "sdpa"
    theirs, table = LlamaAttention(config, layer_idx=0), LlamaRotaryEmbedding(config)
    places = torch.arange(LENGTH)[None]
    found = {
        OURS: Contender(lambda y: ours(y, y, causal=True), (x,)),
        HUGGING_FACE: Contender(lambda y: theirs(y, table(y, places), None)[0], (x,)),
    }

    def peer(x_: Any) -> Callable[..., Tensor]:
        module = x_.Attention(D_MODEL, dim_head=D_K, heads=HEADS, kv_heads=2, causal=True, flash=True)
        turned = x_.RotaryEmbedding(D_K)
        return lambda y: module(y, rotary_pos_emb=turned.forward_from_seq_len(LENGTH))

    with_x(found, peer, x)
    return found


def heads_at_once() -> dict[str, Contender]:
    """Against the same module computed head by head."""
    x, ours = tokens(), MultiHeadAttention(D_MODEL, HEADS)

    def one_by_one(y: Tensor) -> Tensor:
        q, k, v = (split_heads(part, HEADS) for part in ours.projections(y).chunk(3, dim=-1))
        mixed = [attention(q[:, h], k[:, h], v[:, h]) for h in range(HEADS)]
        output: Tensor = ours.output(merge_heads(torch.stack(mixed, dim=1)))
        return output

    return {OURS: Contender(lambda y: ours(y, y), (x,)), "a loop over the heads": Contender(one_by_one, (x,))}


# --- feed-forward, norms, positions ----------------------------------------------------------------------------------


def feed_forward(activation: str, function: nn.Module) -> dict[str, Contender]:
    x = tokens()
    found = {
        OURS: Contender(FeedForward(D_MODEL, D_FF, activation=activation), (x,)),  # type: ignore[arg-type]
        TORCH: Contender(nn.Sequential(nn.Linear(D_MODEL, D_FF), function, nn.Linear(D_FF, D_MODEL)), (x,)),
    }
    squared = activation == "relu2"
    with_x(found, lambda x_: x_.FeedForward(D_MODEL, mult=4, relu_squared=squared, custom_activation=function), x)
    return found


class SquaredReLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


def swiglu() -> dict[str, Contender]:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    x, config = tokens(), LlamaConfig(hidden_size=D_MODEL, intermediate_size=D_FF)
    found = {
        OURS: Contender(GatedFeedForward(D_MODEL, D_FF, bias=False), (x,)),
        HUGGING_FACE: Contender(LlamaMLP(config), (x,)),
    }
    with_x(found, lambda x_: x_.FeedForward(D_MODEL, mult=4, glu=True, swish=True, no_bias=True), x)
    return found


def layer_norm() -> dict[str, Contender]:
    return {OURS: Contender(LayerNorm(D_MODEL), (tokens(),)), TORCH: Contender(nn.LayerNorm(D_MODEL), (tokens(),))}


def rms_norm() -> dict[str, Contender]:
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    x = tokens()
    return {
        OURS: Contender(RMSNorm(D_MODEL), (x,)),
        TORCH: Contender(nn.RMSNorm(D_MODEL, eps=1e-5), (x,)),
        HUGGING_FACE: Contender(LlamaRMSNorm(D_MODEL), (x,)),
    }


def rotary_positions() -> dict[str, Contender]:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    q, k = heads(), heads()
    cosine, sine = rotary.rotary_table(rotary.rotary_frequencies(D_K), LENGTH)
    doubled = torch.cat([cosine, cosine], -1)[None], torch.cat([sine, sine], -1)[None]
    return {
        OURS: Contender(lambda q, k: rotary.rotate(q, cosine, sine) + rotary.rotate(k, cosine, sine), (q, k)),
        HUGGING_FACE: Contender(lambda q, k: sum(apply_rotary_pos_emb(q, k, *doubled)), (q, k)),  # type: ignore[arg-type,return-value]
    }


def sinusoidal_positions() -> dict[str, Contender]:
    from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

    def theirs() -> Tensor:
        return MarianSinusoidalPositionalEmbedding(512, D_MODEL).create_weight()

    return {
        OURS: Contender(lambda: positions.sinusoidal_positions(512, D_MODEL), ()),
        HUGGING_FACE: Contender(theirs, ()),
    }


# --- layers of Transformers ------------------------------------------------------------------------------------------


def encoder_layer() -> dict[str, Contender]:
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLayer

    x = tokens()
    theirs = nn.TransformerEncoderLayer(D_MODEL, HEADS, D_FF, dropout=0.0, batch_first=True)
    config = BertConfig(
        hidden_size=D_MODEL,
        num_attention_heads=HEADS,
        intermediate_size=D_FF,
        hidden_act="relu",
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
    )
    config._attn_implementation = "sdpa"
    bert = BertLayer(config)

    def of_bert(y: Tensor) -> Tensor:
        out = bert(y)
        first: Tensor = out[0] if isinstance(out, tuple) else out
        return first

    return {
        OURS: Contender(EncoderLayer(D_MODEL, HEADS, D_FF, norm="post"), (x,)),
        TORCH: Contender(theirs, (x,)),
        HUGGING_FACE: Contender(of_bert, (x,)),
    }


def decoder_layer() -> dict[str, Contender]:
    x, memory = tokens(), tokens()
    theirs = nn.TransformerDecoderLayer(D_MODEL, HEADS, D_FF, dropout=0.0, batch_first=True)
    mask = nn.Transformer.generate_square_subsequent_mask(LENGTH)
    return {
        OURS: Contender(DecoderLayer(D_MODEL, HEADS, D_FF, norm="post"), (x, memory)),
        TORCH: Contender(lambda y, m: theirs(y, m, tgt_mask=mask, tgt_is_causal=True), (x, memory)),
    }


def patch_embedding() -> dict[str, Contender]:
    from transformers import ViTConfig
    from transformers.models.vit.modeling_vit import ViTPatchEmbeddings

    image = random(BATCH, 3, 64, 64)
    config = ViTConfig(hidden_size=D_MODEL, image_size=64, patch_size=8, num_channels=3)
    return {
        OURS: Contender(PatchEmbedding(3, 8, D_MODEL), (image,)),
        HUGGING_FACE: Contender(ViTPatchEmbeddings(config), (image,)),
    }


# --- convolutional networks ------------------------------------------------------------------------------------------


def convolve(dimensions: int) -> dict[str, Contender]:
    size = {1: (400,), 2: (28, 28), 3: (12, 12, 12)}[dimensions]
    x, kernel = random(BATCH, 16, *size), random(32, 16, *(3,) * dimensions)
    theirs = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[dimensions]
    return {
        OURS: Contender(lambda x, k: convolution.convolution(x, k, padding=1), (x, kernel)),
        TORCH: Contender(lambda x, k: theirs(x, k, padding=1), (x, kernel)),
    }


def convolution_block() -> dict[str, Contender]:
    x = maps(16)
    plain = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
    return {OURS: Contender(ConvolutionBlock(16, 32, 3), (x,)), TORCH: Contender(plain, (x,))}


def basic_block() -> dict[str, Contender]:
    from transformers.models.resnet.modeling_resnet import ResNetBasicLayer

    x = maps()
    branch = basic_branch(32, 32, stride=1, norm_groups=None)
    theirs = ResNetBasicLayer(32, 32)
    return {OURS: Contender(ResidualBlock(branch, nn.Identity()), (x,)), HUGGING_FACE: Contender(theirs, (x,))}


def convnext_block() -> dict[str, Contender]:
    from transformers import ConvNextConfig
    from transformers.models.convnext.modeling_convnext import ConvNextLayer

    x = maps()
    return {
        OURS: Contender(ConvNeXtBlock(32), (x,)),
        HUGGING_FACE: Contender(ConvNextLayer(ConvNextConfig(), dim=32), (x,)),
    }


def group_norm() -> dict[str, Contender]:
    x, theirs = maps(), nn.GroupNorm(4, 32)
    call = feature_maps.group_normalisation
    return {
        OURS: Contender(lambda x: call(x, 4, theirs.weight, theirs.bias), (x,)),
        TORCH: Contender(theirs, (x,)),
    }


def pooling(kind: str) -> dict[str, Contender]:
    ours = {"max": convolution.max_pooling, "average": convolution.average_pooling}[kind]
    theirs = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}[kind](2)
    return {OURS: Contender(lambda x: ours(x, 2), (maps(),)), TORCH: Contender(theirs, (maps(),))}


def without_sharing() -> dict[str, Contender]:
    """No library has the layer; the peer is the usual way to write it: unfold, then one product for each place."""
    x, kernel = maps(8, 14), random(144, 16, 8, 3, 3)

    def usual(x: Tensor, kernel: Tensor) -> Tensor:
        windows = F.unfold(x, 3)
        out = torch.einsum("bkp,pok->bop", windows, kernel.flatten(2))
        return out.unflatten(-1, (12, 12))

    return {
        OURS: Contender(locally_connected.locally_connected, (x, kernel)),
        "unfold and einsum": Contender(usual, (x, kernel)),
    }


def contests() -> Iterator[Contest]:
    """All of them, in the order of the documentation."""
    yield Contest("scaled dot-product attention, causal", scaled_dot_product)
    yield Contest("multi-head self-attention", self_attention)
    yield Contest("multi-head self-attention, causal", causal_self_attention)
    yield Contest("multi-head cross-attention", cross_attention)
    yield Contest("grouped-query attention with rotary positions", grouped_query_attention)
    yield Contest("all heads at once", heads_at_once)
    for name, function in (
        ("relu", nn.ReLU()),
        ("gelu", nn.GELU()),
        ("gelu-tanh", nn.GELU(approximate="tanh")),
        ("relu2", SquaredReLU()),
    ):
        yield Contest(f"feed-forward network, {name}", lambda n=name, f=function: feed_forward(n, f))  # type: ignore[misc]
    yield Contest("gated feed-forward network, swiglu", swiglu)
    yield Contest("layer norm", layer_norm)
    yield Contest("RMS norm", rms_norm)
    yield Contest("rotary positions of queries and keys", rotary_positions)
    yield Contest("sinusoidal positions, making the table", sinusoidal_positions)
    yield Contest("encoder layer, post-norm", encoder_layer)
    yield Contest("decoder layer, post-norm", decoder_layer)
    yield Contest("patch embedding", patch_embedding)
    for dimensions in (1, 2, 3):
        yield Contest(f"convolution, {dimensions}-D", lambda d=dimensions: convolve(d))  # type: ignore[misc]
    yield Contest("convolution block", convolution_block)
    yield Contest("ResNet's basic block", basic_block)
    yield Contest("ConvNeXt's block", convnext_block)
    yield Contest("group norm", group_norm)
    for kind in ("max", "average"):
        yield Contest(f"{kind} pooling", lambda k=kind: pooling(k))  # type: ignore[misc]
    yield Contest("locally connected layer", without_sharing)
