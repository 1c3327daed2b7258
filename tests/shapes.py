"""Help for tests that run functions with their shape annotations enforced."""

import types
import typing

from beartype import beartype
from jaxtyping import Bool, Float, Int, jaxtyped


def checked(function):
    """A copy that checks its shapes: the source gives annotations to type checkers only, so they are resolved here."""
    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    names = {**function.__globals__, "Bool": Bool, "Float": Float, "Int": Int}
    copy.__annotations__ = typing.get_type_hints(function, names)
    return jaxtyped(typechecker=beartype)(copy)
