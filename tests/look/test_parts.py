"""The report's parts of models that look both ways, and of patches."""

from __future__ import annotations

from glassrun.look.parts import Table, model_parts
from glassrun.tasks.masked_language_model import asked
from in_process import state_of
from support import Made


def parts_of(made: Made, name: str) -> dict[str, object]:
    state = state_of(made, name)
    state.model.eval()
    return {part.title: part for part in model_parts(state.model, state.task, state.dataset)}


def test_a_model_with_gaps_shows_what_it_fills_in(made: Made) -> None:
    found = parts_of(made, "odd-encoder")
    assert {"The network", "What it fills in", "Self-attention", "Position encoding"} == set(found)
    (table,) = found["What it fills in"].tables  # type: ignore[attr-defined]
    assert isinstance(table, Table)
    assert len(table.rows) == asked(13)
    for place, reads, says, token in table.rows:
        assert 1 <= int(place) <= 13
        assert len(token) == 1
        assert reads == "hidden" or len(reads) == 1
        assert says == "hidden" or len(says) == 1  # an untrained model may say the mask token


def test_a_vision_transformer_shows_its_patches(made: Made) -> None:
    found = parts_of(made, "odd-vit")
    assert {"The network", "Feature maps", "Confusion matrix", "Position encoding"} == set(found)
