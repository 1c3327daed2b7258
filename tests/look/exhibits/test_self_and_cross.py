"""The exhibit of self- and cross-attention: which map is which, and where each token that is written looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from glassrun.look.exhibits import self_and_cross, words
from glassrun.look.exhibits.base import Material
from shown import check_part
from support import Made
from untrained import Untrained


@pytest.fixture(scope="module")
def run(made: Made) -> Any:
    return Untrained.of(made, "odd-pairs")


def test_maps_are_told_apart_and_named_by_their_tokens(run: Any) -> None:
    reading = words.of_run(run, "glass run", "")
    maps = {name: reading.maps(found) for name, found in reading.captured().attention.items()}
    read, begun, written = reading.source, reading.target, reading.written
    assert "".join(read) == "glass␣run⟩"
    assert begun[0] == "⟨"
    assert begun[1:] == written[:-1]
    expected = {"encoder.0.attention": (read, read), "decoder.0.self_attention": (begun, begun)}
    expected |= {"decoder.0.cross_attention": (written, read)}
    for name, (queries, keys) in expected.items():
        assert (tuple(maps[name].queries), tuple(maps[name].keys)) == (queries, keys)
        assert maps[name].weights.shape == (2, len(queries), len(keys))
    assert maps["decoder.1.cross_attention"].name == "decoder layer 2, cross-attention"


@torch.no_grad()
def test_what_is_written_is_the_likeliest_token_after_each(run: Any) -> None:
    reading = words.of_run(run, "step run", "")
    logits: Any = run.model(*reading.inputs)
    assert tuple(logits[0].argmax(-1).tolist()) == reading.written_tokens


def test_the_part_is_whole(run: Any, tmp_path: Path) -> None:
    part = self_and_cross.make(Material(tmp_path, run=run, text="glass run", may_train=False))
    assert [figure.svg.startswith("<svg") for figure in part.figures] == [True] * 2
    assert "square, 10 × 10" in part.text
    assert "on a later token is 0 " in part.text
    proofs = next(table for table in part.tables if "proof" in table.title)
    assert [row[1] for row in proofs.rows] == ["self", "self", "self", "cross", "self", "cross"]
    assert all(float(row[4]) < 1e-5 and float(row[5]) < 1e-4 for row in proofs.rows)
    looked = next(table for table in part.tables if table.title == "Where it looks")
    assert len(looked.rows) > 0
    assert all(row[1] in "glass␣run⟩" for row in looked.rows)
    view = part.figures[1].view
    assert view is not None
    assert len(view.values["layers"]) == 6
    check_part(part)


def test_only_an_encoder_decoder_has_a_memory_to_look_at(made: Made) -> None:
    for name in ("odd-pairs", "odd-lm", "odd-encoder", "odd-vit", "odd-cnn"):
        assert self_and_cross.EXHIBIT.fits(Untrained.of(made, name)) == (name == "odd-pairs")


@pytest.mark.long
def test_without_a_run_of_the_users_the_verb_at_the_end_looks_back(tmp_path: Path) -> None:
    """ "… will einen schwarzen Ball sehen": as it writes "sehen", the model looks at "see", which stands far before."""
    part = self_and_cross.make(Material(tmp_path))
    assert "“der kleine Hund will einen schwarzen Ball sehen”" in part.text
    looked = next(table for table in part.tables if table.title == "Where it looks")
    assert {row[0]: row[1] for row in looked.rows}["sehen"] == "see"
