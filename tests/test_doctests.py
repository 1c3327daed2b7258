"""Every example in a docstring gives what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import glassrun
from glassrun.errors import MissingDependency

MODULES = sorted(module.name for module in pkgutil.walk_packages(glassrun.__path__, "glassrun."))
# Each needs a package of its own, which its own tests skip without.
NEED_MORE = ("glassrun.integrations.huggingface", "glassrun.integrations.lightning")


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_examples(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except MissingDependency as error:
        assert name in NEED_MORE
        pytest.skip(str(error))
    result = doctest.testmod(module, raise_on_error=False)
    assert result.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = [name for name in MODULES if "__main__" not in name and name not in NEED_MORE]
    found = [test for name in names for test in finder.find(importlib.import_module(name))]
    assert sum(bool(test.examples) for test in found) >= 20
