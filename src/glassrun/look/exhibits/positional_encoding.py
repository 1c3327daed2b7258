"""Positional encoding: how attention, which is blind to order, is told where a token stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Generator, Tensor, nn

from glassrun.functional.positions import sinusoidal_positions, sinusoidal_shift
from glassrun.functional.relative_positions import alibi_bias, alibi_slopes
from glassrun.functional.rotary import rotary_frequencies, rotary_table, rotate
from glassrun.look import views
from glassrun.look.exhibits.base import Exhibit, Material
from glassrun.look.exhibits.transformers import (
    example_of,
    first_layer,
    given_to,
    is_causal,
    is_transformer,
    small_language_model,
)
from glassrun.look.figures.positions import ByDistance, Encoding, by_distance, dot_products, encodings
from glassrun.look.figures.style import svg
from glassrun.look.page import Figure, Part, Table
from glassrun.nn.positions import LearnedPositions, NoPositions, SinusoidalPositions, T5Bias
from glassrun.nn.transformer import EncoderLayer

if TYPE_CHECKING:
    from glassrun.run import Run

Module = TypeVar("Module", bound=nn.Module)

_SHOWN_POSITIONS = 64
_LENGTH, _FEATURES = 48, 64  # of the sinusoids where there is no learned table beside them
_ROTARY_FEATURES = 32  # of a head
_HEADS = 4  # shown
_REACH = 32  # distances shown, to both sides
_FORMULA = """<math display="block"><mrow>
<msub><mi>PE</mi><mrow><mi>p</mi><mo>,</mo><mn>2</mn><mi>i</mi></mrow></msub><mo>=</mo><mi>sin</mi><mo>(</mo>
<mi>p</mi><msub><mi>ω</mi><mi>i</mi></msub><mo>)</mo><mo>,</mo><mspace width="1em"/>
<msub><mi>PE</mi><mrow><mi>p</mi><mo>,</mo><mn>2</mn><mi>i</mi><mo>+</mo><mn>1</mn></mrow></msub><mo>=</mo><mi>cos</mi>
<mo>(</mo><mi>p</mi><msub><mi>ω</mi><mi>i</mi></msub><mo>)</mo><mo>,</mo><mspace width="1em"/>
<msub><mi>ω</mi><mi>i</mi></msub><mo>=</mo>
<msup><mn>10000</mn><mrow><mo>−</mo><mn>2</mn><mi>i</mi><mo>/</mo><msub><mi>d</mi><mi>model</mi></msub></mrow></msup>
</mrow></math>
<math display="block"><mrow>
<mi>PE</mi><mo>(</mo><mi>p</mi><mo>)</mo><mo>·</mo><mi>PE</mi><mo>(</mo><mi>p</mi><mo>+</mo><mi>k</mi><mo>)</mo><mo>=</mo>
<munder><mo>∑</mo><mi>i</mi></munder><mi>cos</mi><mo>(</mo><mi>k</mi><msub><mi>ω</mi><mi>i</mi></msub><mo>)</mo>
</mrow></math>"""


def make(material: Material) -> Part:
    """The exhibit's part of the page."""
    run = material.run if material.run is not None and is_transformer(material.run) else None
    shown = run or small_language_model(material)
    tables = _tables(shown, _module(material, run, LearnedPositions, "learned"))
    relative = _relative(_module(material, run, T5Bias, "t5"))
    moved = permuted(shown, material.text)
    return Part(
        EXHIBIT.title,
        question=EXHIBIT.question,
        formula=_FORMULA,
        text="\n\n".join(_text(shown, tables, moved)),
        figures=[_maps(tables, relative[-1]), _products(tables), _distances(relative)],
        tables=[
            Table(
                [(name, f"{error:.2g}") for name, error in moved.items()],
                ("one layer of the trained model", "largest difference, tokens reordered before or after it"),
                title="The tokens in another order",
                numbers=(1,),
            )
        ],
        code="glassrun train python-lm --set model.positions=rotary\nglassrun exhibit positional-encoding --run RUN",
        source=(
            "glassrun.functional.positions.sinusoidal_positions",
            "glassrun.functional.positions.sinusoidal_shift",
            "glassrun.functional.relative_positions.t5_bias",
            "glassrun.functional.relative_positions.alibi_bias",
            "glassrun.functional.rotary.rotate",
        ),
    )


def _module(material: Material, run: Run | None, kind: type[Module], positions: str) -> Module | None:
    """The first module of a kind: of the user's run, else of a small one that is trained for it, if that may be."""
    found = None if run is None else _first(run.model, kind)
    if found is None and material.may_train:
        found = _first(small_language_model(material, model__positions=positions).model, kind)
    return found


def _first(model: nn.Module, kind: type[Module]) -> Module | None:
    return next((module for module in model.modules() if isinstance(module, kind)), None)


# --- the tokens in another order ------------------------------------------------------------------------------------


