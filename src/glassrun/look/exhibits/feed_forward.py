"""The feed-forward network: what a layer does to every token alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from glassrun.functional.feedforward import gelu, relu
from glassrun.functional.jacobian import token_jacobian
from glassrun.look import views
from glassrun.look.exhibits.base import Exhibit, Material
from glassrun.look.exhibits.transformers import (
    example_of,
    first_layer,
    given_to,
    held_out,
    is_causal,
    is_transformer,
    small_language_model,
)
from glassrun.look.figures import feed_forward as figures
from glassrun.look.figures.style import svg
from glassrun.look.page import Figure, Part, Table
from glassrun.nn.feedforward import FeedForward, GatedFeedForward

if TYPE_CHECKING:
    from glassrun.run import Run

Call = Callable[[Tensor], Tensor]

_MOST_TOKENS = 12
_MOST_ROWS = 1024  # of a Jacobian: each takes a share of a backward pass
_EXAMPLES = 8  # whose features are counted
_NAMES = {"relu": "ReLU", "gelu": "GELU", "gelu_tanh": "GELU (tanh)", "silu": "SiLU", "squared_relu": "ReLU²"}
_NEAR_ZERO = 0.01  # as a share of the features' root mean square
_FORMULA = """<math display="block"><mrow>
<mi>FFN</mi><mo>(</mo><mi>x</mi><mo>)</mo><mo>=</mo><mi>f</mi><mo>(</mo><mi>x</mi>
<msubsup><mi>W</mi><mn>1</mn><mi>T</mi></msubsup><mo>+</mo><msub><mi>b</mi><mn>1</mn></msub><mo>)</mo>
<msubsup><mi>W</mi><mn>2</mn><mi>T</mi></msubsup><mo>+</mo><msub><mi>b</mi><mn>2</mn></msub><mo>,</mo>
<mspace width="1em"/>
<mi>f</mi><mo>=</mo><mi>ReLU</mi><mo>:</mo><mi>max</mi><mo>(</mo><mn>0</mn><mo>,</mo><mi>z</mi><mo>)</mo>
<mspace width="0.7em"/><mtext>or</mtext><mspace width="0.7em"/>
<mi>GELU</mi><mo>:</mo><mi>z</mi><mi>Φ</mi><mo>(</mo><mi>z</mi><mo>)</mo>
</mrow></math>
<math display="block"><mrow>
<mfrac><mrow><mo>∂</mo><mi>FFN</mi><msub><mrow><mo>(</mo><mi>X</mi><mo>)</mo></mrow><mi>i</mi></msub></mrow>
<mrow><mo>∂</mo><msub><mi>x</mi><mi>j</mi></msub></mrow></mfrac><mo>=</mo><mn>0</mn>
<mspace width="1em"/><mtext>for</mtext><mspace width="0.5em"/><mi>i</mi><mo>≠</mo><mi>j</mi>
</mrow></math>"""


def make(material: Material) -> Part:
    """The exhibit's part of the page."""
    run = material.run if material.run is not None and is_transformer(material.run) else None
    shown = run or small_language_model(material)
    inside = look_inside(shown, material.text)
    norms = {name: jacobian_norms(call, x) for name, (call, x) in inside.parts.items()}
    widened = features(shown, inside, small_language_model(material, model__activation="relu") if run is None else None)
    return Part(
        EXHIBIT.title,
        question=EXHIBIT.question,
        formula=_FORMULA,
        text="\n\n".join(_text(shown, inside, norms, widened)),
        figures=[_changes(inside), _jacobians(inside, norms), _hidden(inside, widened), _sparsity(widened)],
        tables=[_sizes(inside)],
        code="glassrun train python-lm --set model.activation=relu\nglassrun exhibit feed-forward-network --run RUN",
        source=(
            "glassrun.functional.feedforward.feed_forward",
            "glassrun.functional.feedforward.relu",
            "glassrun.functional.feedforward.gelu",
            "glassrun.functional.jacobian.token_jacobian",
            "glassrun.functional.attention.attention",
        ),
    )


# --- each token alone ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inside:
    """The first layer of a model on a real example.

    Arguments:
        network: its feed-forward network.
        attention: its self-attention, as a function of its input, under the mask that the model has.
        network_input, attention_input: what the two are given, Float[tokens, d_model].
        attention_parameters: how many numbers attention has learned.
        tokens: as they are shown.
        place: of the token whose input is replaced.
        other: of the token whose input it is replaced with.
    """

    network: FeedForward | GatedFeedForward
    attention: Call
    network_input: Tensor
    attention_input: Tensor
    attention_parameters: int
    tokens: tuple[str, ...]
    place: int
    other: int

    @property
    def parts(self) -> dict[str, tuple[Call, Tensor]]:
        """Both by name, each with what it is given."""
        return {
            "feed-forward network": (self.network, self.network_input),
            "self-attention": (self.attention, self.attention_input),
        }


