"""Attention: what one query takes from each token of a sentence, number by number, and what the memory is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassrun.look.exhibits import words
from glassrun.look.exhibits.base import Exhibit, Material
from glassrun.look.page import Figure, Part, Table

if TYPE_CHECKING:
    from glassrun.look.exhibits.arithmetic import Steps
    from glassrun.look.exhibits.memory import Changed
    from glassrun.look.exhibits.words import Reading
    from glassrun.look.views import Maps

Array = NDArray[Any]

SENTENCE = "a small dog waits"
OTHER = "a white queen sleeps"
QUESTION = "What does one token take from each of the others, and how is it computed?"
FORMULA = (
    '<math display="block"><mrow><mi>Attention</mi><mo>(</mo><mi>Q</mi><mo>,</mo><mi>K</mi><mo>,</mo><mi>V</mi>'
    "<mo>)</mo><mo>=</mo><mi>softmax</mi><mo>(</mo><mfrac><mrow><mi>Q</mi><msup><mi>K</mi><mi>T</mi></msup></mrow>"
    "<msqrt><msub><mi>d</mi><mi>k</mi></msub></msqrt></mfrac><mo>)</mo><mi>V</mi></mrow></math>"
)
_SHOWN_FEATURES = 3  # of the head's output, in the table
_TELLING = 2.5  # tokens over which the row that is shown is spread: neither all on one nor alike on all


def make(material: Material) -> Part:
    """One query's arithmetic, and for an encoder-decoder what it writes with another memory."""
    from glassrun.look.exhibits.arithmetic import Calls, steps

    reading = words.read(material, SENTENCE, tokens=5)
    with Calls() as calls:
        captured = reading.captured()
    name = words.last_layer(captured)
    shown = reading.maps(captured.attention[name])
    # Of a translation the rows of its words, not the one in which it ends; else the last token, which may look at all.
    rows = range(max(len(shown.queries) - 1, 1)) if reading.target else [len(shown.queries) - 1]
    head, query = _telling(shown.weights, rows)
    done = steps(calls.found[list(captured.attention).index(name)], head, query)
    text = [_what(reading, shown, head, query), _how(done, shown, query), _where(done, shown)]
    figures = [_figure(done, shown, head, query)]
    tables = [_table(done, shown)]
    source = ["glassrun.functional.attention.attention", "glassrun.look.exhibits.arithmetic.steps"]
    if reading.target:
        from glassrun.look.exhibits.memory import changed

        other = words.of_run(reading.run, None, OTHER, but=reading.text)
        memories = changed(reading, other)
        text.append(_what_memory_is(memories))
        figures.append(_memory_figure(memories, reading))
        tables.append(_memory_table(memories))
        source.append("glassrun.look.exhibits.memory.changed")
    text.append(words.to_change("attention", reading))
    return Part(
        "Attention",
        question=QUESTION,
        formula=FORMULA,
        text="\n\n".join(text),
        figures=[*figures, words.all_maps(reading, captured, name)],
        tables=[*tables, words.proofs(captured)],
        source=source,
    )


def _telling(weights: Array, rows: Sequence[int]) -> tuple[int, int]:
    """The head and query whose weights are spread over between two and three tokens, or nearest to that.

    Arguments:
        weights: Float[heads, query, key].
        rows: the queries among which one is chosen.
    """
    far = np.abs(words.perplexity(weights[:, rows]) - _TELLING)
    head, row = np.unravel_index(int(far.argmin()), far.shape)
    return int(head), rows[int(row)]


def _what(reading: Reading, shown: Maps, head: int, query: int) -> str:
    """Which model, sentence, layer, head and query are shown."""
    count = len(reading.source)
    if reading.target:
        does = f"It translates “{reading.text}” as “{reading.translation}”."
        row = f"the decoder writes “{shown.queries[query]}”, and its query goes to the {count} tokens of the source"
    else:
        does = f"It reads “{reading.text}”."
        row = f"the query of the last token, “{shown.queries[query]}”, goes to all {count} tokens"
    return (
        f"{words.described(reading.run)} {does} Shown is head {head + 1} of {len(shown.weights)} in {shown.name}: "
        f"{row}. Of the rows that could be shown it is the one spread over nearest to {_TELLING:g} tokens: where a "
        "head looks at one token alone, there is less to compute."
    )