def permuted(run: Run, text: str | None = None) -> dict[str, float]:
    """How far one layer is from treating its tokens as a set: max |layer(tokens[π]) − layer(tokens)[π]|.

    The layer is the first of the run's model, on a real example and the same permutation π each time: without anything
    that tells positions, with the model's own, and without them under the mask that lets no token look ahead.
    """
    model, layer = run.model, first_layer(run.model)
    placing = next(m for m in model.modules() if isinstance(m, LearnedPositions | SinusoidalPositions | NoPositions))
    (tokens,) = given_to(model, [placing], example_of(run, text=text).inputs)
    blind = _without_positions(layer)
    own = _kind_of_positions(placing, layer)
    found = {"no positions": permutation_error(blind, tokens)}
    if own != "none":
        found[f"with {own} positions"] = permutation_error(lambda x: layer(placing(x)), tokens)
    if is_causal(run):
        found["no positions, but a causal mask"] = permutation_error(lambda x: blind(x, causal=True), tokens)
    return found


@torch.no_grad()
def permutation_error(call: Callable[[Tensor], Tensor], tokens: Tensor) -> float:
    """max |call(x[π]) − call(x)[π]| over a batch of one, Float[1, length, d_model], for a permutation π."""
    order = torch.randperm(tokens.shape[1], generator=Generator().manual_seed(1))
    return float((call(tokens[:, order]) - call(tokens)[:, order]).abs().max())


def _without_positions(layer: EncoderLayer) -> EncoderLayer:
    blind = deepcopy(layer)
    blind.attention.rotary = blind.attention.score_bias = blind.attention.window = None
    return blind


def _kind_of_positions(placing: nn.Module, layer: EncoderLayer) -> str:
    if not isinstance(placing, NoPositions):
        return "learned" if isinstance(placing, LearnedPositions) else "sinusoidal"
    told = layer.attention.rotary or layer.attention.score_bias
    return "none" if told is None else type(told).__name__.removesuffix("Positions").removesuffix("Bias").lower()


# --- the encodings ---------------------------------------------------------------------------------------------------


def _tables(run: Run, learned: LearnedPositions | None) -> dict[str, Tensor]:
    """What is added to the tokens, Float[positions, d_model] each: the sinusoids as the run has them, or as wide."""
    found = {} if learned is None else {"learned": learned.weight.detach()[:_SHOWN_POSITIONS]}
    own = _first(run.model, SinusoidalPositions)
    shape = found["learned"].shape if found else (_LENGTH, _FEATURES)
    return {"sinusoidal": sinusoidal_positions(*shape) if own is None else own.table[:_SHOWN_POSITIONS], **found}


@dataclass(frozen=True)
class _Relative:
    """What attention makes of the distance: Float[heads, query, key], and whether keys may stand after the query."""

    title: str
    values: Tensor
    value_title: str
    both: bool = True


@torch.no_grad()
def _relative(t5: T5Bias | None) -> list[_Relative]:
    length = 2 * _REACH + 1
    found = [
        _Relative(
            "rotary", _rotary_scores(torch.ones(_ROTARY_FEATURES), length)[None] / _ROTARY_FEATURES, "q · k, turned"
        ),
        _Relative("ALiBi", alibi_bias(alibi_slopes(_HEADS), length, length), "added to the score"),
    ]
    if t5 is not None:
        heads = t5.weight.shape[1]
        bias = t5(torch.empty(1, heads, length, 1), length)[:_HEADS]
        found.append(_Relative("T5, learned", bias, "added to the score", t5.bidirectional))
    return found


def _rotary_scores(vector: Tensor, length: int, other: Tensor | None = None) -> Tensor:
    """The score of the same query at every place with the same key at every place: Float[length, length]."""
    cosine, sine = rotary_table(rotary_frequencies(len(vector)), length)
    key = vector if other is None else other
    return rotate(vector.expand(length, -1), cosine, sine) @ rotate(key.expand(length, -1), cosine, sine).T


def spread(products: Tensor) -> float:
    """How far the values of one distance are apart, at most, as a share of the mean at distance 0.

    Arguments:
        products: Float[positions, positions]; all entries of a diagonal have the same distance.
    """
    diagonals = (products.diagonal(k) for k in range(len(products)))
    return max(float(d.max() - d.min()) for d in diagonals) / float(products.diagonal().mean().abs())


def shift_error(table: Tensor, k: int) -> float:
    """max |T_k PE(p) − PE(p + k)| over all positions p of a table of sinusoids."""
    turned = table[:-k] @ sinusoidal_shift(k, table.shape[1]).T
    return float((turned - table[k:]).abs().max())


# --- figures ---------------------------------------------------------------------------------------------------------


def _maps(tables: Mapping[str, Tensor], relative: _Relative) -> Figure:
    added = [
        Encoding(name, table.numpy(), "position", "dimension", "added to the token") for name, table in tables.items()
    ]
    bias = Encoding(f"{relative.title}, head 1", relative.values[0].numpy(), "query", "key", relative.value_title)
    return Figure(
        svg(encodings([*added, bias])),
        "Added to the tokens, or to the scores",
        "Sinusoids and a learned table give every position a vector. A relative encoding gives every pair of query and "
        "key a number that is the same along each diagonal: it depends on their distance alone.",
        view=views.choice(
            "encoding",
            {
                e.title: views.heatmap(
                    e.values,
                    row_title=e.row_title,
                    column_title=e.column_title,
                    value_title=e.value_title,
                    signed=True,
                )
                for e in (*added, bias)
            },
        ),
    )


