"""Parameter sharing: the input shifts and the map shifts along; what that saves, and what breaks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassrun.data.digits import load as load_digits
from glassrun.data.source import Split
from glassrun.functional.convolution import average_pooling, convolution, max_pooling
from glassrun.functional.locally_connected import locally_connected
from glassrun.keys import derive
from glassrun.look import filters
from glassrun.look.exhibits.base import Exhibit, Material
from glassrun.look.exhibits.convolutional import Subject, convolutions, fits, most_balanced, subject
from glassrun.look.exhibits.photograph import Photograph, photograph
from glassrun.look.figures.equivariance import equivariance, number
from glassrun.look.figures.sharing import sharing
from glassrun.look.figures.style import svg
from glassrun.look.layer_graph import trace
from glassrun.look.page import Figure, Part, Table
from glassrun.look.sharing_study import CHANNELS, Examples, Study, moved, study
from glassrun.look.shifts import ShiftError, shift_error, shifted
from glassrun.look.views import Pictures, pictures
from glassrun.sections.data import DigitsData
from glassrun.tasks.base import logits_of

QUESTION = "Why may all places of an image share one kernel, what does that save, and what breaks it?"

_LARGEST = 192  # pixels of the photograph's longer side
_SHIFT = (18, 30)  # rows down, columns right: as far as one sees it
_SIZES, _SEEDS, _STEPS = (100, 300, 1000), (1, 2), 200
_MOST_MOVED = 256  # images of the held-out split that are moved by a pixel
_MOST_LAYERS = 12
_FORMULA = """<math display="block"><mi>f</mi><mo>(</mo><msub><mi>T</mi><mi>δ</mi></msub><mi>x</mi><mo>)</mo><mo>=</mo>
<msub><mi>T</mi><mrow><mi>δ</mi><mo>/</mo><mi>s</mi></mrow></msub><mi>f</mi><mo>(</mo><mi>x</mi><mo>)</mo>
<mspace width="2em"/><mtext>with</mtext><mspace width="0.5em"/><msub><mrow><mo>(</mo><msub><mi>T</mi><mi>δ</mi></msub>
<mi>x</mi><mo>)</mo></mrow><mi>i</mi></msub><mo>=</mo><msub><mi>x</mi><mrow><mi>i</mi><mo>−</mo><mi>δ</mi></mrow></msub></math>"""


def make(material: Material) -> Part:
    """The exhibit's part of the page. Where nothing may be trained, the trained comparison is left out.

    Raises:
        BadInput: the picture cannot be used, or the run has no convolutional network to show.
    """
    chosen = subject(material)
    photo = photograph(material, largest=_LARGEST)
    kernel, which = _kernel(chosen)
    picture = torch.from_numpy(photo.grey)[None]
    seen = shift_error(partial(_same_size, kernel=kernel), picture, _SHIFT, reach=kernel.shape[-1] // 2)
    found = _study(material) if material.may_train else None
    return Part(
        title=EXHIBIT.title,
        question=QUESTION,
        formula=_FORMULA,
        text=_text(chosen, photo, which, seen, found),
        figures=[*_shift_figures(photo, seen, which), *([_sharing_figure(found)] if found else [])],
        tables=[_errors(picture, kernel), *([_study_table(found)] if found else []), _counts(chosen)],
        source=[
            "glassrun.functional.convolution.convolution",
            "glassrun.functional.locally_connected.locally_connected",
            "glassrun.look.shifts.shift_error",
            "glassrun.look.sharing_study.study",
        ],
        notes=[]
        if found
        else [
            "The accuracies with and without sharing are trained by the command: glassrun exhibit parameter-sharing."
        ],
    )


# --- shifts ----------------------------------------------------------------------------------------------------------


def _kernel(chosen: Subject) -> tuple[Tensor, str]:
    """The best balanced filter of the model's first convolution, for grey pictures; odd, so that it has a middle."""
    name, layer = next(iter(convolutions(chosen.model).items()))
    weight = layer.weight.detach().float()
    if weight.shape[-1] % 2 == 0 or weight.shape[-1] != weight.shape[-2]:
        return filters.vertical_edge()[None, None], "the filter of upright edges"
    (number_of,) = most_balanced(layer, 1)
    return weight[number_of].mean(0)[None, None], f"filter {number_of} of {name}"


