"""A run's model put to use: classify an image, translate texts, go on from prompts. The data need not be there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glassrun.bleu import Bleu, bleu
from glassrun.data.encoding import Encoding, ImageEncoding, PairEncoding, TextEncoding
from glassrun.data.recorded import of_run
from glassrun.errors import ConfigError, DataError
from glassrun.generate.decoding import decoding
from glassrun.generate.texts import Say, generator_of
from glassrun.tasks.base import logits_of
from glassrun.threads import one_thread

if TYPE_CHECKING:
    from glassrun.run import Run

_SHOWN_CLASSES = 3
# What an option is for, and what to use with a run of another kind.
_KINDS: dict[str, tuple[type[Encoding], ...]] = {
    "--image": (ImageEncoding,),
    "--text": (PairEncoding,),
    "--prompt": (TextEncoding,),
    "--lines": (PairEncoding, TextEncoding),
    "--references": (PairEncoding,),
}
_OPTION_OF = {ImageEncoding: "--image FILE", PairEncoding: "--text TEXT", TextEncoding: "--prompt TEXT"}


@dataclass(frozen=True)
class Prediction:
    """What a model says: as text for people, as plain values for scripts."""

    text: str
    values: dict[str, Any]


@torch.no_grad()
def classify(run: Run, image: Path) -> Prediction:
    """What the model says of an image file.

    Of classes the probabilities, the likeliest first; of labels the probability of each, and those above one half; of
    numbers their values.

    Raises:
        BadInput: the run's model is none of images, or the file is no image.
    """
    encoding = _encoding(run, "--image")
    assert isinstance(encoding, ImageEncoding), "seen by `_encoding`"
    pixels = torch.from_numpy(encoding.encode(image))[None]
    with one_thread():
        logits = logits_of(run.model(pixels))
    return _ANSWERS[encoding.target](logits[0].double(), encoding)


def _class(logits: Tensor, encoding: ImageEncoding) -> Prediction:
    ranked = _ranked(torch.softmax(logits, dim=-1), encoding)
    lines = [_line(name, share) for name, share in list(ranked.items())[:_SHOWN_CLASSES]]
    return Prediction("\n".join(lines), {"class": next(iter(ranked)), "probabilities": ranked})


def _labels(logits: Tensor, encoding: ImageEncoding) -> Prediction:
    ranked = _ranked(torch.sigmoid(logits), encoding)
    said = [name for name, share in ranked.items() if share > 0.5]
    lines = [_line(name, ranked[name]) for name in said]
    nearest = next(iter(ranked))
    text = "\n".join(lines) or f"none; the nearest is {_line(nearest, ranked[nearest])}"
    return Prediction(text, {"labels": said, "probabilities": ranked})


def _numbers(outputs: Tensor, encoding: ImageEncoding) -> Prediction:
    numbers = dict(zip(encoding.classes, encoding.in_units(outputs.tolist()), strict=True))
    return Prediction("\n".join(f"{name}  {value:.6g}" for name, value in numbers.items()), {"numbers": numbers})


_ANSWERS = {"class": _class, "labels": _labels, "numbers": _numbers}


def _ranked(shares: Tensor, encoding: ImageEncoding) -> dict[str, float]:
    """Every name's share, the largest first."""
    named = zip(encoding.classes, shares.tolist(), strict=True)
    return dict(sorted(named, key=lambda pair: -pair[1]))


def _line(name: str, share: float) -> str:
    return f"{name}  {int(share * 1e4) / 100:.2f} %"


def write(
    run: Run,
    texts: Sequence[str],
    option: str,
    how: Mapping[str, Any],
    *,
    tokens: int | None = None,
    stop: str | None = None,
    say: Say | None = None,
) -> list[Prediction]:
    """What the model writes: to each source its translation, or each prompt and what follows it.

    Arguments:
        run: its task translates, or is a language model.
        texts: as long as one is streamed, only that.
        option: where the texts come from: --text, --prompt or --lines.
        how: the settings of `generate.decoding.decoding`, as far as they are given.
        tokens, stop, say: see `generate.texts`.

    Raises:
        BadInput: the run's model does nothing with such texts, one of them cannot be read, or a setting is wrong.
    """
    encoding = _encoding(run, option)
    assert not isinstance(encoding, ImageEncoding), "seen by `_encoding`"
    generator = generator_of(run.model, encoding, run.recipe.task)
    chosen = decoding(**how, usual_temperature=generator.usual_temperature)
    with one_thread():
        written = generator.write(texts, chosen, tokens=tokens, stop=stop, say=say)
    settings = {"decoding": type(chosen).__name__.lower()} | {
        name: value for name, value in vars(chosen).items() if value is not None
    }
    given, made = ("source", "target") if isinstance(encoding, PairEncoding) else ("prompt", "text")
    return [
        Prediction(after, {given: text, made: after} | settings) for text, after in zip(texts, written, strict=True)
    ]


@dataclass(frozen=True)
class Scored:
    """Translations, and how near they are to people's."""

    translations: list[str]
    bleu: Bleu


def score(
    run: Run,
    sources: Sequence[str],
    references: Sequence[str],
    how: Mapping[str, Any],
    *,
    tokens: int | None = None,
    stop: str | None = None,
) -> Scored:
    """Translate sources and compare them with people's translations; without regard to case where the model has none.

    Raises:
        BadInput: as `write`; or the model does not translate, or there are not as many references as sources.
    """
    encoding = _encoding(run, "--references")
    assert isinstance(encoding, PairEncoding), "seen by `_encoding`"
    bleu(references, references, lowercase=True)  # what is wrong is better said before the sources are translated
    if len(sources) != len(references):
        raise DataError(f"--references: expected one for each of {len(sources)} lines, found {len(references)}")
    written = write(run, sources, "--lines", how, tokens=tokens, stop=stop)
    translations = [prediction.text for prediction in written]
    return Scored(translations, bleu(translations, references, lowercase=encoding.lowercase))


def _encoding(run: Run, option: str) -> Encoding:
    """The run's encoding, which must be one that the option is for."""
    folder = run.folder
    recipe = folder.recipe
    recorded = of_run(folder.header, str(folder.path))
    if recorded is None:
        raise ConfigError(f"{folder.path}: the run never began to train: glassrun resume {folder.path}")
    if not isinstance(recorded.encoding, _KINDS[option]):
        raise ConfigError(
            f"{option}: the run {recipe.name!r} has the task {recipe.task}: use {_OPTION_OF[type(recorded.encoding)]}"
        )
    return recorded.encoding
