"""The settings of a loop that is not ours as plain values, whatever it keeps them in."""

from __future__ import annotations

import argparse
import enum
import json
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, is_dataclass
from math import isfinite
from typing import Any

import numpy as np
from torch import Tensor

from glassrun.errors import ConfigError

_LARGEST = 2**20  # bytes as JSON: settings, not data


def settings(given: Any) -> dict[str, Any]:
    """A copy made of JSON's types alone.

    Functions and classes become their names, and anything else its type: no memory address gets in.

    Arguments:
        given: a mapping, a dataclass, an `argparse.Namespace`, or None.

    Raises:
        ConfigError: it is something else, holds itself, or is too large.
    """
    if isinstance(given, argparse.Namespace):
        given = vars(given)
    elif is_dataclass(given) and not isinstance(given, type):
        given = asdict(given)
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"glassrun.record: expected config to be a mapping, a dataclass or a Namespace, found a {type(given)}"
        )
    try:
        plain: dict[str, Any] = _plain(given)
    except RecursionError:
        raise ConfigError("glassrun.record: the config is nested too deeply, or holds itself") from None
    if len(json.dumps(plain)) > _LARGEST:
        raise ConfigError(f"glassrun.record: the config is larger than {_LARGEST:,} bytes. Leave the data out of it")
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Set):
        return sorted((_plain(inner) for inner in value), key=repr)
    if isinstance(value, np.ndarray | Tensor | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_plain(inner) for inner in value]
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, bool | int | str | None):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    text = str(value)
    return type(value).__qualname__ if re.search("0x[0-9a-f]{6}", text) else text  # an address is in it
