"""The tree in the docstring is the tree of the classes; the exit codes are the documented ones."""

import inspect
import re

import pytest

from glassrun import errors
from glassrun.errors import BadInput, GlassrunError, MissingDependency, RunStopped, nearest

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, Exception)]


def drawn() -> dict[str, str | None]:
    """Class to parent as the docstring draws them: four columns for each level."""
    found: dict[str, str | None] = {}
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^( {4}[ │├└─]*)([A-Z]\w+)(?:\s{2,}|$)", line)
        if match:
            level = len(match[1]) // 4 - 1
            above[level] = match[2]
            found[match[2]] = above[level - 1] if level else None
    return found


def test_the_drawn_tree_is_the_real_one() -> None:
    real = {c.__name__: c.__base__.__name__ if c is not GlassrunError else None for c in CLASSES}
    assert drawn() == real
    assert GlassrunError.__base__ is Exception


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_exit_codes(kind: type[GlassrunError]) -> None:
    assert kind.exit_code == (1 if issubclass(kind, RunStopped) else 2)


@pytest.mark.parametrize(("branch", "code"), [("BadInput", 2), ("RunStopped", 1)])
def test_the_docstring_says_the_exit_codes(branch: str, code: int) -> None:
    (line,) = [line for line in (errors.__doc__ or "").splitlines() if f" {branch} " in line]
    assert f"exit code {code}" in line
    assert getattr(errors, branch).exit_code == code


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_says_what_it_is(kind: type[GlassrunError]) -> None:
    assert kind.__doc__


def test_missing_dependency_gives_the_command() -> None:
    error = MissingDependency("pillow", "predict --image", extra="recipes")
    assert (
        str(error)
        == "predict --image needs the package pillow, which is not installed: pip install 'glassrun[recipes]'"
    )
    assert isinstance(error, BadInput)


def test_nearest() -> None:
    assert nearest("sdg", ["adam", "sgd"]) == "did you mean 'sgd'? Known: adam, sgd"
    assert nearest("zzzz", ["b", "a"]) == "Known: a, b"
    assert nearest("x", []) == "Known: "
