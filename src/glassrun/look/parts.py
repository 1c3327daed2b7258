"""The report's parts that look into the model: its layers, and what each kind of model makes of a real example."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glassrun.capturing.capture import capture
from glassrun.capturing.maps import AttentionMap, Captured, Layer
from glassrun.data.augment import Augmented
from glassrun.data.encoding import ImageEncoding, PairEncoding
from glassrun.data.pixels import LabelledImages
from glassrun.data.source import Dataset
from glassrun.errors import CaptureError
from glassrun.look import answers, views
from glassrun.look.figures.attention import attention as attention_figure
from glassrun.look.figures.feature_maps import images as images_figure
from glassrun.look.figures.positions import positions as positions_figure
from glassrun.look.figures.style import svg
from glassrun.look.names import readable
from glassrun.look.page import Figure, Part, Table
from glassrun.nn.convolution import ConvolutionBlock
from glassrun.nn.patches import PatchEmbedding
from glassrun.nn.positions import LearnedPositions, SinusoidalPositions
from glassrun.tasks.base import Task, logits_of
from glassrun.tasks.masked_language_model import MaskedLanguageModelling

_PRINTED_MAPS = 12  # of each layer
_SHOWN_MAPS = 64
_SHOWN_NUMBERS = 200_000  # of a layer's maps
_SHOWN_LAYERS = 8  # with convolutions
_SHOWN_TOKENS = 24  # of a text
_SHOWN_POSITIONS = 64
_SEARCHED_PAIRS = 200


def model_parts(
    model: nn.Module, task: Task, dataset: Dataset, *, without: Collection[str] = frozenset()
) -> Iterator[Part]:
    """Everything that a real example of the split that was kept back shows of a model.

    Arguments:
        model: in evaluation mode.
        task, dataset: what it was trained on.
        without: the names of exhibits that stand beside these parts: what they show is left out.
    """
    split = next(name for name in ("test", "validation", "train") if name in dataset.splits)
    batch = task.collate([dataset.splits[split].example(_chosen(dataset, split), 0)])
    inputs = _inputs(dataset, batch)
    convolutions = _convolutions(model)
    captured, unseen = _look_inside(model, inputs, convolutions)
    if unseen or "cnn-architecture" not in without:
        yield _network(model, captured.layers, inputs, unseen)
    encoding = dataset.encoding
    if isinstance(encoding, ImageEncoding):
        images = _images(dataset, split)
        said = _said(images, split, encoding, captured.output)
        yield from _feature_maps(captured, convolutions, images.raw(0), said)
        yield from answers.of_images(model, images, split, encoding)
    elif isinstance(encoding, PairEncoding):
        yield answers.of_pairs(model, dataset.splits[split], split, encoding)
    elif isinstance(task, MaskedLanguageModelling):
        yield answers.of_gaps(model, task, encoding, inputs[0][0])
    else:
        yield answers.of_text(model, encoding, inputs[0][0])
    if "attention" not in without:
        yield from _attention(captured, *_tokens(model, dataset, inputs, batch))
    if "positional-encoding" not in without:
        yield from _positions(model)


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


def _look_inside(
    model: nn.Module, inputs: tuple[Tensor, ...], convolutions: Sequence[str]
) -> tuple[Captured, Sequence[str]]:
    """What a forward pass shows, and what to say where its attention cannot be seen."""
    try:
        return capture(model, inputs, activations=convolutions or False), ()
    except CaptureError as error:
        return capture(model, inputs, attention=False, activations=convolutions or False), (str(error),)


def _images(dataset: Dataset, split: str) -> LabelledImages:
    images = dataset.splits[split]
    if isinstance(images, Augmented):  # there is no other split
        images = images.split
    assert isinstance(images, LabelledImages), "the encoding is of images"
    return images


# --- the network -----------------------------------------------------------------------------------------------------


def _network(model: nn.Module, layers: Sequence[Layer], inputs: Sequence[Tensor], unseen: Sequence[str]) -> Part:
    total = sum(parameter.numel() for parameter in model.parameters())
    rows = [
        (layer.name, layer.kind, layer.settings, _shape(layer.shape), f"{layer.parameters:,}")
        for layer in layers
        if layer.kind != "Identity" and (layer.kind, layer.settings) != ("Dropout", "0 %")
    ]
    start = [("input", "", "", _shape(tensor.shape), "") for tensor in inputs]
    shared = "" if sum(layer.parameters for layer in layers) == total else " Layers that share weights name them each."
    return Part(
        "The network",
        f"{type(model).__name__} with {total:,} parameters, layer by layer as one example goes through it. "
        f"Shapes begin with the batch of one.{shared}",
        tables=[Table([*start, *rows], ("layer", "kind", "settings", "output shape", "parameters"), numbers=(4,))],
        notes=[f"No attention is shown: {why}" for why in unseen],
    )


def _shape(shape: Sequence[int]) -> str:
    return "\u00a0×\u00a0".join(map(str, shape))  # no line break inside


# --- images ----------------------------------------------------------------------------------------------------------


def _convolutions(model: nn.Module) -> list[str]:
    """The blocks with a convolution, and the convolutions that stand alone, by name; the first of many."""
    blocks = [name for name, module in model.named_modules() if isinstance(module, ConvolutionBlock)]
    found = [
        name
        for name, module in model.named_modules()
        if name in blocks
        or (isinstance(module, nn.Conv2d) and not any(name.startswith(f"{block}.") for block in blocks))
    ]
    return found[:_SHOWN_LAYERS]


def _feature_maps(captured: Captured, names: Sequence[str], image: NDArray[np.uint8], said: str) -> Iterator[Part]:
    maps = {name: captured.activations[name][0].float().numpy() for name in names}
    if not maps:
        return
    printed: list[tuple[str, Any]] = [("input", image)]
    groups = [views.Pictures("input", image.astype(np.float32), [f"channel {i + 1}" for i in range(len(image))])]
    for name, values in maps.items():
        count, height, width = values.shape
        shown = values[: max(1, min(_SHOWN_MAPS, _SHOWN_NUMBERS // (height * width)))]
        title = f"{name}: {count} maps of {height} × {width}"
        printed.append((title, values[:_PRINTED_MAPS]))
        only = f", the first {len(shown)}" if len(shown) < count else ""
        groups.append(views.Pictures(title + only, shown, [str(number + 1) for number in range(len(shown))]))
    yield Part(
        "Feature maps",
        f"{said}, and what the filters of each layer make of it. All maps of a layer have one scale, from dark (the "
        "smallest value) to bright (the largest).",
        figures=[
            Figure(
                svg(images_figure(printed)),
                description="The image, and below it the maps of each layer's first filters.",
                view=views.pictures(groups),
            )
        ],
    )


def _said(images: LabelledImages, split: str, encoding: ImageEncoding, output: Any) -> str:
    """The first image in words; if it has a class, which, and which the model takes it for."""
    begin = f"The first image of the {split} split"
    if encoding.target != "class":
        return begin
    true = encoding.classes[int(images.example(0, 0)["label"])]
    shares = torch.softmax(logits_of(output)[0].double(), -1)
    found = encoding.classes[int(shares.argmax())]
    return (
        f"{begin} (a {true!r}, which the model takes for {found!r} with probability "
        f"{int(float(shares.max()) * 1e4) / 1e4:.4f})"
    )


# --- attention -------------------------------------------------------------------------------------------------------


def _tokens(
    model: nn.Module, dataset: Dataset, inputs: Sequence[Tensor], batch: dict[str, Tensor]
) -> tuple[list[str], list[str]]:
    """What stands at each place of the source and, of a pair, of the target with one token more at its end."""
    encoding = dataset.encoding
    if isinstance(encoding, ImageEncoding):
        return _patches(model, encoding), []
    if isinstance(encoding, PairEncoding):
        return encoding.source.shown(batch["source"][0].tolist()), encoding.target.shown(batch["target"][0].tolist())
    return encoding.tokenizer.shown(inputs[0][0].tolist()), []


def _patches(model: nn.Module, encoding: ImageEncoding) -> list[str]:
    """The patches of an image by row and column, counted from 1, after the class token if there is one."""
    patches = next((module for module in model.modules() if isinstance(module, PatchEmbedding)), None)
    if patches is None:
        return []
    high, wide = patches.projection.kernel_size
    rows, columns = encoding.height // high, encoding.width // wide
    first = ["class"] if getattr(model, "class_token", None) is not None else []
    return [*first, *(f"{row + 1},{column + 1}" for row in range(rows) for column in range(columns))]


def _attention(captured: Captured, source: Sequence[str], target: Sequence[str]) -> Iterator[Part]:
    """Every head of every layer, to choose from; on paper one picture for each layer."""
    layers = [_labelled(found, source, target) for found in captured.attention.values()]
    if not layers:
        return
    kinds = {found.kind for found in captured.attention.values()}
    proof = max(found.proof for found in captured.attention.values())
    crossed = (
        " In cross-attention queries come from the target that is being written, keys and values from the source."
        if "cross" in kinds
        else ""
    )
    causal = (
        " Where a map is causal no token looks at a later one."
        if any("causal" in found.masking for found in captured.attention.values())
        else ""
    )
    stills = [
        Figure(
            svg(attention_figure(layer.weights, layer.queries, layer.keys, layer.query_title, layer.key_title)),
            layer.name,
            description=f"The attention weights of each head of {layer.name}: rows are queries, columns are keys.",
            still=True,
        )
        for layer in layers
    ]
    yield Part(
        "Attention maps",
        f"What each token takes from the others, in every head of every layer, on {len(source)} tokens of held-out "
        f"data. Each row is a query and sums to one.{crossed}{causal}\n\n"
        "The weights are rebuilt beside the model's own calls. Rebuilt weights times values give the model's own "
        f"output with a largest difference of {proof:.1e}.",
        figures=[Figure("", view=views.attention(layers), description="Attention weights"), *stills],
    )


def _labelled(found: AttentionMap, source: Sequence[str], target: Sequence[str]) -> views.Maps:
    weights = found.weights[0].float().numpy()
    _, queries, keys = weights.shape
    titles = ("query", "key")
    if found.kind == "cross":
        rows, columns, titles = target[1:], source, ("token being written", "source token")
    elif target and "causal" in found.masking:
        rows = columns = target[:-1]
    else:
        rows = columns = source
    return views.Maps(
        readable(found.name),
        weights,
        rows if len(rows) == queries else [str(place + 1) for place in range(queries)],
        columns if len(columns) == keys else [str(place + 1) for place in range(keys)],
        *titles,
    )


# --- positions -------------------------------------------------------------------------------------------------------


def _positions(model: nn.Module) -> Iterator[Part]:
    for module in model.modules():
        if isinstance(module, SinusoidalPositions):
            table, text = module.table, "Sines and cosines of wavelengths from 2π to 10000 · 2π: fixed, not learned."
        elif isinstance(module, LearnedPositions):
            table, text = module.weight, "One vector for each position, learned with the rest."
        else:
            continue
        shown = table.detach()[:_SHOWN_POSITIONS].float().numpy()
        view = views.heatmap(
            shown, row_title="position", column_title="dimension", value_title="value added", signed=True
        )
        yield Part(
            "Position encoding",
            f"{text} Attention alone does not know the order of its tokens; this is added to each token's embedding.",
            figures=[
                Figure(
                    svg(positions_figure(shown)),
                    caption=f"The first {len(shown)} of {len(table)} positions.",
                    description="The value that each dimension of each position's vector has.",
                    view=view,
                )
            ],
        )
        return  # source and target have the same kind
