"""CNN architecture: a trained network drawn from the model itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from glassrun.capturing.capture import capture
from glassrun.capturing.maps import Layer, numbered
from glassrun.functional.convolution import output_size
from glassrun.look.exhibits.base import Exhibit, Material
from glassrun.look.exhibits.convolutional import Subject, fits, subject
from glassrun.look.figures.network import network
from glassrun.look.figures.style import svg
from glassrun.look.layer_graph import INPUT, ReceptiveField, Traced, trace
from glassrun.look.network_blocks import by, module_of, network_blocks
from glassrun.look.page import Figure, Part, Table

QUESTION = (
    "What does an image go through, and how large is it, how many parameters are there, what can be seen at each place?"
)

_MOST_ROWS = 40  # of a table that stands open
_MOST_READ = 4
_MOST_WINDOWS = 8  # whose arithmetic is shown
_FORMULA = """<math display="block"><mtable columnalign="left" displaystyle="true">
<mtr><mtd><msub><mi>n</mi><mtext>out</mtext></msub><mo>=</mo><mrow><mo>⌊</mo><mfrac><mrow><mi>n</mi><mo>+</mo><mn>2</mn>
<mi>p</mi><mo>−</mo><mi>d</mi><mo>(</mo><mi>k</mi><mo>−</mo><mn>1</mn><mo>)</mo><mo>−</mo><mn>1</mn></mrow><mi>s</mi>
</mfrac><mo>⌋</mo></mrow><mo>+</mo><mn>1</mn></mtd></mtr>
<mtr><mtd><msub><mi>r</mi><mtext>out</mtext></msub><mo>=</mo><mi>r</mi><mo>+</mo><mi>d</mi><mo>(</mo><mi>k</mi><mo>−</mo>
<mn>1</mn><mo>)</mo><mi>j</mi><mo>,</mo><mspace width="1em"/><msub><mi>j</mi><mtext>out</mtext></msub><mo>=</mo>
<mi>j</mi><mi>s</mi></mtd></mtr></mtable></math>"""


def make(material: Material) -> Part:
    """The exhibit's part of the page.

    Raises:
        BadInput: the run has no checkpoint, its data are gone, or its model is no convolutional network.
    """
    chosen = subject(material)
    layers = called_layers(chosen.model, chosen.image)
    traced = trace(chosen.model, chosen.image, {layer.name.split("#")[0] for layer in layers})
    blocks = network_blocks(chosen.model, layers, traced, chosen.image.shape)
    drawn = Figure(
        svg(network(blocks)),
        caption="Height and depth of a block grow with the square roots of the maps' height and width, its length with "
        "the logarithm of how many maps there are; a bar stands for features without places. An arc over a block: the "
        "input goes around its layers and is added to what they make.",
        description="; ".join(f"{block.title}: {_shape(block.shape)}" for block in blocks),
    )
    return Part(
        title=EXHIBIT.title,
        question=QUESTION,
        formula=_FORMULA,
        text=_text(chosen, layers, traced),
        figures=[drawn],
        tables=[_layers_table(layers, traced, chosen.image.shape), _windows_table(chosen.model, layers, traced)],
        source=[
            "glassrun.functional.convolution.output_size",
            "glassrun.look.layer_graph.trace",
            "glassrun.look.figures.network.network",
        ],
    )


def called_layers(model: nn.Module, image: torch.Tensor) -> list[Layer]:
    """The layers as an image goes through them, those left out that only hand on what they are given.

    A second call of a layer is `NAME#2`, and has no parameters of its own.
    """
    found: dict[str, Layer] = {}
    for layer in capture(model, image, attention=False).layers:
        if layer.kind not in ("Identity", "StochasticDepth"):
            name = numbered(layer.name, found)
            found[name] = replace(layer, name=name, parameters=0 if layer.name in found else layer.parameters)
    return list(found.values())


def _text(chosen: Subject, layers: Sequence[Layer], traced: Mapping[str, Traced]) -> str:
    model = chosen.model
    total = sum(parameter.numel() for parameter in model.parameters())
    dense = [m for m in model.modules() if isinstance(m, nn.Linear)]
    in_dense = sum(parameter.numel() for module in dense for parameter in module.parameters())
    heaviest = max(layers, key=lambda layer: layer.parameters)
    largest = max(layers, key=lambda layer: torch.Size(layer.shape).numel())
    sighted = [layer for layer in layers if len(layer.shape) == 4 and layer.name in traced]
    last = sighted[-1]
    height, width = chosen.image.shape[2:]
    meet = [name for name, call in traced.items() if len(call.reads) > 1]
    branches = (
        f"\n\nAt {len(meet)} of its layers branches meet: the table names the layers that each one reads. A residual "
        "block adds its input to what its layers make of it, so the gradient also has a way around (He et al. 2016)."
        if meet
        else ""
    )
    return (
        f"{chosen.told}: {type(model).__name__} with {total:,} parameters. Nothing here is drawn by hand: one image "
        f"went through the model, and every layer was recorded as it was called. Read from left to right, maps get "
        f"smaller and more numerous: where something is gives way to what it is.\n\n"
        f"A convolution's parameters do not depend on the size of the image, a fully connected layer's do. Here linear "
        f"layers hold {in_dense / total:.0%} of the parameters; the heaviest layer is {heaviest.name} with "
        f"{heaviest.parameters:,}. Memory goes elsewhere: the largest output is that of {largest.name}, "
        f"{_shape(largest.shape[1:])}.\n\n"
        f"The receptive field is the part of the image that one place of a map can see. A window of k places adds "
        f"d(k − 1) steps of j pixels to it, and a stride s makes every later step s times as long. At {last.name}, the "
        f"last layer with places, it is {_field(traced[last.name].field)} of an image of {height} × {width}; what is "
        f"larger than the image reaches into the padding.{branches}\n\n"
        "To see another network, show a run of your own: `glassrun train digits-cnn --set model.channels=[8,16,32] "
        "--out RUN`, then `glassrun exhibit cnn-architecture --run RUN`."
    )


def _layers_table(layers: Sequence[Layer], traced: Mapping[str, Traced], in_shape: Sequence[int]) -> Table:
    numbers = {INPUT: "0"} | {layer.name: str(number) for number, layer in enumerate(layers, 1)}
    rows = [("0", INPUT, "", "", "", _shape(in_shape[1:]), "1 × 1", "")]
    for layer in layers:
        call = traced.get(layer.name)
        reads = _sum([numbers[name] for name in call.reads]) if call else ""
        field = _field(call.field) if call else ""
        what = (numbers[layer.name], layer.name, layer.kind, layer.settings, reads)
        rows.append((*what, _shape(layer.shape[1:]), field, f"{layer.parameters:,}" if layer.parameters else ""))
    head = ("", "layer", "kind", "settings", "reads", "output", "receptive field", "parameters")
    return Table(rows, head, title=f"The {len(layers)} layers", numbers=(0, 7), folded=len(rows) > _MOST_ROWS)


def _windows_table(model: nn.Module, layers: Sequence[Layer], traced: Mapping[str, Traced]) -> Table:
    """The formulas with the numbers of real layers: the first of each form."""
    rows: dict[tuple[Any, ...], tuple[str, ...]] = {}
    for layer in layers:
        module = module_of(model, layer.name)
        if layer.name in traced and isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            k, s, p, d = (_first(getattr(module, name, 1)) for name in ("kernel_size", "stride", "padding", "dilation"))
            size = traced[layer.name].in_shape[2]
            arithmetic = f"⌊({size} + 2·{p} − {d}·({k} − 1) − 1) / {s}⌋ + 1"
            out = layer.shape[2]
            row = (layer.name, f"{by(module.kernel_size)}, stride {s}", arithmetic, str(out), _counted(module))
            # What rounds up, or pads by a word, has another formula.
            if not isinstance(p, str) and output_size(size, k, stride=s, padding=p, dilation=d) == out:
                rows.setdefault((layer.kind, k, s, p, d, size), row)
    shown = list(rows.values())[:_MOST_WINDOWS]
    head = ("layer", "window", "height of the output", "", "parameters")
    return Table(shown, head, title="The arithmetic of real layers", numbers=(3,))


def _counted(module: nn.Module) -> str:
    """How a convolution's parameters are counted."""
    if not isinstance(module, nn.Conv2d):
        return "none"
    rows, columns = module.kernel_size
    inputs = module.in_channels // module.groups
    bias = module.out_channels if module.bias is not None else 0
    kernels = f"{module.out_channels} · {inputs} · {rows} · {columns}"
    return f"{kernels}{f' + {bias}' if bias else ''} = {module.out_channels * inputs * rows * columns + bias:,}"


def _first(size: Any) -> Any:
    return size[0] if isinstance(size, tuple) else size


def _sum(names: Sequence[str]) -> str:
    """What is added up; of many, as in a long row of residual blocks, both ends."""
    return " + ".join(names if len(names) <= _MOST_READ else [*names[:2], "…", names[-1]])


def _field(field: ReceptiveField) -> str:
    return "the whole image" if field.whole else f"{field.size[0]} × {field.size[1]}"


def _shape(shape: Sequence[int]) -> str:
    return "\u00a0×\u00a0".join(map(str, shape))  # no line break inside


EXHIBIT = Exhibit("cnn-architecture", "CNN architecture", QUESTION, fits, make)