def _how(done: Steps, shown: Maps, query: int) -> str:
    """The four steps, in words."""
    d_k = done.values.shape[1]
    return (
        f"Every token has a key k and a value v, and the token that looks has a query q, each of dₖ = {d_k} numbers "
        "that the layer computes from the token by a product with learned weights. The score q · k is large where "
        f"query and key point the same way. It is divided by √dₖ = {d_k**0.5:.3g}, for a sum of {d_k} products grows "
        "with √dₖ, and a softmax of large numbers gives nearly all to one token and passes nearly no gradient to the "
        "others. The softmax makes weights from the scores that are positive and sum to one, and the output of the "
        f"head is the sum of the values with these weights: what “{shown.queries[query]}” takes from each token."
    )


def _where(done: Steps, shown: Maps) -> str:
    """Where the query looks, and how far our arithmetic is from the model's."""
    best = int(done.weights.argmax())
    difference = float(np.abs(done.output - done.model_output).max())
    return (
        f"Here “{shown.keys[best]}” gets the most: {done.scores[best]:.2f} / {done.values.shape[1] ** 0.5:.3g} = "
        f"{done.scaled[best]:.2f}, and after the softmax {done.weights[best]:.1%} of the weight. The sum computed in "
        f"this way is that of the model, whose fused kernel never shows its weights, within {difference:.0e}."
    )


def _figure(done: Steps, shown: Maps, head: int, query: int) -> Figure:
    from glassrun.look.figures.attention import one_query
    from glassrun.look.figures.style import svg

    drawn = one_query(done.scores, done.values, shown.keys, f"“{shown.queries[query]}”")
    said = ", ".join(f"{key} {weight:.2f}" for key, weight in zip(shown.keys, done.weights, strict=True))
    return Figure(
        svg(drawn),
        title=f"From scores to the output: {shown.name}, head {head + 1}",
        caption="Each token is a column, from its score at the top to its share of the output at the bottom."
        + words.marks(shown.keys),
        description=f"Bars for each token. The weights are: {said}.",
    )


def _table(done: Steps, shown: Maps) -> Table:
    """The same numbers, with the first features of the weighted values."""
    count = min(_SHOWN_FEATURES, len(done.output))
    features = [f"weight × v, feature {number + 1}" for number in range(count)]
    rows = [
        (key, f"{score:.3f}", f"{scaled:.3f}", f"{power:.4f}", f"{weight:.4f}", *(f"{weight * v:.4f}" for v in value))
        for key, score, scaled, power, weight, value in zip(
            shown.keys, done.scores, done.scaled, done.powers, done.weights, done.values[:, :count], strict=True
        )
    ]
    sums = ("sum", "", "", f"{done.powers.sum():.4f}", f"{done.weights.sum():.4f}")
    rows.append((*sums, *(f"{value:.4f}" for value in done.output[:count])))
    rows.append(("the model's output", "", "", "", "", *(f"{value:.4f}" for value in done.model_output[:count])))
    head = ("token", "q · k", "x = q · k / √dₖ", "e^(x − largest x)", "weight", *features)
    return Table(rows, head, "The arithmetic", numbers=range(1, len(head)))


def _what_memory_is(memories: Sequence[Changed]) -> str:
    intact, other, zeros = memories
    return (
        "The keys and values of this attention come from the encoder's output, the memory, and it is all that the "
        f"decoder knows of the source. With the memory {other.name} in its place the decoder writes "
        f"“{other.written}”. With zeros in its place every key is the same, so every query is spread evenly and learns "
        f"nothing: it writes “{zeros.written}”, {_said(zeros, intact)}. The second figure has the probability of each "
        "token of the first translation, after the tokens before it: what stays likely without the memory is grammar, "
        "what falls is what only the source can tell."
    )


def _said(zeros: Changed, intact: Changed) -> str:
    if zeros.written == intact.written:
        return "the same as before: this sentence it knows without a source"
    return "which follows from the language alone and not from the sentence"


def _memory_figure(memories: Sequence[Changed], reading: Reading) -> Figure:
    from glassrun.look.figures.attention import memory_changed
    from glassrun.look.figures.style import svg

    table = np.stack([memory.probabilities for memory in memories])
    names = [memory.name for memory in memories]
    return Figure(
        svg(memory_changed(table, names, reading.written)),
        title="How probable the translation is with another memory",
        caption="Each column is a token of the translation, after the true ones before it.",
    )


def _memory_table(memories: Sequence[Changed]) -> Table:
    rows = [(memory.name, memory.written, f"{memory.probabilities.prod():.2g}") for memory in memories]
    head = ("memory", "what the decoder writes", "probability of the translation")
    return Table(rows, head, "The memory intact, of another sentence, and zeroed", numbers=(2,))


EXHIBIT = Exhibit("attention", "Attention", QUESTION, words.reads_text, make, takes=frozenset({"text"}))
