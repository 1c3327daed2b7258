"""Self- against cross-attention: within a sentence, and from what is written to what is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassrun.look.exhibits import words
from glassrun.look.exhibits.base import Exhibit, Material
from glassrun.look.page import Figure, Part, Table

if TYPE_CHECKING:
    from glassrun.capturing.maps import AttentionMap
    from glassrun.look.exhibits.words import Reading

Array = NDArray[Any]

SENTENCE = "the small dog wants to see a black ball"
QUESTION = "Which sequence do queries come from, and which keys and values?"
FORMULA = (
    '<math display="block"><mtable columnalign="right left"><mtr><mtd><mtext>self: </mtext></mtd><mtd><mrow>'
    "<mi>Attention</mi><mo>(</mo><mi>X</mi><msub><mi>W</mi><mi>q</mi></msub><mo>,</mo><mi>X</mi><msub><mi>W</mi>"
    "<mi>k</mi></msub><mo>,</mo><mi>X</mi><msub><mi>W</mi><mi>v</mi></msub><mo>)</mo></mrow></mtd></mtr><mtr><mtd>"
    "<mtext>cross: </mtext></mtd><mtd><mrow><mi>Attention</mi><mo>(</mo><mi>Y</mi><msub><mi>W</mi><mi>q</mi></msub>"
    "<mo>,</mo><mi>X</mi><msub><mi>W</mi><mi>k</mi></msub><mo>,</mo><mi>X</mi><msub><mi>W</mi><mi>v</mi></msub>"
    "<mo>)</mo></mrow></mtd></mtr></mtable></math>"
)


def make(material: Material) -> Part:
    """A head of the encoder's self-attention beside one of the decoder's cross-attention."""
    reading = words.read(material, SENTENCE, fits=words.translates)
    captured = reading.captured()
    maps = captured.attention.values()
    within = [found for found in maps if found.kind == "self" and found.name.startswith("encoder")][-1]
    across = [found for found in maps if found.kind == "cross"][-1]
    before = [found for found in maps if found.kind == "self" and not found.name.startswith("encoder")][-1]
    head = _sharpest(across)
    return Part(
        "Self- against cross-attention",
        question=QUESTION,
        formula=FORMULA,
        text="\n\n".join(
            [
                _what(reading, within, across),
                _order(reading, across, head),
                _causal(before),
                words.to_change("self-and-cross-attention", reading),
            ]
        ),
        figures=[_figure(reading, within, across, head), words.all_maps(reading, captured, across.name)],
        tables=[_looked_at(reading, across, head), words.proofs(captured)],
        source=[
            "glassrun.nn.transformer.EncoderLayer",
            "glassrun.nn.transformer.DecoderLayer",
            "glassrun.nn.attention.MultiHeadAttention",
            "glassrun.functional.masks.causal_mask",
        ],
    )


def _sharpest(found: AttentionMap) -> int:
    """The head whose rows are spread over the fewest tokens."""
    return int(words.perplexity(found.weights[0].double().numpy()).mean(-1).argmin())


def _what(reading: Reading, within: AttentionMap, across: AttentionMap) -> str:
    source, target = across.weights.shape[-1], across.weights.shape[-2]
    sums = max(float((found.weights.sum(-1) - 1.0).abs().max()) for found in (within, across))
    return (
        f"{words.described(reading.run)} It reads “{reading.text}” and writes “{reading.translation}”.\n\n"
        "In self-attention queries, keys and values come from the same sequence X, here the source: every token looks "
        f"at every token of its own sentence, and the map is square, {source} × {source}. In cross-attention the "
        "queries come from what the decoder has written so far, Y, and keys and values from the encoder's output for "
        f"X: a row for each token being written, a column for each token read, {target} × {source}. In both every row "
        f"is a softmax and sums to one, here within {sums:.0e}; columns need not, for many tokens may look at one."
    )


def _order(reading: Reading, across: AttentionMap, head: int) -> str:
    """What the cross-attention shows of the order of words."""
    best = _best(across, head)
    jumps = int((np.diff(best) < 0).sum())
    return (
        f"Shown of the cross-attention is head {head + 1} of {across.num_heads}, the sharpest. Where German has the "
        f"order of English its bright cells go down the diagonal; where it does not, they leave it: {jumps} of "
        f"{len(best) - 1} times the next token looks further left than the one before. The table says for each token "
        "that was written where the head looked most."
        if reading.run.recipe.data.source == "sentences"  # type: ignore[attr-defined]
        else f"Shown of the cross-attention is head {head + 1} of {across.num_heads}, the sharpest: {jumps} of "
        f"{len(best) - 1} times the next token looks further left than the one before. The table says for each token "
        "that was written where the head looked most."
    )


def _causal(before: AttentionMap) -> str:
    """What masks the decoder's own self-attention."""
    weights = before.weights[0]
    later = float(weights.triu(1).max()) if weights.shape[-1] > 1 else 0.0
    return (
        "The decoder has self-attention, too, over what it has written, and there a mask forbids every look ahead: the "
        f"largest weight on a later token is {later:g} in its last layer. Neither the encoder's self-attention nor the "
        "cross-attention needs that mask: the source is there as a whole before the first word is written."
    )


def _best(across: AttentionMap, head: int) -> Array:
    """For each token being written the place in the source that has the most weight."""
    best: Array = across.weights[0, head].argmax(-1).numpy()
    return best


def _figure(reading: Reading, within: AttentionMap, across: AttentionMap, head: int) -> Figure:
    from glassrun.look.figures.attention import self_beside_cross
    from glassrun.look.figures.style import svg

    own = _sharpest(within)
    names = [f"{words.layer_name(found.name)}, head {h + 1}" for found, h in ((within, own), (across, head))]
    drawn = self_beside_cross(
        within.weights[0, own].float().numpy(),
        across.weights[0, head].float().numpy(),
        reading.source,
        reading.written,
        self_title=names[0],
        cross_title=names[1],
    )
    return Figure(
        svg(drawn),
        title="Within the sentence, and from the translation to the sentence",
        caption="Left the encoder's self-attention, right the decoder's cross-attention; the keys of both are the "
        f"source.{words.marks(reading.source)}",
        description=f"Two attention maps: {names[0]}, and {names[1]}.",
    )


def _looked_at(reading: Reading, across: AttentionMap, head: int) -> Table:
    best = _best(across, head)
    weights = across.weights[0, head].max(-1).values.tolist()
    rows = [
        (token, reading.source[place], f"{weight:.2f}")
        for token, place, weight in zip(reading.written, best.tolist(), weights, strict=True)
    ]
    return Table(rows, ("token being written", "source token looked at most", "weight"), "Where it looks", numbers=(2,))


EXHIBIT = Exhibit(
    "self-and-cross-attention",
    "Self- against cross-attention",
    QUESTION,
    words.translates,
    make,
    takes=frozenset({"text"}),
)
