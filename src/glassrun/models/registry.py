"""From a recipe's model section to a module: the one place where names of models are turned into code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from glassrun.errors import ModelError
from glassrun.generators import set_generators
from glassrun.imported import imported
from glassrun.models.arguments import Arguments
from glassrun.models.cnn import CNN
from glassrun.models.encoder_decoder import EncoderDecoder
from glassrun.models.language_model import LanguageModel
from glassrun.models.llama import llama
from glassrun.nn.initialisation import initialise

if TYPE_CHECKING:
    from glassrun.config import ImportedModel

MODELS: dict[str, Callable[..., nn.Module]] = {
    "cnn": CNN,
    "encoder-decoder": EncoderDecoder,
    "language-model": LanguageModel,
    "llama": llama,
}
FACTS = {
    "cnn": ("in_channels", "image_height", "image_width", "num_classes"),
    "encoder-decoder": ("source_vocabulary_size", "target_vocabulary_size", "max_length", "padding_token"),
    "language-model": ("vocabulary_size", "max_length"),
    "llama": ("vocabulary_size", "max_length"),
}


def build(arguments: Arguments | ImportedModel, facts: Mapping[str, int], seed: int) -> nn.Module:
    """A model with its first parameters, which follow from the seed.

    Arguments:
        arguments: the recipe's model section.
        facts: what follows from the data: sizes of vocabularies or images.
        seed: of the run.

    Raises:
        ModelError: the model cannot be imported, made, or does not fit the data.
    """
    if not isinstance(arguments, Arguments):
        return _imported(arguments, facts, seed)
    # torch's layers draw a start of their own, which is replaced below: nobody's generator moves for that.
    with torch.random.fork_rng(devices=[]):
        model = construct(arguments, facts)
    initialise(model, seed, model.start)  # type: ignore[arg-type]
    return model


def construct(arguments: Arguments, facts: Mapping[str, int]) -> nn.Module:
    """The model with whatever its layers start from: to be counted, or filled with weights that are there already.

    Raises:
        ModelError: it does not fit the data.
    """
    values = arguments.model_dump()
    kind = values.pop("kind")
    if "d_ff" in values:
        values["d_ff"] = arguments.feed_forward_width  # type: ignore[attr-defined]
    return MODELS[kind](**{name: facts[name] for name in FACTS[kind]}, **values)


def _imported(section: ImportedModel, facts: Mapping[str, int], seed: int) -> nn.Module:
    """The user's factory, called with its own arguments and those facts that its signature names, or all for `**`."""
    where = f"model.import: {section.import_}"
    factory = imported(section.import_, where)
    given = section.arguments
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{where}: its signature cannot be read: {error}") from None
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    wanted = facts if takes_all else signature.parameters
    named = {name: facts[name] for name in facts if name in wanted and name not in given}
    try:
        signature.bind(**given, **named)
    except TypeError as error:
        raise ModelError(
            f"{where}: {error}. Its arguments stand beside `import` in the model section; "
            f"from the data it can have: {', '.join(facts)}"
        ) from None
    # The factory draws from whatever generators it likes, so all that are global are set from the key.
    set_generators(seed, "init")
    try:
        model = factory(**given, **named)
    except Exception as error:
        raise ModelError(f"{where}: it failed: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{where}: expected it to return a torch.nn.Module, found {type(model).__name__}")
    return model
