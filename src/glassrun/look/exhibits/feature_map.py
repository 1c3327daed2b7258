"""Feature map: what filters make of a photograph, known ones and learned ones, and of a volume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassrun.capturing.capture import capture
from glassrun.functional.convolution import convolution
from glassrun.look import filters
from glassrun.look.exhibits.base import Exhibit, Material
from glassrun.look.exhibits.convolutional import Subject, convolutions, fits, most_balanced, subject
from glassrun.look.exhibits.photograph import Photograph, photograph
from glassrun.look.figures.feature_maps import FilterMap, images, maps_beside_input, peak, slices
from glassrun.look.figures.style import svg
from glassrun.look.page import Figure, Part, Table
from glassrun.look.views import Pictures, pictures

QUESTION = "What does a filter see in an image, and where?"

_SHOWN_FILTERS = 5  # learned ones, beside the photograph
_SHOWN_LAYERS, _SHOWN_MAPS = 5, 10
_TOUCHED = 200  # pixels of the longer side of a map that can be touched
_SLICES = 7
_FORMULA = """<math display="block"><msub><mi>map</mi><mrow><mi>o</mi><mo>,</mo><mi>i</mi><mo>,</mo><mi>j</mi></mrow>
</msub><mo>=</mo><msub><mi>b</mi><mi>o</mi></msub><mo>+</mo><munder><mo>∑</mo><mi>c</mi></munder><munder><mo>∑</mo><mrow><mi>u</mi>
<mo>,</mo><mi>v</mi></mrow></munder><msub><mi>kernel</mi><mrow><mi>o</mi><mo>,</mo><mi>c</mi><mo>,</mo><mi>u</mi><mo>,</mo>
<mi>v</mi></mrow></msub><mo>·</mo><msub><mi>image</mi><mrow><mi>c</mi><mo>,</mo><mi>i</mi><mo>+</mo><mi>u</mi><mo>,</mo>
<mi>j</mi><mo>+</mo><mi>v</mi></mrow></msub></math>"""


def make(material: Material) -> Part:
    """The exhibit's part of the page.

    Raises:
        BadInput: the picture cannot be used, or the run has no convolutional network to show.
    """
    photo = photograph(material)
    chosen = subject(material)
    known = known_maps(photo)
    learned = learned_maps(chosen, photo)
    first = next(iter(convolutions(chosen.model).values()))
    shown = [learned[number] for number in most_balanced(first, _SHOWN_FILTERS)] if learned else []
    layers = maps_by_layer(chosen)
    volume, depth_map, places = volume_and_map()
    return Part(
        title=EXHIBIT.title,
        question=QUESTION,
        formula=_FORMULA,
        text=_text(photo, chosen, known, learned, volume, depth_map),
        figures=[
            _known_figure(photo, known),
            *([_learned_figure(photo, shown)] if learned else []),
            _touched_figure(photo, known, shown),
            _layers_figure(chosen, layers),
            _volume_figure(volume, depth_map, places),
        ],
        tables=[_peaks(known, shown)],
        source=[
            "glassrun.functional.convolution.convolution",
            "glassrun.look.filters.vertical_edge",
            "glassrun.look.filters.corner",
            "glassrun.look.filters.texture",
            "glassrun.look.figures.feature_maps.maps_beside_input",
        ],
        notes=[]
        if learned
        else [
            f"The learned filters read {chosen.encoding.channels} channels, which no photograph has: see them below."
        ],
    )


def known_maps(photo: Photograph) -> list[FilterMap]:
    """A blur, and four filters that look for something, on the grey photograph; without padding, so no border shows."""
    kernels: Mapping[str, Tensor] = {
        "blur": filters.blur(),
        "vertical edge": filters.vertical_edge(),
        "horizontal edge": filters.horizontal_edge(),
        "corner": filters.corner(),
        "texture: upright stripes": filters.texture(),
    }
    grey = torch.from_numpy(photo.grey)[None]
    return [
        FilterMap(name, convolution(grey, kernel[None, None])[0, 0].numpy(), kernel.numpy(), signed=name != "blur")
        for name, kernel in kernels.items()
    ]


@torch.no_grad()
def learned_maps(chosen: Subject, photo: Photograph) -> list[FilterMap]:
    """The filters of the model's first convolution on the photograph, at every place and without bias.

    None, where the model reads other channels than a photograph has.
    """
    channels = chosen.encoding.channels
    if channels not in (1, 3):
        return []
    layer = next(iter(convolutions(chosen.model).values()))
    mean, std = (torch.tensor(values)[:, None, None] for values in (chosen.encoding.mean, chosen.encoding.std))
    pixels = (torch.from_numpy(photo.pixels(channels)) - mean) / std
    kernels = layer.weight.detach().float()
    maps = convolution(pixels[None], kernels, dilation=_numbers(layer.dilation), groups=layer.groups)[0].numpy()
    means = kernels.mean(1).numpy()  # over the channels, to be shown
    return [FilterMap(f"filter {n}", values, means[n]) for n, values in enumerate(maps)]


def likeness(learned: Sequence[FilterMap], known: Sequence[FilterMap]) -> list[tuple[str, float]]:
    """Of each filter, the known one whose map goes most with its own or against it, and their correlation.

    Over every second row and column of the photograph; 0 for a map that is the same at every place.
    """
    flat = _same_middle([*learned, *known])[:, ::2, ::2].reshape(len(learned) + len(known), -1)
    flat = flat - flat.mean(1, keepdims=True)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    flat = np.divide(flat, lengths, out=np.zeros_like(flat), where=lengths > 1e-6)
    correlations = flat[: len(learned)] @ flat[len(learned) :].T
    best = np.abs(correlations).argmax(1)
    return [(known[index].title, float(row[index])) for index, row in zip(best, correlations, strict=True)]


def maps_by_layer(chosen: Subject) -> list[tuple[str, NDArray[np.float32], list[int]]]:
    """Of some convolutions, first to last: name, the strongest maps of the held-out image, and their numbers."""
    names = list(convolutions(chosen.model))
    captured = capture(chosen.model, chosen.image, attention=False, activations=names).activations
    called = [name for name in captured if name in names and min(captured[name].shape[2:]) > 1]
    places = sorted({round(step) for step in np.linspace(0, len(called) - 1, _SHOWN_LAYERS)}) if called else []
    found = []
    for place in places:
        maps = captured[called[place]][0].float()
        numbers = _strongest(maps, _SHOWN_MAPS)
        found.append((called[place], maps[numbers].numpy(), numbers))
    return found


def volume_and_map(size: int = 33) -> tuple[NDArray[np.float32], NDArray[np.float32], list[int]]:
    """A bright ball in a half-bright one, the map of an edge filter along its depth, and the slices that are shown."""
    axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    squares = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    volume = 0.5 * (squares < (0.42 * size) ** 2).float() + 0.5 * (squares < (0.22 * size) ** 2).float()
    depth_map = convolution(volume[None, None], filters.edge_in_depth()[None, None], padding=1)[0, 0]
    places = [round(place) for place in np.linspace(3, size - 4, _SLICES)]
    return volume.numpy(), depth_map.numpy(), places


def _strongest(maps: Tensor, count: int) -> list[int]:
    """The numbers of the maps with the largest mean distance from zero, in their order."""
    strength = maps.abs().flatten(1).mean(1)
    return sorted(strength.topk(min(count, len(maps))).indices.tolist())


def _numbers(size: int | str | Sequence[int]) -> tuple[int, ...]:
    assert not isinstance(size, int | str), "torch keeps one number for each axis"
    return tuple(size)


def _text(
    photo: Photograph,
    chosen: Subject,
    known: Sequence[FilterMap],
    learned: Sequence[FilterMap],
    volume: NDArray[np.float32],
    depth_map: NDArray[np.float32],
) -> str:
    height, width = photo.size
    edge, corner = known[1], known[3]
    rows, columns = edge.values.shape
    row, column = peak(corner.values)
    middle = len(volume) // 2
    return (
        f"A filter is a small kernel of weights. Laid on the image at one place, it gives one number: how much the "
        f"window there looks like the kernel. Moved over all places it gives a map. The photograph {photo.name} has "
        f"{height} × {width} pixels; without padding, a kernel of 3 × 3 leaves a map of {rows} × {columns}.\n\n"
        "Four of the filters sum to zero, so where the image is even their map is zero, white in the figure. The edge "
        "filters are red where the image gets brighter to the right, or downwards, and blue where it gets darker. The "
        "corner filter gives nothing along an upright or a level edge, only where both directions change at once: here "
        f"most of all at row {row}, column {column} of its map. The texture filter waits for stripes of one width and "
        "direction. The blur sums to one, so its map is a picture again.\n\n"
        f"Nobody chose the filters of a trained network. {chosen.told}: an image that it was not trained on, the first "
        f"of the {chosen.split} split, is shown on its way through; later maps are coarser, and each place answers to "
        f"a larger part of the image.{_told_of(chosen, learned, known)}\n\n"
        "In a volume the kernel has a third side. The filter here looks for edges from slice to slice: it answers at "
        f"the near and the far side of the balls (largest value {float(depth_map.max()):.2f}), and hardly in the "
        f"middle slice ({float(np.abs(depth_map[middle]).max()):.2f}), where the balls' outlines are sharp but run "
        "along the depth.\n\n"
        "Try a picture of your own: `glassrun exhibit feature-map --image FILE`. A network of your own: `--run RUN`."
    )


def _told_of(chosen: Subject, learned: Sequence[FilterMap], known: Sequence[FilterMap]) -> str:
    """What the first layer's filters turned out to be; "" where there is no map of theirs."""
    if not learned:
        return ""
    names = Counter(name for name, _ in likeness(learned, known))
    counts = ", ".join(f"{count} the {name}" for name, count in names.most_common())
    return (
        f" Its first layer, {next(iter(convolutions(chosen.model)))}, is also shown on the photograph. Compare the map "
        f"of each of its {len(learned)} filters with those of the known ones, by their correlation over all places: "
        f"most like it are {counts}. Weights that do not sum to zero answer to brightness more than to anything else."
    )


