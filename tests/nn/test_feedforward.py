"""The feed-forward network as a module."""

import pytest
import torch
from torch import nn

from glassrun.nn.feedforward import ACTIVATIONS, FeedForward, GatedFeedForward, make_feed_forward

BATCH, LENGTH, D_MODEL, D_FF = 2, 3, 5, 7


@pytest.mark.parametrize(("activation", "reference"), [("relu", nn.ReLU()), ("gelu", nn.GELU())])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_a_sequence_of_torch_modules_with_gradients(activation, reference, bias):
    generator = torch.Generator().manual_seed(1)
    module = FeedForward(D_MODEL, D_FF, activation=activation, bias=bias).double()
    twin = nn.Sequential(nn.Linear(D_MODEL, D_FF, bias=bias), reference, nn.Linear(D_FF, D_MODEL, bias=bias)).double()
    with torch.no_grad():
        for ours, theirs in zip(module.parameters(), twin.parameters(), strict=True):
            theirs.copy_(ours.normal_(generator=generator))
    x, pull = (torch.randn(BATCH, LENGTH, D_MODEL, generator=generator, dtype=torch.float64) for _ in range(2))
    x.requires_grad_()

    output, expected = module(x), twin(x)

    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    for found, wanted in zip(
        torch.autograd.grad(output, [x, *module.parameters()], pull),
        torch.autograd.grad(expected, [x, *twin.parameters()], pull),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_the_default_is_the_papers_relu():
    module = FeedForward(D_MODEL, D_FF)
    with torch.no_grad():
        module.expand.weight.zero_()
        module.expand.bias.fill_(-1.0)  # relu gives exactly zero there, gelu -0.16
    assert torch.equal(module(torch.ones(1, 1, D_MODEL))[0, 0], module.contract.bias)


def test_names_and_shapes_of_the_parameters():
    # A checkpoint is read by these names.
    assert {name: tuple(p.shape) for name, p in FeedForward(D_MODEL, D_FF).named_parameters()} == {
        "expand.weight": (D_FF, D_MODEL),
        "expand.bias": (D_FF,),
        "contract.weight": (D_MODEL, D_FF),
        "contract.bias": (D_MODEL,),
    }
    assert [name for name, _ in FeedForward(D_MODEL, D_FF, bias=False).named_parameters()] == [
        "expand.weight",
        "contract.weight",
    ]


@pytest.mark.parametrize(
    ("activation", "reference"),
    [("gelu-tanh", nn.GELU(approximate="tanh")), ("silu", nn.SiLU()), ("relu2", lambda x: x.relu() ** 2)],
)
def test_further_activations(activation, reference):
    module = FeedForward(D_MODEL, D_FF, activation=activation)
    x = torch.randn(BATCH, LENGTH, D_MODEL, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(module(x), module.contract(reference(module.expand(x))))


@pytest.mark.parametrize(
    ("activation", "reference"),
    [("swiglu", nn.SiLU()), ("geglu", nn.GELU()), ("geglu-tanh", nn.GELU(approximate="tanh"))],
)
@pytest.mark.parametrize("bias", [True, False])
def test_gated_equals_torch_modules(activation, reference, bias):
    module = make_feed_forward(D_MODEL, D_FF, activation=activation, bias=bias).double()
    assert isinstance(module, GatedFeedForward)
    x = torch.randn(BATCH, LENGTH, D_MODEL, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = module.contract(reference(module.gate(x)) * module.expand(x))
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)
    biases = [name for name, _ in module.named_parameters() if name.endswith("bias")]
    assert biases == (["gate.bias", "expand.bias", "contract.bias"] if bias else [])


def test_gated_equals_hugging_faces_llama():
    llama = pytest.importorskip("transformers.models.llama.modeling_llama", reason="transformers is not installed")
    twin = llama.LlamaMLP(
        llama.LlamaConfig(hidden_size=D_MODEL, head_dim=2, num_attention_heads=5, intermediate_size=D_FF)
    )
    module = GatedFeedForward(D_MODEL, D_FF, bias=False)
    with torch.no_grad():
        for ours, theirs in zip(module.parameters(), twin.parameters(), strict=True):  # gate, up, down
            ours.copy_(theirs)
    x = torch.randn(BATCH, LENGTH, D_MODEL, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(module(x), twin(x))


def test_a_name_says_whether_there_is_a_gate():
    for activation in ACTIVATIONS:
        gated = isinstance(make_feed_forward(3, 5, activation=activation, bias=True), GatedFeedForward)
        assert gated == ("glu" in activation)