def look_inside(run: Run, text: str | None = None) -> Inside:
    """The first layer of a run's model, on as many tokens as a Jacobian in good time allows."""
    layer, example = first_layer(run.model), example_of(run, text=text)
    attention_input, network_input = (
        x[0] for x in given_to(run.model, [layer.attention, layer.feed_forward], example.inputs)
    )
    length = min(len(network_input), _MOST_TOKENS, max(_MOST_ROWS // network_input.shape[1], 4))
    tokens, place = example.tokens(length), length // 2
    causal = is_causal(run)
    return Inside(
        network=layer.feed_forward,
        attention=lambda x: layer.attention(x, x, causal=causal),
        network_input=network_input[:length],
        attention_input=attention_input[:length],
        attention_parameters=_count(layer.attention),
        tokens=tokens,
        place=place,
        other=next((i for i in range(length) if tokens[i] != tokens[place]), 0),
    )


@torch.no_grad()
def row_changes(call: Call, x: Tensor, place: int, other: int) -> Tensor:
    """How far each token's output moves when one token's input becomes another's, as a share of its length.

        ‖call(x′)ᵢ − call(x)ᵢ‖ / ‖call(x)ᵢ‖,   x′ is x but for x′[place] = x[other]

    Arguments:
        call: from Float[1, tokens, d_model] to the same, as a layer is called.
        x: Float[tokens, d_model].
        place, other: of the tokens.

    Returns:
        Float[tokens].
    """
    changed = x.clone()
    changed[place] = x[other]
    before, after = call(x[None])[0], call(changed[None])[0]
    changes: Tensor = (after - before).norm(dim=-1) / before.norm(dim=-1)
    return changes


def jacobian_norms(call: Call, x: Tensor) -> Tensor:
    """How much each token's output depends on each token's input: the blocks' norms, Float[tokens, tokens]."""
    return token_jacobian(call, x).square().sum((1, 3)).sqrt()


# --- wider, and mostly off -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Features:
    """The d_ff features of many tokens between the two layers of each network.

    Arguments:
        name: the activation function, and how it came there.
        layers: Float[tokens, d_ff] of each layer.
    """

    name: str
    layers: tuple[Tensor, ...]

    @property
    def everything(self) -> Tensor:
        return torch.cat([layer.flatten() for layer in self.layers])

    @property
    def zero(self) -> float:
        """The share that is zero, exactly."""
        return float((self.everything == 0).float().mean())

    @property
    def near_zero(self) -> list[float]:
        """In each layer the share that is next to nothing beside the root mean square."""
        return [float((x.abs() <= _NEAR_ZERO * x.square().mean().sqrt()).float().mean()) for x in self.layers]


def features(run: Run, inside: Inside, with_relu: Run | None) -> list[Features]:
    """Of two activation functions: of two models that were trained with them, else both in the run's model."""
    own = inside.network.activation
    found = [Features(f"{_NAMES[own.__name__]}, as trained", _hidden_of(run))]
    if with_relu is not None:
        return [*found, Features("ReLU, as trained", _hidden_of(with_relu))]
    other = gelu if own is relu else relu
    return [*found, Features(f"{_NAMES[other.__name__]} in its place", _hidden_of(run, other))]


@torch.no_grad()
def _hidden_of(run: Run, activation: Call | None = None) -> tuple[Tensor, ...]:
    networks = [module for module in run.model.modules() if isinstance(module, FeedForward | GatedFeedForward)]
    found: list[list[Tensor]] = [[] for _ in networks]
    for index in range(min(_EXAMPLES, len(held_out(run)))):
        inputs = given_to(run.model, networks, example_of(run, index=index).inputs)
        for network, x, kept in zip(networks, inputs, found, strict=True):
            kept.append(hidden(network, x[0], activation))
    return tuple(torch.cat(kept) for kept in found)


def hidden(network: FeedForward | GatedFeedForward, x: Tensor, activation: Call | None = None) -> Tensor:
    """The features between the two layers, Float[tokens, d_ff]; with another activation function if one is given."""
    bend = activation or network.activation
    expanded: Tensor = network.expand(x)
    return bend(network.gate(x)) * expanded if isinstance(network, GatedFeedForward) else bend(expanded)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- figures ---------------------------------------------------------------------------------------------------------


def _changes(inside: Inside) -> Figure:
    changes = {
        name: row_changes(call, x, inside.place, inside.other).numpy() for name, (call, x) in inside.parts.items()
    }
    return Figure(
        svg(figures.row_changes(changes, inside.tokens, inside.place)),
        "Change one token: whose output moves?",
        f"The input of token {inside.place + 1} is replaced by that of token {inside.other + 1}. A 0 is exact: not one "
        "bit of that row has moved.",
    )


def _jacobians(inside: Inside, norms: Mapping[str, Tensor]) -> Figure:
    shares = {name: (values / values.sum(1, keepdim=True)).numpy() for name, values in norms.items()}
    return Figure(
        svg(figures.jacobians(shares, inside.tokens)),
        "The token-to-token Jacobian",
        "Row i, column j: the norm of ∂ outputᵢ / ∂ inputⱼ, as a share of its row. What is off the diagonal goes from "
        "token to token: only attention has it.",
        view=views.choice(
            "layer",
            {
                name: views.heatmap(
                    values,
                    rows=inside.tokens,
                    columns=inside.tokens,
                    row_title="output of",
                    column_title="input of",
                    value_title="share of the row",
                )
                for name, values in shares.items()
            },
        ),
    )


def _hidden(inside: Inside, widened: Sequence[Features]) -> Figure:
    count = len(inside.tokens)
    shown = {found.name: found.layers[0][:count].numpy() for found in widened}
    return Figure(
        svg(figures.hidden_features(shown, inside.tokens)),
        "Between the two layers",
        f"The first layer of the model, on the first {count} tokens. White is zero: a feature that is off adds nothing "
        "to the token.",
    )


def _sparsity(widened: Sequence[Features]) -> Figure:
    return Figure(
        svg(
            figures.activation_sparsity(
                {found.name: found.everything.numpy() for found in widened},
                {found.name: found.near_zero for found in widened},
            )
        ),
        "How many features are off",
        f"Left: the features of {len(widened[0].layers[0]):,} tokens in all layers. Right: in each layer, the share "
        f"whose size is at most {_NEAR_ZERO:g} of the root mean square.",
    )


def _sizes(inside: Inside) -> Table:
    d_model, d_ff = inside.network.expand.in_features, inside.network.expand.out_features
    length = len(inside.tokens)
    return Table(
        [
            ("self-attention", f"{length} × {d_model} → {length} × {d_model}", f"{inside.attention_parameters:,}"),
            (
                "feed-forward network",
                f"{length} × {d_model} → {length} × {d_ff} → {length} × {d_model}",
                f"{_count(inside.network):,}",
            ),
        ],
        ("in one layer", "tokens × features", "parameters"),
        numbers=(2,),
    )


# --- text ------------------------------------------------------------------------------------------------------------


def _text(run: Run, inside: Inside, norms: Mapping[str, Tensor], widened: Sequence[Features]) -> Iterator[str]:
    off = {name: float((n - n.diag().diag()).abs().max()) for name, n in norms.items()}
    d_model, d_ff = inside.network.expand.in_features, inside.network.expand.out_features
    causal = " that may look at it" if is_causal(run) else ""
    yield (
        "A Transformer layer has two halves. Attention moves information between tokens; the feed-forward network then "
        "works on each token alone, with the same weights for all. Replace the input of one token, and only its own "
        f"row of the network's output moves, while attention moves the rows of all tokens{causal}."
    )
    yield (
        "The Jacobian says the same for every small change at once. Off its diagonal the feed-forward network's "
        f"largest block has norm {off['feed-forward network']:g}, attention's {off['self-attention']:.2g}. So all that "
        "a token knows of the others has come through attention."
    )
    share = _count(inside.network) / (_count(inside.network) + inside.attention_parameters)
    yield (
        f"The network widens each token from {d_model} to {d_ff} features, bends them with an activation function, and "
        f"brings them back to {d_model}. Here {share:.0%} of the two halves' parameters are in it. Each of the {d_ff} "
        "features can be read as a key that the token is compared with, and its column of the second layer as the "
        "value that is added where they match (Geva et al. 2021)."
    )
    yield " ".join(
        [
            "The activation function decides which features are off. ReLU makes every negative one exactly zero; GELU "
            "lets a little of it through, and has a gradient there.",
            *(
                f"{found.name}: {found.zero:.1%} are exactly zero, {_mean(found.near_zero):.1%} zero or next to it."
                for found in widened
            ),
        ]
    )
    yield (
        f"The weights are those of {run.recipe.name}. To see another function, train with one: `relu`, `gelu`, "
        "`silu`, `relu2`, or with a gate `swiglu`, `geglu`; and open the exhibit on that run."
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


EXHIBIT = Exhibit(
    "feed-forward-network",
    "Feed-forward network",
    "What does a layer do to each token when no other token is asked?",
    is_transformer,
    make,
    takes=frozenset({"text"}),
)
