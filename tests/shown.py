"""What every exhibit's part must have."""

from __future__ import annotations

import importlib
from functools import reduce
from xml.etree import ElementTree

from glassrun.look.page import Part


def check_part(part: Part) -> None:
    """Question, formula, text, pictures that can be read, and functions that are there."""
    assert part.title
    assert part.question.endswith("?")
    for formula in part.formula.split("</math>")[:-1]:
        assert ElementTree.fromstring(f"{formula}</math>").get("display") == "block"
    assert 1 <= len(part.text.split("\n\n")) <= 6
    assert "nan" not in part.text
    for figure in part.figures:
        root = ElementTree.fromstring(figure.svg)
        assert root.tag.endswith("svg")
    assert part.source
    for name in part.source:
        assert callable(resolved(name)), name


def resolved(name: str) -> object:
    """What a dotted name stands for."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, parts[end:], module)
    raise AssertionError(f"{name}: no such module")
