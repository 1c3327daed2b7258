"""docs/results.md is what the stored results say."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import recipes
import results as results_script

from glassrun.look.exhibits.registry import EXHIBITS
from glassrun.look.stored import results


def test_the_page_is_of_the_stored_results() -> None:
    """Else: python studies/results.py."""
    assert results_script.PAGE.read_text(encoding="utf-8") == results_script.page()


def test_a_recipes_row_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = recipes.Row(
        "name",
        "accuracy|top 1",
        "95 %",
        "93 to 96",
        "94 %",
        12.34,
        "2 cores",
        "0123456789abcdef0123",
        "2026-01-02",
        ["run me"],
    )
    stored = tmp_path / "recipes.json"
    stored.write_text(json.dumps([asdict(row)]))
    monkeypatch.setattr(results_script, "RECIPES", stored)
    text = results_script.page()
    assert "| `name` | accuracy\\|top 1 | 95 % | 93 to 96 | 94 % | 12.3 | 2 cores | `0123456789abcdef` |" in text
    assert "`name`, 2026-01-02:\n\n```console\n$ run me\n```" in text


def test_every_result_has_its_script_its_exhibit_and_its_seeds() -> None:
    for result in results():
        assert (results_script.ROOT / "studies" / f"{result.claim.name}.py").is_file()
        assert result.command == f"python studies/{result.claim.name}.py"  # with its own seeds and data
        assert result.claim.exhibit in EXHIBITS
        assert len(result.seeds) >= 3
        assert {m.seed for m in result.measurements} == set(result.seeds)
