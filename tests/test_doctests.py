"""Every example in a docstring gives what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import glassrun

MODULES = sorted(module.name for module in pkgutil.walk_packages(glassrun.__path__, "glassrun."))


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), raise_on_error=False)
    assert result.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name in MODULES if "__main__" not in name for test in finder.find(importlib.import_module(name))]
    assert sum(bool(test.examples) for test in found) >= 20
