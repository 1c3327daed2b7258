"""docs/results.md is what the stored results say."""

from __future__ import annotations

import results as results_script

from glassrun.look.exhibits.registry import EXHIBITS
from glassrun.look.stored import results


def test_the_page_is_of_the_stored_results() -> None:
    """Else: python studies/results.py."""
    assert results_script.PAGE.read_text(encoding="utf-8") == results_script.page()


def test_every_result_has_its_script_its_exhibit_and_its_seeds() -> None:
    for result in results():
        assert (results_script.ROOT / "studies" / f"{result.claim.name}.py").is_file()
        assert result.command == f"python studies/{result.claim.name}.py"  # with its own seeds and data
        assert result.claim.exhibit in EXHIBITS
        assert len(result.seeds) >= 3
        assert {m.seed for m in result.measurements} == set(result.seeds)
