"""docs/blocks.md: every block that ships is on it, and its examples run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from glassrun.blocks import BLOCKS

PAGE = (Path(__file__).parents[1] / "docs" / "blocks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_is_there(name: str) -> None:
    assert re.search(rf"[`.]{re.escape(name.rpartition('.')[2])}[`(]", PAGE)


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL))
def test_its_examples_run(example: str) -> None:
    exec(compile(example, "docs/blocks.md", "exec"), {})
