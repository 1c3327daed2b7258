"""A sentence that a trained Transformer reads: what the exhibits of attention are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassrun.errors import DataError, RunFolderError
from glassrun.look import views
from glassrun.look.exhibits.base import Material
from glassrun.look.page import Figure, Table
from glassrun.look.views import Maps
from glassrun.show import metric_text

if TYPE_CHECKING:
    from torch import Tensor, nn

    from glassrun.capturing.maps import AttentionMap, Captured
    from glassrun.data.encoding import PairEncoding, TextEncoding
    from glassrun.run import Run

Array = NDArray[Any]

RECIPE = "sentences-transformer"
_ENCODER_DECODER = "encoder-decoder"
_KINDS = (_ENCODER_DECODER, "language-model", "llama", "encoder")
_SEARCHED = 200  # held-out pairs among which the shortest is taken


def reads_text(run: Run) -> bool:
    """Whether a run is of a Transformer of ours that reads text."""
    return isinstance(run.recipe.task, str) and getattr(run.recipe.model, "kind", None) in _KINDS


def translates(run: Run) -> bool:
    """Whether a run is of our encoder-decoder, which has a memory to look at."""
    return reads_text(run) and getattr(run.recipe.model, "kind", None) == _ENCODER_DECODER


@dataclass(frozen=True)
class Reading:
    """A sentence as a model reads it.

    Arguments:
        run: whose model it is.
        model: in evaluation mode.
        encoding: between texts and tokens.
        text: the sentence.
        inputs: what the model is called with, a batch of one.
        source: the tokens that it reads, as they are shown.
        target: what an encoder-decoder's decoder reads, the begin mark first; empty for other models.
        written, written_tokens: what the model writes after each of these.
        translation: the same as text.
    """

    run: Run
    model: nn.Module
    encoding: PairEncoding | TextEncoding
    text: str
    inputs: tuple[Tensor, ...]
    source: tuple[str, ...]
    target: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    written_tokens: tuple[int, ...] = ()
    translation: str = ""

    def captured(self) -> Captured:
        """Every attention map of one forward pass."""
        from glassrun.capturing.capture import capture

        return capture(self.model, self.inputs)

    def maps(self, found: AttentionMap) -> Maps:
        """A map with the names that people read: of its layer, its queries and its keys."""
        weights, name = found.weights[0].float().numpy(), layer_name(found.name)
        if found.kind == "cross":
            return Maps(name, weights, self.written, self.source, "token being written", "source token")
        tokens = self.target if self.target and not found.name.startswith("encoder") else self.source
        return Maps(name, weights, tokens, tokens)


def read(material: Material, sentence: str, *, fits: Any = reads_text, tokens: int = 24) -> Reading:
    """The user's sentence, or another, read by the user's run where it fits, or by a small one that is trained here.

    Arguments:
        material: of the exhibit.
        sentence: what is read where the user gives none, in the words of the source `sentences`; a run on other data
            reads the shortest of its own held-out texts.
        fits: whether the user's run can be taken.
        tokens: of a held-out text that a language model reads.

    Raises:
        BadInput: the sentence is empty, too long, or has words that the model was not trained on.
    """
    if material.run is not None and fits(material.run):
        return of_run(material.run, material.text, sentence, tokens)
    if material.text is not None:  # a word that is not known is told before anything is trained
        from glassrun.data.sentences import encoding_of_words

        encoding_of_words().encode_source(material.text.strip())
    return of_run(material.trained(RECIPE), material.text, sentence, tokens)


def of_run(run: Run, text: str | None, sentence: str, tokens: int = 24, *, but: str | None = None) -> Reading:
    """As `read`, of one run; `text` is the user's sentence, `but` a held-out one that is not to be taken."""
    from glassrun.data.encoding import ImageEncoding, PairEncoding
    from glassrun.data.recorded import of_run as recorded_of

    recorded = recorded_of(run.folder.header, str(run.path))
    if recorded is None:
        raise RunFolderError(f"{run.path}: the run never began to train: glassrun resume {run.path}")
    encoding = recorded.encoding
    assert not isinstance(encoding, ImageEncoding), "the run's model reads text"
    if text is None:
        own = recorded.manifest["source"] == "sentences"
        text = sentence if own and sentence != but else _held_out(run, encoding, tokens, but)
    if isinstance(encoding, PairEncoding):
        return _translated(run, encoding, text.strip())
    return _plain(run, encoding, text)


def _held_out(run: Run, encoding: PairEncoding | TextEncoding, tokens: int, but: str | None) -> str:
    """A text that the run was not trained on: the shortest source of some pairs, or the beginning of a long text."""
    from glassrun.data.encoding import PairEncoding

    splits = run.dataset.splits
    split = next(splits[name] for name in ("test", "validation", "train") if name in splits)
    if isinstance(encoding, PairEncoding):
        sources = [split.example(index, 0)["source"].tolist() for index in range(min(_SEARCHED, len(split)))]
        texts = [encoding.source.decode(source) for source in sorted(sources, key=len)]
        return next((text for text in texts if text != but), texts[0])
    return encoding.tokenizer.decode(split.example(0, 0)["inputs"][:tokens].tolist())


def _plain(run: Run, encoding: TextEncoding, text: str) -> Reading:
    import torch

    tokens = encoding.tokenizer.encode(text).tolist()
    if not 0 < len(tokens) <= encoding.context:
        raise DataError(f"expected a text of 1 to {encoding.context} tokens, found {len(tokens)}: give another --text")
    return Reading(run, run.model, encoding, text, (torch.tensor([tokens]),), tuple(encoding.tokenizer.shown(tokens)))