def _known_figure(photo: Photograph, known: Sequence[FilterMap]) -> Figure:
    return Figure(
        svg(maps_beside_input(photo.color.transpose(1, 2, 0), known, title=photo.name)),
        title="Known filters on a photograph",
        caption="The kernel of each filter is in its corner, red above zero and blue below. The signed maps share one "
        "scale, beyond which one value in 200 lies; a ring marks where each is farthest from zero.",
        description="A photograph and its maps: " + ", ".join(found.title for found in known),
    )


def _learned_figure(photo: Photograph, learned: Sequence[FilterMap]) -> Figure:
    return Figure(
        svg(maps_beside_input(photo.color.transpose(1, 2, 0), learned, title=photo.name)),
        title="Learned filters of the first layer on the same photograph",
        caption=f"The {len(learned)} filters whose weights come nearest to a sum of zero, without bias, norm and "
        "activation.",
        description="The photograph and the maps of learned filters: " + ", ".join(found.title for found in learned),
    )


def _touched_figure(photo: Photograph, known: Sequence[FilterMap], learned: Sequence[FilterMap]) -> Figure:
    step = -(-max(photo.size) // _TOUCHED)
    groups = [Pictures("photograph", photo.grey[:, ::step, ::step], [photo.name])]
    for name, maps in (("known filters", known), ("learned filters", learned)):
        if signed := [found for found in maps if found.signed]:
            values = _same_middle(signed)[:, ::step, ::step]
            groups.append(Pictures(name, values, [found.title for found in signed], signed=True))
    return Figure(
        "",
        title="The same maps, value by value",
        caption=f"Choose a filter and point at a place. Every {step} rows and columns one value is shown, as a stride "
        f"of {step} would leave it.",
        view=pictures(groups),
    )


def _same_middle(maps: Sequence[FilterMap]) -> NDArray[np.float32]:
    """Cut to the size of the smallest around the middle, so that a place shows the same part of the photograph."""
    rows, columns = (min(found.values.shape[axis] for found in maps) for axis in (0, 1))
    corners = [((m.values.shape[0] - rows) // 2, (m.values.shape[1] - columns) // 2) for m in maps]
    return np.stack([m.values[r : r + rows, c : c + columns] for m, (r, c) in zip(maps, corners, strict=True)])


def _layers_figure(chosen: Subject, layers: Sequence[tuple[str, NDArray[np.float32], list[int]]]) -> Figure:
    image = chosen.image[0].numpy()
    rows = [("input", image), *((f"{name}: maps of {m.shape[1]} × {m.shape[2]}", m) for name, m, _ in layers)]
    channels = [f"channel {number + 1}" for number in range(len(image))]
    groups = [
        Pictures("input", image, channels),
        *(Pictures(n, m, [f"map {i}" for i in which], True) for n, m, which in layers),
    ]
    return Figure(
        svg(images(rows, signed=True)),
        title="A held-out image on its way through the network",
        caption=f"Of each of these layers the {_SHOWN_MAPS} strongest maps, before norm and activation, on one scale.",
        description="The input and the maps of the layers: " + ", ".join(name for name, _, _ in layers),
        view=pictures(groups),
    )


def _volume_figure(volume: NDArray[np.float32], depth_map: NDArray[np.float32], places: Sequence[int]) -> Figure:
    labels = [f"slice {place}" for place in range(len(volume))]
    first = places[len(places) // 3]  # through both balls: at the volume's ends there is nothing to see
    return Figure(
        svg(slices(volume, depth_map, places, names=("volume", "edge in depth"))),
        title="A volume in slices, and an edge filter along its depth",
        caption=f"A computed volume of {len(volume)} slices: a bright ball inside a half-bright one.",
        description="Slices of two nested balls, and of the map of a filter of 3 × 3 × 3 on them.",
        view=pictures(
            [
                Pictures("volume", volume, labels, first=first),
                Pictures("edge in depth", depth_map, labels, signed=True, first=first),
            ]
        ),
    )


def _peaks(known: Sequence[FilterMap], learned: Sequence[FilterMap]) -> Table:
    likes = [""] * len(known) + [f"{name}, {correlation:+.2f}" for name, correlation in likeness(learned, known)]
    rows = []
    for found, like in zip([*known, *learned], likes, strict=True):
        if found.signed:
            row, column = peak(found.values)
            size = "\u00a0×\u00a0".join(map(str, found.values.shape))  # no line break inside
            where = (f"row {row}, column {column}", f"{found.values[row, column]:+.3f}")
            rows.append((found.title, size, *where, f"{np.abs(found.values).mean():.4f}", like))
    head = (
        "filter",
        "map",
        "farthest from zero at",
        "value there",
        "mean distance from zero",
        "goes with, correlation",
    )
    return Table(rows, head, title="Where each filter answers most", numbers=(3, 4))


EXHIBIT = Exhibit("feature-map", "Feature map", QUESTION, fits, make, takes=frozenset({"image"}))
