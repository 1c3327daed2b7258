"""Multi-head attention: one head beside four, how unlike they are, and what each does for the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassrun.look.exhibits import words
from glassrun.look.exhibits.base import Exhibit, Material
from glassrun.look.page import Figure, Part, Table
from glassrun.show import metric_text

if TYPE_CHECKING:
    from glassrun.capturing.maps import Captured
    from glassrun.look.exhibits.heads import Silenced
    from glassrun.look.exhibits.words import Reading
    from glassrun.look.views import Maps

Array = NDArray[Any]

SENTENCE = "the small dog wants to see a black ball"
QUESTION = "Why several heads, and do they do different things?"
FORMULA = (
    '<math display="block"><mrow><mi>MultiHead</mi><mo>(</mo><mi>X</mi><mo>,</mo><mi>M</mi><mo>)</mo><mo>=</mo>'
    "<mi>concat</mi><mo>(</mo><msub><mi>head</mi><mn>1</mn></msub><mo>,</mo><mo>…</mo><mo>,</mo>"
    "<msub><mi>head</mi><mi>h</mi></msub><mo>)</mo><msub><mi>W</mi><mi>o</mi></msub><mo>,</mo><mspace width='1em'/>"
    "<msub><mi>head</mi><mi>i</mi></msub><mo>=</mo><mi>Attention</mi><mo>(</mo><mi>X</mi><msub><mi>W</mi>"
    "<mrow><mi>q</mi><mo>,</mo><mi>i</mi></mrow></msub><mo>,</mo><mi>M</mi><msub><mi>W</mi><mrow><mi>k</mi><mo>,</mo>"
    "<mi>i</mi></mrow></msub><mo>,</mo><mi>M</mi><msub><mi>W</mi><mrow><mi>v</mi><mo>,</mo><mi>i</mi></mrow></msub>"
    "<mo>)</mo></mrow></math>"
)
_SHOWN = 4  # heads beside the large one


@dataclass(frozen=True)
class _Large:
    """The map on the left: its weights Float[query, key], what it is, and what is said of it."""

    weights: Array
    title: str
    said: str


def make(material: Material) -> Part:
    """One head beside four of the same sentence, with a number for how unlike they are."""
    from glassrun.look.exhibits.heads import silenced

    reading = words.read(material, SENTENCE)
    captured = reading.captured()
    name = _layer(captured)
    shown = reading.maps(captured.attention[name])
    apart = distances(shown.weights)
    large = _one_head(material, reading, name) if reading.run is not material.run else _farthest(shown, apart)
    found = silenced(reading, name)
    return Part(
        "Multi-head attention",
        question=QUESTION,
        formula=FORMULA,
        text="\n\n".join(
            [
                _what(reading, shown),
                f"{large.said} {_unlike(apart)}",
                _each(found),
                words.to_change("multi-head-attention", reading),
            ]
        ),
        figures=[_figure(large, shown), words.all_maps(reading, captured, name)],
        tables=[_heads_table(shown, found), _distance_table(apart), words.proofs(captured)],
        source=[
            "glassrun.nn.attention.MultiHeadAttention",
            "glassrun.functional.attention.split_heads",
            "glassrun.look.exhibits.multi_head.distances",
            "glassrun.look.exhibits.heads.silenced",
        ],
    )


def distances(weights: Array) -> Array:
    """How unlike each two heads are: the share of a row's weight that lies elsewhere, as a mean over the rows.

    This is the total variation distance, half the sum of the absolute differences: 0 for equal heads, 1 for heads that
    look at no token in common.

    Arguments:
        weights: Float[heads, query, key], whose rows sum to one.

    Returns:
        Float[heads, heads].
    """
    found: Array = np.abs(weights[:, None] - weights[None]).sum(-1).mean(-1) / 2
    return found


def _mean_distance(apart: Array) -> float:
    """Over all pairs of two heads; 0 where there is only one."""
    pairs = apart[np.triu_indices(len(apart), 1)]
    return float(pairs.mean()) if len(pairs) else 0.0


def _layer(captured: Captured) -> str:
    """The self-attention whose heads are most unlike."""
    maps = {name: found for name, found in captured.attention.items() if found.kind == "self"}
    return max(maps, key=lambda name: _mean_distance(distances(maps[name].weights[0].float().numpy())))


def _one_head(material: Material, reading: Reading, name: str) -> _Large:
    """The same layer of a model that was trained with one head."""
    run = material.trained(words.RECIPE, model__num_heads=1)
    single = words.of_run(run, reading.text, SENTENCE)
    weights = single.maps(single.captured().attention[name]).weights[0]
    return _Large(
        weights,
        "a model with one head",
        "On the left is the same layer of a model that was trained in the same way with one head, as wide as the four "
        f"together: it has as many weights. {words.quality(run)} against {words.quality(reading.run)} with four heads. "
        "One head has one row of weights for each token, so it must average what it would take for different reasons.",
    )


def _farthest(shown: Maps, apart: Array) -> _Large:
    """Of a run of the user's: the head that is most unlike the others."""
    head = int(apart.sum(1).argmax())
    return _Large(
        shown.weights[head], f"head {head + 1}", f"On the left is head {head + 1}, the one most unlike the others."
    )


