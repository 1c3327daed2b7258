"""Figures of the feed-forward network: what is drawn is what was given."""

from __future__ import annotations

import numpy as np

from glassrun.look.figures import feed_forward as figures
from glassrun.look.figures.style import ACCENT, WARM, svg

TOKENS = ["T", "h", "$", "␣", "e"]


def test_changes_are_bars_on_one_scale_with_the_replaced_token_in_another_colour() -> None:
    from matplotlib.colors import to_hex

    changes = {"network": np.array([0, 0, 0.5, 0, 0]), "attention": np.array([0.1, 0.2, 0.3, 0.4, 0.5])}
    figure = figures.row_changes(changes, TOKENS, place=2)
    for axes, (name, values) in zip(figure.axes, changes.items(), strict=True):
        assert axes.get_title() == name
        assert [bar.get_width() for bar in axes.patches] == values.tolist()
        assert [to_hex(bar.get_facecolor()) for bar in axes.patches] == [ACCENT, ACCENT, WARM, ACCENT, ACCENT]
        assert sum(text.get_text() == " 0" for text in axes.texts) == int((values == 0).sum())
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["T", "h", r"\$", "␣", "e"]


def test_jacobians_share_one_scale_from_zero_to_one() -> None:
    shares = {"network": np.eye(5), "attention": np.tri(5) / np.arange(1, 6)[:, None]}
    figure = figures.jacobians(shares, TOKENS)
    panels = figure.axes[:2]
    assert {axes.images[0].get_clim() for axes in panels} == {(0.0, 1.0)}
    assert [axes.images[0].get_array().tolist() for axes in panels] == [values.tolist() for values in shares.values()]
    assert [label.get_text() for label in panels[1].get_xticklabels()] == ["T", "h", r"\$", "␣", "e"]


def test_hidden_features_share_one_scale_around_zero() -> None:
    hidden = {"GELU": np.full((5, 8), -0.1), "ReLU": np.eye(5, 8)}
    figure = figures.hidden_features(hidden, TOKENS)
    panels = figure.axes[:2]
    assert {axes.images[0].get_clim() for axes in panels} == {(-1.0, 1.0)}
    assert "8 features" in panels[0].get_title()


def test_sparsity_counts_each_value_once() -> None:
    values = {"GELU": np.linspace(-0.1, 1, 500), "ReLU": np.concatenate([np.zeros(400), np.linspace(0, 1, 100)])}
    figure = figures.activation_sparsity(values, {"GELU": [0.1, 0.2], "ReLU": [0.8, 0.9]})
    left, right = figure.axes
    shares = [step.get_data().values for step in left.patches]
    # What is above the highest shown value is left out: fewer than one in a hundred.
    assert all(0.99 < share.sum() <= 1 + 1e-9 for share in shares)
    assert shares[1].max() >= 0.8
    assert [round(bar.get_height(), 6) for bar in right.patches] == [0.1, 0.2, 0.8, 0.9]
    assert svg(figure) == svg(figures.activation_sparsity(values, {"GELU": [0.1, 0.2], "ReLU": [0.8, 0.9]}))
