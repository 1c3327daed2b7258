"""The user's own functions and classes, by their names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from glassrun.errors import ModelError


def imported(name: str, where: str) -> Callable[..., Any]:
    """What `package.module:name` stands for; `where` begins the error messages.

    Raises:
        ModelError: it cannot be imported, or cannot be called.
    """
    module_name, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"{where}: cannot be imported: {error}. Expected package.module:factory, importable from this folder"
        ) from None
    except Exception as error:
        raise ModelError(f"{where}: importing it failed: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ModelError(f"{where}: expected a function or a class, found {type(found).__name__}")
    return found  # type: ignore[no-any-return]