def _translated(run: Run, encoding: PairEncoding, text: str) -> Reading:
    """A source, and what the model writes to it token by token."""
    import torch

    from glassrun.data.tokenizers import BEGIN
    from glassrun.generate.writers import TranslationWriter

    source = torch.from_numpy(encoding.encode_source(text))[None]
    written = greedy(TranslationWriter(run.model, source), encoding)
    target = [BEGIN, *written[:-1]]
    return Reading(
        run,
        run.model,
        encoding,
        text,
        (source, torch.tensor([target])),
        tuple(encoding.source.shown(source[0].tolist())),
        tuple(encoding.target.shown(target)),
        tuple(encoding.target.shown(written)),
        tuple(written),
        encoding.target.decode(written),
    )


def greedy(writer: Any, encoding: PairEncoding) -> list[int]:
    """The likeliest token after each token, up to the end mark."""
    import torch

    from glassrun.data.tokenizers import BEGIN, END
    from glassrun.generate.decoding import Greedy
    from glassrun.generate.write import write

    # A model that was hardly trained may never write the end.
    most = min(encoding.max_length - 1, writer.sources.shape[1] + 8)
    (tokens,) = write(writer, torch.tensor([[BEGIN]]), Greedy(), [0], count=most, stop=(END,))
    return tokens


def last_layer(captured: Captured) -> str:
    """The name of the last cross-attention, or where there is none of the last self-attention."""
    across = [name for name, found in captured.attention.items() if found.kind == "cross"]
    return (across or list(captured.attention))[-1]


def layer_name(name: str) -> str:
    """A module's name for people.

    >>> layer_name("decoder.0.cross_attention")
    'decoder layer 1, cross-attention'
    >>> layer_name("layers.2.attention")
    'layer 3, self-attention'
    """
    *path, last = name.split(".")
    stack = path[0].removesuffix("s") if path else ""
    numbers = [int(part) + 1 for part in path if part.isdecimal()]
    where = f"{stack} {numbers[0]}" if stack == "layer" and numbers else stack
    if numbers and stack != "layer":
        where = f"{stack} layer {numbers[0]}"
    kind = {"attention": "self-attention"}.get(last, last.replace("_", "-"))
    return f"{where}, {kind}" if where else kind


def all_maps(reading: Reading, captured: Captured, name: str) -> Figure:
    """Every layer and head to choose from; what is printed is the layer `name`."""
    from glassrun.look.figures.attention import attention
    from glassrun.look.figures.style import svg

    shown = reading.maps(captured.attention[name])
    return Figure(
        svg(attention(shown.weights, shown.queries, shown.keys, shown.query_title, shown.key_title)),
        title="Every layer and head of this sentence",
        caption=f"Choose layer and head, and hover a token or a cell for its weight. On paper: {shown.name}.",
        description=f"Attention maps of the heads in {shown.name}.",
        view=views.attention([reading.maps(found) for found in captured.attention.values()]),
    )


def proofs(captured: Captured) -> Table:
    """What each map is, and how far it is from being the model's own."""
    rows = []
    for found in captured.attention.values():
        _, heads, queries, keys = found.weights.shape
        sums = float((found.weights.sum(-1) - 1.0).abs().max())
        shape = f"{heads} × {queries} × {keys}"
        rows.append((found.name, found.kind, found.masking, shape, f"{sums:.0e}", f"{found.proof:.0e}"))
    head = ("module", "attention", "mask", "heads × queries × keys", "|row sum − 1|", "|weights · V − output|")
    return Table(rows, head, "Every map, and its proof: the largest difference in float32", numbers=(4, 5))


def perplexity(weights: Array) -> Array:
    """Over how many keys a row is spread: e to the entropy of Float[…, key]; 1 for one, n for n alike."""
    logs = np.log(np.where(weights > 0, weights, 1.0))
    spread: Array = np.exp(-(weights * logs).sum(-1))
    return spread


def marks(tokens: Sequence[str]) -> str:
    """What the end mark is, where it is one of the tokens."""
    from glassrun.data.tokenizers import END, SPECIALS

    return f" {SPECIALS[END]} marks the end of a sentence." if tokens[-1] == SPECIALS[END] else ""


def described(run: Run) -> str:
    """Which model is shown, and how good it is."""
    kind = run.recipe.model.kind  # type: ignore[union-attr]
    said = quality(run)
    return f"The model is the {kind} of the run “{run.recipe.name}”, {len(run.ledger)} steps{said and ': '}{said}."


def quality(run: Run) -> str:
    """How good a run's model is on held-out examples, in words; empty where it was never evaluated."""
    last: dict[str, Any] = next((line for line in reversed(run.metrics) if line["split"] in ("test", "validation")), {})
    for name in ("exact_match", "token_accuracy", "loss"):
        if last.get(name) is not None:
            said = f"{name.replace('_', ' ')} {metric_text(name, last[name])}"
            return f"{said} on {last['examples']} held-out examples"
    return ""


def to_change(name: str, reading: Reading) -> str:
    """What to try next."""
    command = f"glassrun exhibit {name}"
    if reading.run.recipe.data.source != "sentences":  # type: ignore[attr-defined]
        return f'To see another text: `{command} --run RUN --text "{reading.text}"`, with a text of yours in its place.'
    return (
        f'To see another sentence: `{command} --text "the old fox wants to see a red apple"`. To see a model of yours: '
        f"`{command} --run RUN`."
    )