def _what(reading: Reading, shown: Maps) -> str:
    count = len(shown.weights)
    return (
        f"{words.described(reading.run)} It reads “{reading.text}”; shown is {shown.name}, the layer whose heads "
        f"differ most. Each of its {count} heads makes queries, keys and values of the tokens with weights of its own "
        "and attends with them alone; then the outputs are put side by side and mixed by W_o. The heads see the same "
        "tokens and know nothing of each other."
    )


def _unlike(apart: Array) -> str:
    if len(apart) < 2:
        return "The layer has one head alone."
    mean, heads = _mean_distance(apart), np.unravel_index(int(apart.argmax()), apart.shape)
    return (
        f"Between two of the {len(apart)} heads, on average {mean:.0%} of a row's weight lies on other tokens; heads "
        f"{heads[0] + 1} and {heads[1] + 1} are farthest apart with {apart.max():.0%}."
    )


def _each(found: Silenced) -> str:
    worst = int(np.argmin(found.scores) if found.larger_is_better else np.argmax(found.scores))
    name = found.metric.replace("_", " ")
    return (
        f"What a head is for is seen when it is silenced, its columns of W_o set to zero in a copy of the model: on "
        f"{found.examples} held-out examples the {name} goes from {metric_text(found.metric, found.whole)} to "
        f"{metric_text(found.metric, found.scores[worst])} without head {worst + 1}, the one that is missed most. The "
        "table has all of them, with how many tokens a row is spread over and where it goes."
    )


def _figure(large: _Large, shown: Maps) -> Figure:
    from glassrun.look.figures.attention import one_head_beside_four
    from glassrun.look.figures.style import svg

    titles = [f"head {number + 1}" for number in range(min(len(shown.weights), _SHOWN))]
    drawn = one_head_beside_four(
        large.weights,
        shown.weights[:_SHOWN],
        shown.queries,
        shown.keys,
        one_title=large.title,
        head_titles=titles,
    )
    return Figure(
        svg(drawn),
        title=f"One head beside {len(titles)}: {shown.name}",
        caption="Each row is a token that looks and sums to one; all maps have one scale.",
        description=f"Attention maps of {large.title} and of {', '.join(titles)} over the same tokens.",
    )


def _heads_table(shown: Maps, found: Silenced) -> Table:
    """Where each head looks, and how good the model is without it."""
    rows = []
    for head, (weights, score) in enumerate(zip(shown.weights, found.scores, strict=True)):
        spread = float(words.perplexity(weights).mean())
        near = (f"{np.diagonal(weights, offset).sum() / len(weights):.0%}" for offset in (0, -1, 1))
        rows.append((f"head {head + 1}", f"{spread:.1f}", *near, metric_text(found.metric, score)))
    name = found.metric.replace("_", " ")
    rows.append(("all heads", "", "", "", "", metric_text(found.metric, found.whole)))
    head_row = ("", "tokens in a row", "to itself", "to the one before", "to the one after", f"{name} without it")
    return Table(rows, head_row, "Where each head looks", numbers=range(1, 6))


def _distance_table(apart: Array) -> Table:
    names = [f"head {number + 1}" for number in range(len(apart))]
    rows: Sequence[Sequence[str]] = [
        (name, *(f"{value:.2f}" for value in row)) for name, row in zip(names, apart, strict=True)
    ]
    return Table(rows, ("", *names), "How unlike each two heads are, from 0 to 1", numbers=range(1, len(names) + 1))


EXHIBIT = Exhibit(
    "multi-head-attention", "Multi-head attention", QUESTION, words.reads_text, make, takes=frozenset({"text"})
)