def _same_size(x: Tensor, kernel: Tensor) -> Tensor:
    return convolution(x, kernel, padding=kernel.shape[-1] // 2)


def _circular(x: Tensor, kernel: Tensor) -> Tensor:
    around = kernel.shape[-1] // 2
    return convolution(F.pad(x, (around,) * 4, mode="circular"), kernel)


def _errors(picture: Tensor, kernel: Tensor) -> Table:
    """What keeps the map shifting along, and what does not."""
    around = kernel.shape[-1] // 2
    same, circular = partial(_same_size, kernel=kernel), partial(_circular, kernel=kernel)
    small = picture[..., : picture.shape[-2] // 4 * 4, : picture.shape[-1] // 4 * 4]  # strides divide it
    operations: Sequence[tuple[str, Callable[[Tensor], Tensor], int, int, int]] = (
        # name, operation, its stride, shift of the input, reach of the border in the map
        ("convolution, zeros around the image", same, 1, 1, around),
        ("convolution, the image continued around", circular, 1, 1, 0),
        ("convolution with stride 2", lambda x: circular(x)[..., ::2, ::2], 2, 1, 0),
        ("convolution with stride 2", lambda x: circular(x)[..., ::2, ::2], 2, 2, 0),
        ("convolution, then max pooling over 2 × 2", lambda x: max_pooling(circular(x), 2), 2, 1, 0),
        ("convolution, then max pooling over 2 × 2", lambda x: max_pooling(circular(x), 2), 2, 2, 0),
        ("convolution, then average pooling over 2 × 2", lambda x: average_pooling(circular(x), 2), 2, 1, 0),
        ("convolution, then average pooling over 2 × 2", lambda x: average_pooling(circular(x), 2), 2, 2, 0),
        ("locally connected, random kernels", _local(small, kernel.shape[-1]), 1, 1, around),
    )
    rows = []
    for name, operation, stride, shift, reach in operations:
        error = shift_error(operation, small, (0, shift), stride=stride, reach=reach)
        moves = f"{shift / stride:g}" if shift % stride == 0 else f"{shift / stride:g}, which no map can do"
        rows.append((name, f"{shift}", moves, number(error.error), number(error.error_with_border)))
    head = ("operation", "shift of the input", "shift of the map", "largest error", "with the border")
    title = "The largest error, as a share of the map's largest value, of the photograph moved to the right"
    return Table(rows, head, title=title, numbers=(3, 4))


def _local(picture: Tensor, size: int) -> Callable[[Tensor], Tensor]:
    """A locally connected layer with kernels that were drawn for each place."""
    places = picture.shape[-2] * picture.shape[-1]
    generator = torch.Generator().manual_seed(derive(1, "kernels"))
    kernels = torch.randn(places, 1, 1, size, size, generator=generator)
    return lambda x: locally_connected(x, kernels, padding=size // 2)


def _shift_figures(photo: Photograph, seen: ShiftError, which: str) -> list[Figure]:
    grey = torch.from_numpy(photo.grey)
    inputs = (grey[0].numpy(), shifted(grey, *_SHIFT)[0].numpy())
    maps = (seen.map.numpy(), shifted(seen.map, *_SHIFT).numpy(), seen.map_of_shifted.numpy())
    names = ("map of the input", "this map, moved as far", "map of the moved input", "difference")
    drawn = Figure(
        svg(equivariance(inputs, maps, seen.inside.numpy(), error=seen.error, shift=_SHIFT)),
        title="The input moves, the map moves along",
        caption=f"{which[0].upper()}{which[1:]} on {photo.name}, with zeros around the image. The difference is that "
        "of the two maps beside it, on their scale; what is within reach of the border is hatched and left out of its "
        "number. What leaves on one side comes in on the other.",
        description=f"Maps of an image, and of the image moved; they differ inside by at most {number(seen.error)}.",
    )
    touched = [
        Pictures("inputs", np.stack(inputs), ["input", "moved input"]),
        Pictures("maps", np.stack([*maps, seen.difference.numpy()]), names, signed=True),
    ]
    caption = "Choose the inputs or the maps, and point at a place."
    return [drawn, Figure("", title="The same, value by value", caption=caption, view=pictures(touched))]


@torch.no_grad()
def _changed_by_a_pixel(chosen: Subject) -> str:
    """How many predictions of the network change when the image moves by one pixel; "" where they are no classes."""
    if chosen.encoding.target != "class":
        return ""
    count = min(len(chosen.images), _MOST_MOVED)
    examples = torch.from_numpy(np.stack([chosen.images.example(index, 0)["image"] for index in range(count)]))
    before, after = (logits_of(chosen.model(x)).argmax(-1) for x in (examples, moved(examples, 0, 1)))
    changed = int((before != after).sum())
    return (
        f" Of {count} images of the {chosen.split} split, {changed} get another prediction when they move one "
        "pixel to the right: poolings and linear layers of a trained network are not blind to place."
    )


# --- with and without sharing ----------------------------------------------------------------------------------------


def _study(material: Material) -> Study:
    splits = load_digits(DigitsData(source="digits")).splits
    held_out = [_examples(splits[name]) for name in ("validation", "test")]
    test = Examples(torch.cat([part.images for part in held_out]), torch.cat([part.labels for part in held_out]))
    return study(_examples(splits["train"]), test, sizes=_SIZES, seeds=_SEEDS, steps=_STEPS, tell=material.tell)


def _examples(split: Split) -> Examples:
    examples = [split.example(index, 0) for index in range(len(split))]
    images = torch.from_numpy(np.stack([example["image"] for example in examples]))
    return Examples(images, torch.tensor([example["label"] for example in examples]))


def _sharing_figure(found: Study) -> Figure:
    return Figure(
        svg(sharing(found.sizes, found.accuracies, found.parameters)),
        title="Two layers of each kind on few digits",
        caption=f"A mark for each of {len(_SEEDS)} seeds, lines through their means. Each layer makes {CHANNELS} maps; "
        "poolings and classifier are the same for all.",
        description="; ".join(
            f"{test}, {kind}: " + ", ".join(f"{value:.1%}" for value in values.mean(0))
            for test, kinds in found.accuracies.items()
            for kind, values in kinds.items()
        ),
    )


def _study_table(found: Study) -> Table:
    rows = []
    for kind, count in found.parameters.items():
        accuracies = [
            f"{100 * values[kind].mean(0)[column]:.1f}"
            for values in found.accuracies.values()
            for column in range(len(found.sizes))
        ]
        rows.append((kind, f"{count:,}", f"{found.times[kind]:.1f}", *accuracies))
    head = (
        "layers",
        "parameters",
        "time of a step",
        *(f"{name}, {size}" for name in ("as they are", "moved") for size in found.sizes),
    )
    title = (
        "With and without sharing: accuracy in % by number of training images, and the time of a training step in "
        "units of the convolution's, measured on this machine"
    )
    return Table(rows, head, title=title, numbers=range(1, len(head)))


def _counts(chosen: Subject) -> Table:
    """What the network's convolutions would hold if they shared nothing, from the shapes alone."""
    found = convolutions(chosen.model)
    traced = trace(chosen.model, chosen.image, found)
    rows = [
        (name, *(f"{count:,}" for count in unshared(found[name], call.in_shape[2:], call.out_shape[2:])))
        for name, call in traced.items()
        if name in found
    ]
    head = ("layer", "convolution", "locally connected", "fully connected")
    title = "Parameters of this network's convolutions, and of layers with as many outputs that share less"
    return Table(rows[:_MOST_LAYERS], head, title=title, numbers=(1, 2, 3))


def unshared(layer: nn.Conv2d, size: Sequence[int], out_size: Sequence[int]) -> tuple[int, int, int]:
    """Parameters of a convolution, of the locally connected and of the fully connected layer in its place.

    >>> unshared(nn.Conv2d(1, 2, 3), (4, 4), (2, 2))  # 2 · (9 + 1), that for 4 places, and 8 · (16 + 1)
    (20, 80, 136)

    Arguments:
        layer: the convolution.
        size, out_size: height and width of its input and of its output.
    """
    places = prod(out_size)
    shared = sum(parameter.numel() for parameter in layer.parameters())
    inputs, outputs = layer.in_channels * prod(size), layer.out_channels * places
    return shared, shared * places, outputs * (inputs + (layer.bias is not None))


# --- text ------------------------------------------------------------------------------------------------------------


def _text(chosen: Subject, photo: Photograph, which: str, seen: ShiftError, found: Study | None) -> str:
    inside = (
        "the two maps agree to the bit"
        if seen.error == 0
        else f"they differ by at most {number(seen.error)} of the map's largest value"
    )
    shifts = (
        "A convolution uses the same kernel at every place. So it does not matter where something is: if the image "
        f"moves, the map moves along, and is otherwise the same. The figure moves {photo.name} by {_SHIFT[0]} rows and "
        f"{_SHIFT[1]} columns and compares the maps of {which}: away from the border, {inside}. At the border they "
        f"differ by up to {number(seen.error_with_border)}, because zeros stand around the image and those do not move."
    )
    breaks = (
        "The table tells what breaks this. Zeros as padding do, at the border; an image continued around has none. A "
        "stride of 2 keeps every second place: an image moved by 1 is sampled at the other places, and no whole shift "
        "of the map makes up for it; moved by 2, all is as before. Pooling strides too, with the same effect. Kernels "
        f"that differ from place to place know no shift at all.{_changed_by_a_pixel(chosen)}"
    )
    change = (
        "Move a picture of your own: `glassrun exhibit parameter-sharing --image FILE`, and take the kernels of your "
        "own network: `--run RUN`."
    )
    return "\n\n".join([shifts, breaks, *([_told(found)] if found else []), change])


def _told(found: Study) -> str:
    """What the trainings show."""
    plain, moved_test = found.accuracies.values()

    def at(column: int) -> str:
        values = ((kind, plain[kind].mean(0)[column], moved_test[kind].mean(0)[column]) for kind in found.parameters)
        return ", ".join(f"{kind} {100 * still:.0f} and {100 * by_one:.0f} %" for kind, still, by_one in values)

    shared, apart, _ = found.parameters.values()
    return (
        f"One kernel for all places is also {apart / shared:.0f} times fewer parameters than one for each place. Does "
        "that help to learn from few images? The digits stand in the middle of their images, so a kernel that is "
        "learned for one place is hardly missed at another: on digits as they are, sharing need not win. It should "
        f"where things move. Accuracies on held-out digits as they are, and moved by a pixel: from {found.sizes[0]} "
        f"images {at(0)}; from {found.sizes[-1]} images {at(-1)}. These are {len(_SEEDS)} seeds of small networks on "
        "small images with one learning rate for all: a hint, not a result. Many seeds are for the studies."
    )


EXHIBIT = Exhibit("parameter-sharing", "Parameter sharing", QUESTION, fits, make, takes=frozenset({"image"}))
