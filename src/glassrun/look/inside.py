"""What one example shows inside a model, as figures: attention maps, first filters, feature maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassrun.errors import ConfigError, DataError, ModelError
from glassrun.look import views
from glassrun.look.figures.side_by_side import Band, attention, pictures
from glassrun.look.figures.style import svg
from glassrun.look.names import readable
from glassrun.look.page import Figure, Part

if TYPE_CHECKING:
    from torch import nn

    from glassrun.capturing.maps import AttentionMap
    from glassrun.run import Run
    from glassrun.train.probe import Axes, Probe
    from glassrun.train.snapshots import Seen

_SHOWN_HEADS = 4  # in a static figure
_SHOWN_LAYERS = 6
_SHOWN_PICTURES = 10
_LONGEST = 24  # characters of a token

Array = NDArray[Any]


def of_run(run: Run, text: str | None = None) -> Part:
    """The attention of a run's model on a text, or on the first held-out example.

    Arguments:
        run: of a built-in task, with a checkpoint.
        text: read by a language model; translated by a translation, whose target is what it writes itself.

    Raises:
        BadInput: the model or the data cannot be read, the text is empty or too long, or there is no attention.
    """
    from glassrun.train.snapshots import look_into

    shown = probe(run) if text is None else _of_text(run, text)
    seen = look_into(run.model, shown.inputs, shown.axes)
    if not seen.values["attention"]:
        raise ModelError(f"{run.path}: the model has no attention to show. run.exhibit('feature-map') shows its maps")
    what = f"the text {shown.text!r}" if shown.text else "an image"
    of = f" of the {shown.split} split" if shown.split else ""
    return Part(
        f"Attention of {run.recipe.name}",
        f"The model of the newest checkpoint on {what}{of}. Each row is a query and sums to one.",
        figures=list(attention_figures(seen)),
        notes=left_out(seen),
    )


def of_model(model: nn.Module, inputs: Any, tokens: Sequence[str] = ()) -> Part:
    """What the first example of `inputs` shows inside any model.

    Arguments:
        model: as it stands: evaluation mode shows it without dropout.
        inputs: a tensor, positional arguments, or arguments by name.
        tokens: what the places of the sequence are called; numbers where a map has another length.

    Raises:
        BadInput: the model fails on the inputs, cannot be looked into, has neither attention nor convolutions, or the
            tokens fit none of its maps.
    """
    from glassrun.train.snapshots import look_into

    if not isinstance(tokens, Iterable) or not all(isinstance(token, str) for token in tokens):
        raise ConfigError(f"tokens={tokens!r}: expected the texts of the tokens, a list of str")
    labels = [token if len(token) <= _LONGEST else f"{token[: _LONGEST - 1]}…" for token in tokens]

    def axes(seen: AttentionMap) -> Axes:
        from glassrun.train.probe import Axes

        rows, columns = (
            labels if len(labels) == size else [str(place) for place in range(size)] for size in seen.weights.shape[-2:]
        )
        return Axes(rows, columns)

    seen = look_into(model, inputs, axes)
    if labels and not any(
        len(labels) in (len(entry["queries"]), len(entry["keys"])) for entry in seen.values["attention"]
    ):
        sizes = {size for entry in seen.values["attention"] for size in (len(entry["queries"]), len(entry["keys"]))}
        found = f"its maps have {', '.join(map(str, sorted(sizes)))} places" if sizes else "it shows no attention"
        raise ConfigError(f"tokens: expected as many as a map has places, found {len(labels)}, and {found}")
    figures = [*attention_figures(seen), *picture_figures(seen)]
    return Part(type(model).__name__, figures=figures, notes=left_out(seen))


def left_out(seen: Seen) -> list[str]:
    """A note on what the byte bound left out, if anything."""
    names = [f"the model itself{name}" if name[:1] in ("", " ", "#") else name for name in seen.values["left_out"]]
    return [f"Left out, so that the page stays small: {', '.join(names)}"] if names else []


# --- what is put in --------------------------------------------------------------------------------------------------


def probe(run: Run) -> Probe:
    """The first held-out example of a run of a built-in task."""
    from glassrun.tasks import registry as tasks
    from glassrun.train.probe import probe_of

    if not isinstance(run.recipe.task, str):
        raise ModelError(
            f"{run.path}: what a task of your own gives the model is not known here. "
            "Use glassrun.view(run.model, inputs)"
        )
    return probe_of(tasks.build(run.recipe.task, run.dataset), run.dataset)


def _of_text(run: Run, text: str) -> Probe:
    import torch

    from glassrun.data.encoding import PairEncoding, TextEncoding
    from glassrun.data.recorded import of_run as recorded_of
    from glassrun.train.probe import of_tokens

    recorded = recorded_of(run.folder.header, str(run.path))
    encoding = recorded.encoding if recorded else None
    if not isinstance(encoding, TextEncoding | PairEncoding):
        raise ConfigError(f"{run.path}: text={text!r}: only a model of texts reads one. Leave it out")
    if not text:
        raise ConfigError("text='': expected at least one token, found an empty text")
    if isinstance(encoding, TextEncoding):
        tokens = encoding.tokenizer.encode(text).astype(np.int64)
        if len(tokens) > encoding.context:
            raise DataError(
                f"expected a text of at most {encoding.context} tokens, which is what the model reads at once, found "
                f"{len(tokens)}"
            )
        return of_tokens("", {"inputs": torch.from_numpy(tokens)[None]}, encoding)
    source, target = encoding.encode_source(text), encoding.encode_target(run.generate([text])[0])
    batch = {"source": torch.from_numpy(source)[None], "target": torch.from_numpy(target)[None]}
    return of_tokens("", batch, encoding)


# --- figures ---------------------------------------------------------------------------------------------------------


def maps_of(entry: Mapping[str, Any], weights: Array) -> views.Maps:
    """One entry of `Seen.values["attention"]` for a view."""
    return views.Maps(
        readable(entry["name"]),
        weights,
        entry["queries"],
        entry["keys"],
        entry["query_title"],
        entry["key_title"],
    )


def attention_figures(seen: Seen) -> Iterator[Figure]:
    """The first heads of the first layers as pictures, all heads of all layers as one view, which the first carries."""
    entries = seen.values["attention"]
    weights = [seen.arrays[f"attention.{number}"] for number in range(len(entries))]
    for number, (entry, array) in enumerate(zip(entries[:_SHOWN_LAYERS], weights, strict=False)):
        drawn = attention(
            [Band(f"head {head + 1}", array[head : head + 1]) for head in range(min(_SHOWN_HEADS, len(array)))],
            rows=[readable(entry["name"])],
            queries=entry["queries"],
            keys=entry["keys"],
            query_title=entry["query_title"],
            key_title=entry["key_title"],
        )
        view = None
        if number == 0:
            view = views.attention([maps_of(*pair) for pair in zip(entries, weights, strict=True)])
        few = f"The first {_SHOWN_HEADS} of {len(array)} heads." if len(array) > _SHOWN_HEADS else ""
        yield Figure(
            svg(drawn),
            "Attention" if number == 0 else "",
            few,
            description=f"Attention weights of {readable(entry['name'])}. {few}",
            view=view,
            still=number > 0,
        )


def picture_figures(seen: Seen) -> Iterator[Figure]:
    """The first filters, and the first feature maps of each layer."""
    if "filters" in seen.arrays:
        flat, labels = flat_filters(seen.arrays["filters"])
        name = readable(seen.values["filters"])
        shown = labels[:_SHOWN_PICTURES]
        yield Figure(
            svg(pictures([Band("", flat[: len(shown)], "signed")], columns=shown, value="weight")),
            f"Filters of {name}",
            view=views.pictures([views.Pictures(name, flat, labels, signed=True)]),
        )
    groups = [
        views.Pictures(readable(layer), seen.arrays[f"maps.{number}"], map_labels(seen.arrays[f"maps.{number}"]))
        for number, layer in enumerate(seen.values["maps"])
    ]
    for number, group in enumerate(groups):
        shown = [str(place + 1) for place in range(min(_SHOWN_PICTURES, len(group.values)))]
        yield Figure(
            svg(pictures([Band("", group.values[: len(shown)])], columns=shown, value="value")),
            f"Feature maps of {group.name}",
            view=views.pictures(groups) if number == 0 else None,
            still=number > 0,
        )


def flat_filters(filters: Array) -> tuple[Array, list[str]]:
    """Float[filters, channels, height, width] as Float[filters · channels, height, width], and a name for each."""
    count, channels = filters.shape[:2]
    flat: Array = np.reshape(filters, (count * channels, *filters.shape[2:]))
    if channels == 1:
        return flat, [str(number + 1) for number in range(count)]
    return flat, [f"{number + 1}, ch. {channel + 1}" for number in range(count) for channel in range(channels)]


def map_labels(maps: Array) -> list[str]:
    """Names of Float[…, maps, height, width]."""
    return [f"map {number + 1}" for number in range(maps.shape[-3])]
