"""The report's parts about what a model answers: classes, labels, numbers, translations, texts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glassrun.data.encoding import ImageEncoding, PairEncoding, TextEncoding
from glassrun.data.pixels import LabelledImages
from glassrun.data.source import IGNORED, Split
from glassrun.data.tokenizers import BEGIN, END
from glassrun.generate.decoding import Greedy, Sampling, key
from glassrun.generate.write import write
from glassrun.generate.writers import TextWriter, TranslationWriter
from glassrun.look.figures.confusion import confusion
from glassrun.look.figures.style import svg
from glassrun.look.page import Figure, Part, Table
from glassrun.look.views import heatmap
from glassrun.tasks.base import logits_of
from glassrun.tasks.masked_language_model import MaskedLanguageModelling, keyed_by, with_gaps

_SHOWN_PREDICTIONS = 12
_SHOWN_PAIRS = 8
_SAMPLE_TOKENS = 400
_EVALUATION_BATCH = 256


# --- images ----------------------------------------------------------------------------------------------------------


def of_images(model: nn.Module, images: LabelledImages, split: str, encoding: ImageEncoding) -> Iterator[Part]:
    """Which class is taken for which; of labels and numbers, the first predictions."""
    if encoding.target != "class":
        yield _predicted(model, images, split, encoding)
        return
    counts = _confusion(model, images, len(encoding.classes))
    right = int(np.trace(counts))
    view = heatmap(
        counts.astype(np.float32),
        rows=encoding.classes,
        columns=encoding.classes,
        row_title="true class",
        column_title="predicted class",
        value_title="images",
    )
    yield Part(
        "Confusion matrix",
        f"The {split} split: {right} of {counts.sum()} images are on the diagonal, where the prediction is right.",
        figures=[
            Figure(
                svg(confusion(counts, encoding.classes)),
                description=f"How often each class was taken for each; {right} of {counts.sum()} images are right.",
                view=view if len(encoding.classes) > 20 else None,  # up to here the picture holds the numbers
            )
        ],
    )


@torch.no_grad()
def _predicted(model: nn.Module, images: LabelledImages, split: str, encoding: ImageEncoding) -> Part:
    """Labels or numbers of the first images, as they are and as the model says them."""
    examples = [images.example(index, 0) for index in range(min(_SHOWN_PREDICTIONS, len(images)))]
    outputs = logits_of(model(torch.from_numpy(np.stack([example["image"] for example in examples]))))
    pairs = zip((example["label"].tolist() for example in examples), outputs.tolist(), strict=True)
    if encoding.target == "labels":
        head = ["labels", "predicted"]
        rows = [
            [", ".join(compress(encoding.classes, (v > 0 for v in row))) or "none" for row in pair] for pair in pairs
        ]
    else:
        head = [*encoding.classes, *(f"{name}, predicted" for name in encoding.classes)]
        rows = [[f"{value:.6g}" for row in pair for value in encoding.in_units(row)] for pair in pairs]
    return Part(
        "Predictions",
        f"The first images of the {split} split, which it was not trained on.",
        tables=[Table(rows, head, numbers=range(len(head)) if encoding.target == "numbers" else ())],
    )


@torch.no_grad()
def _confusion(model: nn.Module, images: LabelledImages, classes: int) -> Any:
    """How often each class was taken for each: Int64[true, predicted]."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    for start in range(0, len(images), _EVALUATION_BATCH):
        examples = [images.example(i, 0) for i in range(start, min(start + _EVALUATION_BATCH, len(images)))]
        logits = logits_of(model(torch.from_numpy(np.stack([example["image"] for example in examples]))))
        labels = [example["label"] for example in examples]
        np.add.at(counts, (labels, logits.argmax(-1).numpy()), 1)
    return counts


# --- texts -----------------------------------------------------------------------------------------------------------


def of_pairs(model: nn.Module, examples: Split, split: str, encoding: PairEncoding) -> Part:
    """What the model writes for the first examples."""
    rows = []
    for index in range(min(_SHOWN_PAIRS, len(examples))):
        example = examples.example(index, 0)
        # A model that was hardly trained may never write the end.
        most = min(encoding.max_length, 2 * len(example["target"]))
        writer = TranslationWriter(model, torch.from_numpy(example["source"])[None])
        (tokens,) = write(writer, torch.tensor([[BEGIN]]), Greedy(), [0], count=most - 1, stop=(END,))
        written = encoding.target.decode(tokens)
        true = encoding.target.decode(example["target"].tolist())
        rows.append((encoding.source.decode(example["source"].tolist()), written, "right" if written == true else true))
    return Part(
        "What it writes",
        f"The first examples of the {split} split, which it was not trained on, by greedy decoding.",
        tables=[Table(rows, ("source", "written", "right, or what it should be"))],
    )


def of_text(model: nn.Module, encoding: TextEncoding, tokens: Tensor) -> Part:
    """How the model goes on from the first held-out tokens."""
    before = tokens.tolist()
    writer = TextWriter(model, encoding.context)
    (after,) = write(writer, tokens[None], Sampling(0.8, seed=1), [key(before)], count=_SAMPLE_TOKENS)
    return Part(
        "What it writes",
        f"The first {len(before)} tokens are from the held-out text, the next {_SAMPLE_TOKENS} are drawn from the "
        "model at temperature 0.8 with seed 1.",
        code=encoding.tokenizer.decode([*before, *after]),
    )


def of_gaps(model: nn.Module, task: MaskedLanguageModelling, encoding: TextEncoding, tokens: Tensor) -> Part:
    """The first held-out tokens with gaps, and the likeliest token for each."""
    inputs, targets = with_gaps(tokens, task.mask_token, keyed_by(tokens))
    with torch.no_grad():
        found = logits_of(model(inputs[None]))[0].argmax(-1)
    (places,) = (targets != IGNORED).nonzero(as_tuple=True)

    def shown(token: Tensor) -> str:
        return "hidden" if int(token) == task.mask_token else encoding.tokenizer.shown([int(token)])[0]

    rows = [
        (str(place + 1), shown(inputs[place]), shown(found[place]), shown(tokens[place])) for place in places.tolist()
    ]
    return Part(
        "What it fills in",
        f"The held-out text begins with: {encoding.tokenizer.decode(tokens.tolist())!r}. Of its tokens these are asked "
        "for; most are hidden, some replaced by another, some left.",
        tables=[Table(rows, ("token", "it reads", "it says", "it is"))],
    )
