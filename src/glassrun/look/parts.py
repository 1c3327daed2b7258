"""The report's parts that look into the model: its layers, and what each kind of model makes of a real example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glassrun.data.augment import Augmented
from glassrun.data.encoding import ImageEncoding, PairEncoding, TextEncoding
from glassrun.data.pixels import LabelledImages
from glassrun.data.source import IGNORED, Dataset
from glassrun.data.tokenizers import BEGIN, END
from glassrun.generate.decoding import Greedy, Sampling, key
from glassrun.generate.write import write
from glassrun.generate.writers import TextWriter, TranslationWriter
from glassrun.look.capture import Capture, capturing
from glassrun.look.figures import attention as attention_figures
from glassrun.look.figures import confusion as confusion_figures
from glassrun.look.figures import feature_maps as feature_map_figures
from glassrun.look.figures import positions as position_figures
from glassrun.look.figures.style import svg
from glassrun.look.page import Figure, Part, Table
from glassrun.nn.convolution import ConvolutionBlock
from glassrun.nn.positions import LearnedPositions, SinusoidalPositions
from glassrun.tasks.base import Task, logits_of
from glassrun.tasks.masked_language_model import MaskedLanguageModelling, keyed_by, with_gaps

_SHOWN_MAPS = 12  # of each layer
_SHOWN_LAYERS = 8  # with convolutions
_SHOWN_TOKENS = 24  # of a text
_SHOWN_POSITIONS = 64
_SHOWN_PAIRS = 8
_SEARCHED_PAIRS = 200
_SAMPLE_TOKENS = 400
_SHOWN_PREDICTIONS = 12
_EVALUATION_BATCH = 256


def model_parts(model: nn.Module, task: Task, dataset: Dataset) -> Iterator[Part]:
    """Everything that a real example of the split that was kept back shows of a model."""
    split = next(name for name in ("test", "validation", "train") if name in dataset.splits)
    batch = task.collate([dataset.splits[split].example(_chosen(dataset, split), 0)])
    inputs = _inputs(dataset, batch)
    with torch.no_grad(), capturing(model) as seen:
        output = model(*inputs)
    yield _network(model, seen, inputs)
    encoding = dataset.encoding
    if isinstance(encoding, ImageEncoding):
        yield from _image_parts(model, seen, dataset, split, encoding, output)
    elif isinstance(encoding, PairEncoding):
        yield from _pair_parts(model, seen, dataset, split, encoding, batch)
    else:
        if isinstance(task, MaskedLanguageModelling):
            yield _filled_in(model, task, encoding, inputs[0][0])
        else:
            yield _gone_on(model, encoding, inputs[0][0])
        yield from _text_attention(seen, encoding, inputs[0][0])
    yield from _position_parts(model)


def _chosen(dataset: Dataset, split: str) -> int:
    """The first example; of pairs the first short one, whose attention can be read, else the shortest of some."""
    if not isinstance(dataset.encoding, PairEncoding):
        return 0
    examples = [dataset.splits[split].example(i, 0) for i in range(min(_SEARCHED_PAIRS, len(dataset.splits[split])))]
    lengths = [max(len(example["source"]), len(example["target"])) for example in examples]
    return next((i for i, length in enumerate(lengths) if length <= _SHOWN_TOKENS), lengths.index(min(lengths)))


def _inputs(dataset: Dataset, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """What the model is called with."""
    if isinstance(dataset.encoding, ImageEncoding):
        return (batch["image"],)
    if isinstance(dataset.encoding, PairEncoding):
        return batch["source"], batch["target"][:, :-1]
    return (batch["inputs"][:, :_SHOWN_TOKENS],)


# --- the network -----------------------------------------------------------------------------------------------------


def _network(model: nn.Module, seen: Capture, inputs: Sequence[Tensor]) -> Part:
    total = sum(parameter.numel() for parameter in model.parameters())
    rows = [
        (layer.name, layer.kind, layer.settings, _shape(layer.shape), f"{layer.parameters:,}")
        for layer in seen.layers
        if layer.kind != "Identity" and (layer.kind, layer.settings) != ("Dropout", "0 %")
    ]
    start = [("input", "", "", _shape(tensor.shape), "") for tensor in inputs]
    shared = (
        "" if sum(layer.parameters for layer in seen.layers) == total else " Layers that share weights name them each."
    )
    return Part(
        "The network",
        f"{type(model).__name__} with {total:,} parameters, layer by layer as one example goes through it. "
        f"Shapes begin with the batch of one.{shared}",
        tables=[
            Table([*start, *rows], ("layer", "kind", "settings", "output shape", "parameters"), numbers=(4,)),
        ],
    )


def _shape(shape: Sequence[int]) -> str:
    return "\u00a0×\u00a0".join(map(str, shape))  # no line break inside


# --- images ----------------------------------------------------------------------------------------------------------


def _image_parts(
    model: nn.Module, seen: Capture, dataset: Dataset, split: str, encoding: ImageEncoding, output: Any
) -> Iterator[Part]:
    images = dataset.splits[split]
    if isinstance(images, Augmented):  # there is no other split
        images = images.split
    assert isinstance(images, LabelledImages), "the encoding is of images"
    rows: list[tuple[str, Any]] = [("input", images.raw(0))]
    rows += [
        (f"{name}: {maps.shape[1]} maps of {maps.shape[2]} × {maps.shape[3]}", maps[0, :_SHOWN_MAPS].float().numpy())
        for name, maps in _feature_maps(model, seen)
    ]
    if len(rows) > 1:
        yield Part(
            "Feature maps",
            f"The first image of the {split} split{_said(images, encoding, output)}, and what the filters of each "
            "layer make of it. Each row has one scale, from dark (its smallest value) to bright (its largest).",
            figures=[Figure(svg(feature_map_figures.images(rows)))],
        )
    if encoding.target != "class":
        yield _predicted(model, images, split, encoding)
        return
    counts = _confusion(model, images, len(encoding.classes))
    right = int(np.trace(counts))
    yield Part(
        "Confusion matrix",
        f"The {split} split: {right} of {counts.sum()} images are on the diagonal, where the prediction is right.",
        figures=[Figure(svg(confusion_figures.confusion(counts, encoding.classes)))],
    )


def _said(images: LabelledImages, encoding: ImageEncoding, output: Any) -> str:
    """Of the first image, if it has a class: which, and which the model takes it for."""
    if encoding.target != "class":
        return ""
    true = encoding.classes[int(images.example(0, 0)["label"])]
    shares = torch.softmax(logits_of(output)[0].double(), -1)
    found = encoding.classes[int(shares.argmax())]
    return (
        f" (a {true!r}, which the model takes for {found!r} with probability "
        f"{int(float(shares.max()) * 1e4) / 1e4:.4f})"
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


def _feature_maps(model: nn.Module, seen: Capture) -> list[tuple[str, Tensor]]:
    """The outputs of the blocks with a convolution, or of the convolutions that stand alone."""
    blocks = [name for name, module in model.named_modules() if isinstance(module, ConvolutionBlock)]
    alone = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and not any(name.startswith(f"{block}.") for block in blocks)
    ]
    order = [name for name in seen.outputs if name in {*blocks, *alone}]
    return [(name, seen.outputs[name]) for name in order[:_SHOWN_LAYERS]]


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


# --- pairs and texts -------------------------------------------------------------------------------------------------


def _pair_parts(
    model: nn.Module, seen: Capture, dataset: Dataset, split: str, encoding: PairEncoding, batch: dict[str, Tensor]
) -> Iterator[Part]:
    yield _written(model, dataset, split, encoding)
    source = encoding.source.shown(batch["source"][0].tolist())
    target = encoding.target.shown(batch["target"][0].tolist())
    text = encoding.source.decode(batch["source"][0].tolist())
    self_figures, cross_figures = [], []
    for name, weights in seen.attention.items():
        if weights.shape[-1] == len(source) and "cross" in name:
            drawn = svg(
                attention_figures.attention(_heads(weights), target[1:], source, "token being written", "source token")
            )
            cross_figures.append(Figure(drawn, _readable(name)))
        else:
            tokens = source if weights.shape[-1] == len(source) and "encoder" in name else target[:-1]
            self_figures.append(
                Figure(
                    svg(attention_figures.attention(_heads(weights), tokens, tokens, "query", "key")), _readable(name)
                )
            )
    if cross_figures:
        yield Part(
            "Cross-attention",
            f"Queries come from the target that is being written, keys and values from the source, here {text!r}. "
            "Each row is the token being written and sums to one: where in the source the head looks for it.",
            figures=cross_figures,
        )
    if self_figures:
        yield Part(
            "Self-attention",
            "Queries, keys and values come from the same sequence. In the decoder no token looks at a later one.",
            figures=self_figures,
        )


def _written(model: nn.Module, dataset: Dataset, split: str, encoding: PairEncoding) -> Part:
    """What the model writes for the first examples."""
    rows = []
    for index in range(min(_SHOWN_PAIRS, len(dataset.splits[split]))):
        example = dataset.splits[split].example(index, 0)
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


def _gone_on(model: nn.Module, encoding: TextEncoding, tokens: Tensor) -> Part:
    before = tokens.tolist()
    writer = TextWriter(model, encoding.context)
    (after,) = write(writer, tokens[None], Sampling(0.8, seed=1), [key(before)], count=_SAMPLE_TOKENS)
    return Part(
        "What it writes",
        f"The first {len(before)} tokens are from the held-out text, the next {_SAMPLE_TOKENS} are drawn from the "
        "model at temperature 0.8 with seed 1.",
        code=encoding.tokenizer.decode([*before, *after]),
    )


def _filled_in(model: nn.Module, task: MaskedLanguageModelling, encoding: TextEncoding, tokens: Tensor) -> Part:
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


def _text_attention(seen: Capture, encoding: TextEncoding, tokens: Tensor) -> Iterator[Part]:
    shown = encoding.tokenizer.shown(tokens.tolist())
    drawn = [
        Figure(svg(attention_figures.attention(_heads(weights), shown, shown, "query", "key")), _readable(name))
        for name, weights in seen.attention.items()
    ]
    if drawn:
        yield Part(
            "Self-attention",
            f"Each head of each layer on the first {len(shown)} tokens of the held-out text. Row by row, what the "
            "token takes from itself and the tokens that it may look at; every row sums to one.",
            figures=drawn,
        )


def _heads(weights: Tensor) -> Any:
    return weights[0].float().numpy()


def _readable(name: str) -> str:
    """A module's name for people: `decoder.0.cross_attention` is "decoder layer 1: cross-attention"."""
    *path, last = name.split(".")
    stack = path[0].removesuffix("s") if path else ""
    numbers = [int(part) + 1 for part in path if part.isdecimal()]
    where = (
        f"{stack} layer {numbers[0]}" if numbers and stack != "layer" else f"layer {numbers[0]}" if numbers else stack
    )
    kind = {"attention": "self-attention"}.get(last, last.replace("_", "-"))
    return f"{where}: {kind}" if where else kind


def _position_parts(model: nn.Module) -> Iterator[Part]:
    for module in model.modules():
        if isinstance(module, SinusoidalPositions):
            table, text = module.table, "Sines and cosines of wavelengths from 2π to 10000 · 2π: fixed, not learned."
        elif isinstance(module, LearnedPositions):
            table, text = module.weight, "One vector for each position, learned with the rest."
        else:
            continue
        shown = table.detach()[:_SHOWN_POSITIONS].float().numpy()
        yield Part(
            "Position encoding",
            f"{text} Attention alone does not know the order of its tokens; this is added to each token's embedding.",
            figures=[
                Figure(
                    svg(position_figures.positions(shown)), caption=f"The first {len(shown)} of {len(table)} positions."
                )
            ],
        )
        return  # source and target have the same kind
