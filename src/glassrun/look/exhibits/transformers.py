"""The Transformers that exhibits look into: the user's or a small one, a real example, and what a layer is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from glassrun.data.encoding import PairEncoding, TextEncoding
from glassrun.data.source import Split
from glassrun.errors import DataError
from glassrun.look.exhibits.base import Material
from glassrun.nn.transformer import EncoderLayer
from glassrun.record.run_json import TRAINED

if TYPE_CHECKING:
    from glassrun.run import Run

_CAUSAL = ("language-model", "llama")
_TRANSFORMERS = (*_CAUSAL, "encoder", "encoder-decoder", "vision-transformer")
# Small enough to be trained while people wait.
_SMALL: dict[str, Any] = {
    "data__context": 48,
    "model__num_layers": 2,
    "model__d_model": 64,
    "optimizer__lr": 2e-3,
    "schedule__warmup_steps": 40,
    "train__steps": 300,
    "train__eval_every": 300,
    "train__checkpoint_every": 300,
}


def model_kind(run: Run) -> str | None:
    """The kind of a run's model; None of one that is not glassrun's own."""
    folder = run.folder
    return getattr(folder.recipe.model, "kind", None) if folder.header["kind"] == TRAINED else None


def is_transformer(run: Run) -> bool:
    """Whether a run trains one of glassrun's Transformers."""
    return model_kind(run) in _TRANSFORMERS


def is_causal(run: Run) -> bool:
    """Whether no token of its first layer looks at a later one."""
    return model_kind(run) in _CAUSAL


def small_language_model(material: Material, **changes: Any) -> Run:
    """A character-level language model that is trained for the exhibits; `changes` as for `Material.trained`."""
    return material.trained("python-lm", **(_SMALL | changes))


def first_layer(model: nn.Module) -> EncoderLayer:
    """The layer that the tokens go through first."""
    return next(module for module in model.modules() if isinstance(module, EncoderLayer))


@dataclass(frozen=True)
class Example:
    """What a model is called with, a batch of one, and its tokens as people read them; an image's have no names."""

    inputs: tuple[Tensor, ...]
    names: tuple[str, ...] = ()

    def tokens(self, count: int) -> tuple[str, ...]:
        """The names of the first tokens, or their numbers."""
        return self.names[:count] or tuple(map(str, range(count)))


def held_out(run: Run) -> Split:
    """The examples that a run keeps back longest; those that it trains on where it keeps none."""
    splits = run.dataset.splits
    found: Split = next(splits[name] for name in ("test", "validation", "train") if splits.get(name))
    return found


def example_of(run: Run, *, text: str | None = None, index: int = 0) -> Example:
    """One of `held_out`.

    Arguments:
        run: of a Transformer.
        text: the user's own in its place, where the model reads text.
        index: which one.

    Raises:
        DataError: the text is empty, or the model cannot read it.
    """
    example, encoding = held_out(run).example(index, 0), run.dataset.encoding
    if isinstance(encoding, PairEncoding):
        source = example["source"] if text is None else encoding.encode_source(text)
        inputs = (torch.from_numpy(source)[None], torch.from_numpy(example["target"][:-1])[None])
        return Example(inputs, tuple(encoding.source.shown(source.tolist())))
    if not isinstance(encoding, TextEncoding):
        if text is not None:
            raise DataError(f"--text would be ignored: the model of {run.path} reads images. Leave it out")
        return Example((torch.from_numpy(example["image"])[None],))
    tokens = example["inputs"] if text is None else encoding.tokenizer.encode(text).astype("int64")[: encoding.context]
    if not len(tokens):
        raise DataError("--text: expected a sentence, found an empty one")
    return Example((torch.from_numpy(tokens)[None],), tuple(encoding.tokenizer.shown(tokens.tolist())))


def given_to(model: nn.Module, modules: Sequence[nn.Module], inputs: Sequence[Tensor]) -> list[Tensor]:
    """What each of a model's modules is given first in one forward pass."""
    found: dict[nn.Module, Tensor] = {}

    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        found.setdefault(module, args[0].detach())

    hooks = [module.register_forward_pre_hook(hook) for module in modules]
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for registered in hooks:
            registered.remove()
    return [found[module] for module in modules]
