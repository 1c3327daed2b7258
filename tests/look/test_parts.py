"""The report's parts of models that look both ways, of patches, and of pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import nn

from glassrun.look.page import Part, Table
from glassrun.look.parts import model_parts
from glassrun.tasks.masked_language_model import asked
from in_process import state_of
from support import Made

pytest.importorskip("matplotlib", reason="needs the extra figures")


def parts_of(made: Made, name: str, **overrides: Any) -> dict[str, Part]:
    state = state_of(made, name, **overrides)
    state.model.eval()
    return {part.title: part for part in model_parts(state.model, state.task, state.dataset)}


def maps_of(part: Part) -> tuple[list[dict[str, Any]], list[Any]]:
    """The layers of the attention view, and the weights of each."""
    view = part.figures[0].view
    assert view is not None
    layers = view.values["layers"]
    return layers, [view.arrays[f"weights.{number}"] for number in range(len(layers))]


def test_a_model_with_gaps_shows_what_it_fills_in(made: Made) -> None:
    found = parts_of(made, "odd-encoder")
    assert {"The network", "What it fills in", "Attention maps", "Position encoding"} == set(found)
    (table,) = found["What it fills in"].tables
    assert isinstance(table, Table)
    assert len(table.rows) == asked(13)
    for place, reads, says, token in table.rows:
        assert 1 <= int(place) <= 13
        assert len(token) == 1
        assert reads == "hidden" or len(reads) == 1
        assert says == "hidden" or len(says) == 1  # an untrained model may say the mask token


def test_a_vision_transformer_shows_its_patches(made: Made) -> None:
    found = parts_of(made, "odd-vit")
    expected = {"The network", "Feature maps", "Confusion matrix", "Attention maps", "Position encoding"}
    assert expected == set(found)
    layers, weights = maps_of(found["Attention maps"])
    assert [layer["name"] for layer in layers] == ["layer 1: self-attention", "layer 2: self-attention"]
    patches = [f"{row},{column}" for row in range(1, 5) for column in range(1, 5)]  # of 2 × 2 pixels in 8 × 8
    assert layers[0]["keys"] == ["class", *patches]
    assert weights[0].shape == (3, 17, 17)


def test_pairs_have_their_own_tokens_at_every_map(made: Made) -> None:
    part = parts_of(made, "odd-pairs")["Attention maps"]
    layers, weights = maps_of(part)
    for layer, maps in zip(layers, weights, strict=True):
        assert maps.shape[1:] == (len(layer["queries"]), len(layer["keys"]))
        np.testing.assert_allclose(maps.sum(-1), 1.0, rtol=1e-5)
    by_name = {layer["name"]: layer for layer in layers}
    encoder = by_name["encoder layer 1: self-attention"]
    decoder = by_name["decoder layer 1: self-attention"]
    crossed = by_name["decoder layer 1: cross-attention"]
    assert encoder["queries"] == encoder["keys"] == crossed["keys"]
    assert decoder["queries"] == decoder["keys"]
    # What is written at a place is read at the next.
    assert crossed["queries"][:-1] == decoder["keys"][1:]
    assert crossed["query_title"] == "token being written"
    # On paper each layer has a picture.
    assert [figure.title for figure in part.figures if figure.still] == [layer["name"] for layer in layers]


def test_feature_maps_can_all_be_chosen(made: Made) -> None:
    part = parts_of(made, "odd-cnn")["Feature maps"]
    view = part.figures[0].view
    assert view is not None
    assert [group["name"] for group in view.values["groups"]] == [
        "input",
        "features.0: 5 maps of 8 × 8",
        "features.2: 13 maps of 4 × 4",
    ]
    assert [array.shape for array in view.arrays.values()] == [(1, 8, 8), (5, 8, 8), (13, 4, 4)]


def test_a_model_in_which_nothing_can_be_seen_says_so(made: Made) -> None:
    state = state_of(made, "odd-cnn")
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    parts = {part.title: part for part in model_parts(model, state.task, state.dataset, without={"cnn-architecture"})}
    assert {"The network", "Confusion matrix"} == set(parts)
    (note,) = parts["The network"].notes
    assert note.startswith("No attention is shown: no attention call was seen")
