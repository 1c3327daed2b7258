"""What `glassrun export --to safetensors` writes: a model of ours, described as its recipe describes it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

from pydantic import ValidationError

from glassrun.errors import ModelError, nearest
from glassrun.models.arguments import ARGUMENTS, Arguments
from glassrun.models.registry import FACTS, construct
from glassrun.pretrained.plan import Plan, same
from glassrun.pretrained.settings import Settings

FAMILY = "glassrun"  # the `model_type` of its config.json
FORMAT = 1
_COUNTS = ("num_layers", "encoder_layers", "decoder_layers", "blocks", "convolutions")


def describe(model: Mapping[str, Any], facts: Mapping[str, int]) -> dict[str, Any]:
    """The config.json of a model.

    Arguments:
        model: its section in the recipe, as plain values.
        facts: what it was told of the data.
    """
    return {"model_type": FAMILY, "format": FORMAT, "model": dict(model), "facts": dict(facts)}


def plan(settings: Settings, names: Collection[str]) -> Plan:
    """The model of that section; every tensor under its own name."""
    settings.fixed("format", FORMAT)
    arguments, facts = _arguments(settings), _facts(settings)
    needed = FACTS[arguments.kind]  # type: ignore[attr-defined]
    if missing := [name for name in needed if name not in facts]:
        raise settings.wrong("facts", f"also {', '.join(missing)}", facts)
    if any(count > settings.tensors for count in _counts(arguments)):
        raise settings.wrong("model", f"at most {settings.tensors} layers, for there are no more tensors", arguments)
    return Plan(partial(construct, arguments, facts), {name: same(name) for name in names})


def _arguments(settings: Settings) -> Arguments:
    section = settings.mapping("model")
    if section is None:
        raise settings.wrong("model", "the model's section of the recipe", None)
    if "import" in section.values:
        raise ModelError(
            f"{settings.where}: the weights are of {section.values['import']!r:.100}, and a folder's code is not run. "
            "Make the model by calling that function yourself, and give it the tensors of model.safetensors: "
            "model.load_state_dict(safetensors.torch.load_file(…))"
        )
    kind = section.values.get("kind")
    if not isinstance(kind, str) or kind not in ARGUMENTS:
        raise ModelError(f"{section.where}: kind is {kind!r:.60}; {nearest(str(kind), ARGUMENTS)}")
    try:
        return ARGUMENTS[kind].model_validate_json(json.dumps(section.values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelError(f"{section.where}: {place}: {first['msg']}, found {first['input']!r:.100}") from None


def _facts(settings: Settings) -> dict[str, int]:
    section = settings.mapping("facts")
    if section is None:
        raise settings.wrong("facts", "what the model was told of the data", None)
    return {name: section.token(name, -1) for name in section.values}


def _counts(arguments: Arguments) -> Iterator[int]:
    """How many layers each argument asks for."""
    for name in _COUNTS:
        value = getattr(arguments, name, None)
        if value is not None:
            yield sum(value) if isinstance(value, tuple) else value
