"""The exhibit of several heads: how unlike they are, and what each is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassrun.look.exhibits import multi_head, words
from glassrun.look.exhibits.base import Material
from glassrun.look.exhibits.heads import silenced
from glassrun.look.exhibits.multi_head import distances
from shown import check_part
from support import Made
from untrained import Untrained


@pytest.fixture(scope="module")
def run(made: Made) -> Any:
    return Untrained.of(made, "odd-pairs")


def test_distances_by_hand() -> None:
    """Rows (1, 0) and (0, 1) are wholly apart, (1, 0) and (½, ½) by a half."""
    first, second, third = [[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]
    found = distances(np.array([first, second, third]))
    assert found.tolist() == [[0.0, 0.5, 0.25], [0.5, 0.0, 0.75], [0.25, 0.75, 0.0]]


def test_distances_are_a_metric_between_zero_and_one() -> None:
    drawn = np.random.default_rng(3).dirichlet(np.ones(7), size=(5, 11))
    found = distances(drawn)
    assert np.array_equal(found, found.T)
    assert (np.diagonal(found) == 0).all()
    assert ((found >= 0) & (found <= 1)).all()
    for a, b, c in np.ndindex(5, 5, 5):
        assert found[a, c] <= found[a, b] + found[b, c] + 1e-12


@torch.no_grad()
def test_a_silenced_head_is_one_whose_output_is_zero(run: Any) -> None:
    """Against the model with the head's features set to zero on their way into W_o."""
    reading = words.of_run(run, None, "")
    name = "decoder.1.cross_attention"
    before = {key: value.clone() for key, value in run.model.state_dict().items()}
    found = silenced(reading, name)
    assert all(torch.equal(value, before[key]) for key, value in run.model.state_dict().items())
    assert found.metric == "exact_match"
    assert len(found.scores) == 2
    attention: Any = run.model.get_submodule(name)
    examples = [run.dataset.splits["test"].example(index, 0) for index in range(found.examples)]
    for head, score in enumerate(found.scores):

        def zero(_: Any, args: Any, head: int = head) -> Any:
            (mixed,) = args
            return (torch.where(torch.arange(mixed.shape[-1]) // attention.d_k == head, 0.0, mixed),)

        hook = attention.output.register_forward_pre_hook(zero)
        right = []
        for example in examples:
            source, target = (torch.from_numpy(example[side])[None] for side in ("source", "target"))
            right.append(torch.equal(run.model(source, target[:, :-1]).argmax(-1), target[:, 1:]))
        hook.remove()
        assert score == pytest.approx(float(np.mean(right)))


def test_a_run_of_the_users_is_shown_without_training(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Material, "trained", lambda *_, **__: pytest.fail("trained"))
    part = multi_head.make(Material(tmp_path, run=run))
    assert [figure.svg.startswith("<svg") for figure in part.figures] == [True] * 2
    unlike = next(table for table in part.tables if "unlike" in table.title)
    assert [row[0] for row in unlike.rows] == ["head 1", "head 2"]
    assert unlike.rows[0][1] == "0.00"
    assert 0.0 < float(unlike.rows[0][2]) <= 1.0
    assert unlike.rows[0][2] == unlike.rows[1][1]
    where = next(table for table in part.tables if table.title == "Where each head looks")
    assert len(where.rows) == 3
    check_part(part)


def test_a_model_with_grouped_queries_fits(made: Made, tmp_path: Path) -> None:
    run = Untrained.of(made, "odd-llama")
    assert multi_head.EXHIBIT.fits(run)
    part = multi_head.make(Material(tmp_path, run=run, may_train=False))
    assert "3 heads" in part.text


@pytest.mark.long
def test_without_a_run_of_the_users_one_head_stands_beside_four(tmp_path: Path) -> None:
    part = multi_head.make(Material(tmp_path))
    assert "a model with one head" in part.figures[0].description
    unlike = next(table for table in part.tables if "unlike" in table.title)
    assert len(unlike.rows) == 4