def _products(tables: Mapping[str, Tensor]) -> Figure:
    length = len(tables["sinusoidal"])
    starts = sorted({int(length * share) for share in (0.1, 0.3, 0.5, 0.7, 0.9)})
    arrays = {name: table.numpy() for name, table in tables.items()}
    panels = [
        views.Panel(
            name,
            [
                views.Line(f"p = {start}", np.arange(length, dtype=np.float32) - start, table @ table[start])
                for start in starts
            ],
        )
        for name, table in arrays.items()
    ]
    return Figure(
        svg(dot_products(arrays, starts)),
        "The dot product of two positions",
        "One curve for each position p. For sinusoids they lie on each other: only the distance k counts, not p.",
        view=views.curves(panels, x_title="k"),
    )


def _distances(relative: Sequence[_Relative]) -> Figure:
    shown = []
    for encoding in relative:
        distances = np.arange(-_REACH, _REACH + 1 if encoding.both else 1)
        middle = encoding.values[:, _REACH].numpy()  # of the query that stands in the middle
        names = ["every head"] if len(middle) == 1 else [f"head {number + 1}" for number in range(len(middle))]
        lines = {name: values[: len(distances)] for name, values in zip(names, middle, strict=True)}
        shown.append(ByDistance(encoding.title, distances, lines, encoding.value_title))
    panels = [
        views.Panel(
            encoding.title,
            [views.Line(name, encoding.distances.astype(np.float32), v) for name, v in encoding.lines.items()],
        )
        for encoding in shown
    ]
    return Figure(
        svg(by_distance(shown)),
        "Relative encodings as functions of the distance",
        "Rotary positions: the score of a query and a key whose features are all one, as a share of the largest."
        + _favoured(shown[-1]),
        view=views.curves(panels, x_title="key's place − query's place"),
    )


def _favoured(encoding: ByDistance) -> str:
    """Of a learned encoding, at which distance each head adds most."""
    if not encoding.title.startswith("T5"):
        return ""
    best = (f"{encoding.distances[values.argmax()]} ({name})" for name, values in encoding.lines.items())
    return f" T5's bias has been learned, and is largest at the distances {', '.join(best)}."


# --- text ------------------------------------------------------------------------------------------------------------


def _text(run: Run, tables: Mapping[str, Tensor], moved: Mapping[str, float]) -> Iterator[str]:
    blind, *others = moved.items()
    told = "; ".join(f"{name}, by {error:.2g}" for name, error in others)
    yield (
        "Attention compares each query with each key and adds up the values: nothing in it asks where a token stands. "
        "Bring the tokens into another order, and the outputs come in that order and are otherwise the same "
        "(permutation equivariance). In the first layer of a trained model, without positions and without a mask, the "
        f"two ways differ by at most {blind[1]:.1g}, which is rounding."
        + (f" What tells it the order makes them differ: {told}." if told else "")
    )
    products = {name: spread(table @ table.T) for name, table in tables.items()}
    yield (
        "The sinusoids of the first Transformer are a clock with many hands: each pair of dimensions turns at its own "
        "speed, from one turn in six positions to one in tens of thousands. To go k positions on is to turn every hand "
        "by an angle that depends on k alone, so one matrix does it for all positions (for k = 5, largest error "
        f"{shift_error(sinusoidal_positions(_LENGTH, _FEATURES), 5):.1g}), and the dot product of two positions "
        "depends on their distance alone: at one distance it varies by "
        f"{products['sinusoidal']:.1g} of PE(p) · PE(p)."
    )
    if "learned" in products:
        yield (
            "A learned table starts as noise and is trained with the rest. Nothing forces it to treat equal distances "
            f"alike: at one distance its dot products vary by {products['learned']:.2g} of their mean at distance 0. "
            "And it ends: behind its last row there is no vector, so no longer text can be read."
        )
    yield (
        "Relative encodings leave the tokens alone and tell attention the distance. ALiBi takes a straight line off "
        "the scores, with another slope for each head. T5 learns a number for each head and bucket of distances; near "
        "distances have buckets of their own, far ones share. Rotary positions turn queries and keys like the clock's "
        "hands, so that their product is left with the difference of the angles: a random query and a random key have "
        f"the same score wherever they stand, to {_rotary_spread():.1g} of it."
    )
    yield (
        f"The layer is from {run.recipe.name}. To change the encoding, train with another one: "
        "`sinusoidal`, `learned`, `rotary`, `alibi`, `relative`, `t5` or `none`, and open the exhibit on that run."
    )


def _rotary_spread() -> float:
    query, key = torch.randn(2, _ROTARY_FEATURES, generator=Generator().manual_seed(1))
    return spread(_rotary_scores(query, _SHOWN_POSITIONS, key))


EXHIBIT = Exhibit(
    "positional-encoding",
    "Positional encoding",
    "Attention sees a set of tokens. How does it learn their order?",
    is_transformer,
    make,
    takes=frozenset({"text"}),
)
