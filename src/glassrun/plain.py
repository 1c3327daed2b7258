"""Plain values, those of JSON, from YAML 1.2 and from Python; whoever wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from glassrun.errors import ConfigError

_MOST_VALUES, _MOST_NESTING = 10_000, 20  # in a recipe


def parse_yaml(text: str, where: str) -> Any:
    """YAML 1.2 as plain values; `where` names the text in error messages.

    Raises:
        ConfigError: it is no YAML, or holds more than plain values.
    """
    try:
        return plain_values(YAML(typ="safe", pure=True).load(text), where)
    except RecursionError:
        raise ConfigError(f"{where}: not valid YAML: it is nested too deeply") from None
    except (YAMLError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None


def plain_values(values: Any, where: str) -> Any:
    """A copy made of JSON's types alone; dates become text.

    Raises:
        ConfigError: a key is no text, a number is not finite, or there is more than a recipe can need: YAML's aliases
            let a few bytes stand for gigabytes, or for themselves.
    """
    room = _MOST_VALUES

    def at(path: tuple[str, ...]) -> str:
        return ": ".join(filter(None, (where, ".".join(path))))

    def copy(value: Any, path: tuple[str, ...] = ()) -> Any:
        nonlocal room
        room -= 1
        if len(path) > _MOST_NESTING or room < 0:
            raise ConfigError(f"{where}: expected at most {_MOST_VALUES} values, nested at most {_MOST_NESTING} deep")
        if isinstance(value, Mapping):
            odd = next((key for key in value if not isinstance(key, str)), None)
            if odd is not None:
                raise ConfigError(f"{where}: expected text as a key, found {odd!r}")
            return {key: copy(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, (list, tuple, set)):
            return [copy(inner, (*path, str(place))) for place, inner in enumerate(value)]
        if isinstance(value, float) and not isfinite(value):
            raise ConfigError(f"{at(path)}: expected a finite number, found {value}")
        if isinstance(value, int) and not -(2**63) <= value < 2**64:  # nor can all of them be written out again
            raise ConfigError(f"{at(path)}: expected a number of at most 64 bits")
        return value if isinstance(value, (str, int, float, type(None))) else str(value)

    return copy(values)
