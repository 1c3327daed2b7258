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
    name = words.last_layer(captured)
    shown = reading.maps(captured.attention[name])
    apart = distances(shown.weights)
    row = _parting(shown.weights)
    large = _one_head(material, reading, name) if reading.run is not material.run else _farthest(shown, apart)
    found = silenced(reading, name)
    text = [_what(reading, shown), f"{large.said} {_unlike(apart)}"]
    text += [*_parts(shown, row), _missed(found), words.to_change("multi-head-attention", reading)]
    return Part(
        "Multi-head attention",
        question=QUESTION,
        formula=FORMULA,
        text="\n\n".join(text),
        figures=[_figure(large, shown), words.all_maps(reading, captured, name)],
        tables=[_heads_table(shown, row, found), _distance_table(apart), words.proofs(captured)],
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


def _parting(weights: Array) -> int:
    """The query at which the heads of Float[heads, query, key] look at the most unlike tokens."""
    apart = np.abs(weights[:, None] - weights[None]).sum(-1)
    return int(apart.sum((0, 1)).argmax())


def _one_head(material: Material, reading: Reading, name: str) -> _Large:
    """The same layer of a model that was trained with one head."""
    run = material.trained(words.RECIPE, model__num_heads=1)
    single = words.of_run(run, reading.text, SENTENCE)
    weights = single.maps(single.captured().attention[name]).weights[0]
    return _Large(
        weights,
        "a model with one head",
        "On the left is the same layer of a model that was trained in the same way with one head, as wide as the four "
        "together: it has as many parameters. One head has one row of weights for each token, so what it takes for "
        f"several reasons it must take in one average. The result: {words.quality(run)} with one head, "
        f"{words.quality(reading.run)} with four; so small a language can be learned either way.",
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
        f"{words.described(reading.run)} It reads “{reading.text}”; shown is {shown.name}. Each of its {count} heads "
        "makes queries, keys and values of the tokens with weights of its own and attends with them alone; then the "
        "outputs are put side by side and mixed by Wₒ. The heads see the same tokens and know nothing of each other."
    )


def _unlike(apart: Array) -> str:
    if len(apart) < 2:
        return "The layer has one head alone."
    mean, heads = _mean_distance(apart), np.unravel_index(int(apart.argmax()), apart.shape)
    return (
        f"Between two of the {len(apart)} heads, on average {mean:.0%} of a row's weight lies on other tokens; heads "
        f"{heads[0] + 1} and {heads[1] + 1} are farthest apart with {apart.max():.0%}."
    )


def _parts(shown: Maps, row: int) -> list[str]:
    """What the heads take at the token where they part most; nothing where there is one head."""
    if len(shown.weights) < 2:
        return []
    taken = [f"“{shown.keys[key]}” in head {head + 1}" for head, key in enumerate(shown.weights[:, row].argmax(-1))]
    return [
        f"They part most in the row of “{shown.queries[row]}”. The largest weight is on {', '.join(taken)}: the layer "
        "can look for several things about one token at once, each with a row of its own."
    ]


def _missed(found: Silenced) -> str:
    """What happens without a head."""
    worst = int(np.argmin(found.scores) if found.larger_is_better else np.argmax(found.scores))
    name, whole = found.metric.replace("_", " "), metric_text(found.metric, found.whole)
    same = found.scores[worst] == found.whole
    result = (
        f"the {name} stays {whole} whichever is missing: what one head of this layer does the others can do, too"
        if same
        else f"the {name} goes from {whole} to {metric_text(found.metric, found.scores[worst])} without head "
        f"{worst + 1}, the one that is missed most"
    )
    return (
        "What a head is for is seen when it is silenced, its columns of Wₒ set to zero in a copy of the model: on "
        f"{found.examples} held-out examples {result}."
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
        query_title=shown.query_title,
        key_title=shown.key_title,
    )
    return Figure(
        svg(drawn),
        title=f"One head beside {len(titles)}: {shown.name}",
        caption=f"Each row sums to one; all maps have one scale.{words.marks(shown.keys)}",
        description=f"Attention maps of {large.title} and of {', '.join(titles)} over the same tokens.",
    )


def _heads_table(shown: Maps, row: int, found: Silenced) -> Table:
    """Where each head looks, and how good the model is without it."""
    rows = []
    for head, (weights, score) in enumerate(zip(shown.weights, found.scores, strict=True)):
        best = int(weights[row].argmax())
        most = f"{shown.keys[best]} {weights[row, best]:.2f}"
        spread = f"{words.perplexity(weights).mean():.1f}"
        rows.append((f"head {head + 1}", spread, most, metric_text(found.metric, score)))
    rows.append(("all heads", "", "", metric_text(found.metric, found.whole)))
    name = found.metric.replace("_", " ")
    head_row = ("", "tokens over which a row is spread", f"most at “{shown.queries[row]}”", f"{name} without it")
    return Table(rows, head_row, "Where each head looks", numbers=(1, 3))


def _distance_table(apart: Array) -> Table:
    names = [f"head {number + 1}" for number in range(len(apart))]
    rows: Sequence[Sequence[str]] = [
        (name, *(f"{value:.2f}" for value in row)) for name, row in zip(names, apart, strict=True)
    ]
    return Table(rows, ("", *names), "How unlike each two heads are, from 0 to 1", numbers=range(1, len(names) + 1))


EXHIBIT = Exhibit(
    "multi-head-attention", "Multi-head attention", QUESTION, words.reads_text, make, takes=frozenset({"text"})
)
