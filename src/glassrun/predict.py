"""A run's model put to use: classify an image, translate a text, go on from a prompt. The data need not be there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from glassrun.data.encoding import Encoding, ImageEncoding, PairEncoding, TextEncoding, from_plain
from glassrun.errors import ConfigError, DataError
from glassrun.tasks.base import logits_of
from glassrun.train.generate import greedy, sample

if TYPE_CHECKING:
    from glassrun.run import Run

Kind = TypeVar("Kind", ImageEncoding, PairEncoding, TextEncoding)

_SHOWN_CLASSES = 3
# What an option needs, and what to use with a run of another kind.
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
    encoding = _encoding(run, ImageEncoding, "--image")
    pixels = torch.from_numpy(encoding.encode(image))[None]
    return _ANSWERS[encoding.target](logits_of(run.model(pixels))[0].double(), encoding)


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


def translate(run: Run, text: str) -> Prediction:
    """The target that the model writes for a source text, by greedy decoding.

    Raises:
        BadInput: the run's model does not translate, or the text is empty or too long.
    """
    encoding = _encoding(run, PairEncoding, "--text")
    source = encoding.encode_source(text.strip())  # as the lines that the model was trained on
    target = greedy(run.model, source.tolist(), encoding.max_length)
    written = encoding.target.decode(target)
    return Prediction(written, {"source": text, "target": written})


def go_on(run: Run, prompt: str, *, tokens: int, temperature: float, seed: int) -> Prediction:
    """The prompt and `tokens` more tokens, sampled; equal for equal seeds.

    Raises:
        BadInput: the run's model is no language model, or the prompt is empty or has characters it does not know.
    """
    if not temperature >= 0:
        raise ConfigError(f"--temperature {temperature}: expected a number that is not negative")
    encoding = _encoding(run, TextEncoding, "--prompt")
    if run.recipe.task == "masked-language-model":
        raise ConfigError("--prompt: the run's model fills gaps in a text, looking both ways; it cannot go on from one")
    before = encoding.tokenizer.encode(prompt).tolist()
    if not before:
        raise DataError("--prompt: expected at least one character to go on from, found none")
    after = sample(run.model, before, tokens, context=encoding.context, temperature=temperature, seed=seed)
    written = encoding.tokenizer.decode([*before, *after])
    return Prediction(written, {"prompt": prompt, "text": written, "seed": seed, "temperature": temperature})


def _encoding(run: Run, kind: type[Kind], option: str) -> Kind:
    folder = run.folder
    recipe = folder.recipe
    if "encoding" not in folder.header:
        raise ConfigError(f"{folder.path}: the run never began to train: glassrun resume {folder.path}")
    found: Encoding = from_plain(folder.header["encoding"])
    if not isinstance(found, kind):
        raise ConfigError(
            f"{option}: the run {recipe.name!r} has the task {recipe.task}: use {_OPTION_OF[type(found)]}"
        )
    return found
