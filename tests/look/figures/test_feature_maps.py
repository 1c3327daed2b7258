"""Figures of images and what filters make of them."""

import numpy as np
import pytest

from glassrun.look.figures.feature_maps import FilterMap, images, maps_beside_input, peak, slices
from glassrun.look.figures.style import svg


def draw(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def shown(figure):
    """Every picture of a figure with its title, its values and its scale."""
    figures = [figure, *figure.subfigs]
    axes = dict.fromkeys(axes for each in figures for axes in each.axes)
    return [
        (a.get_title(), np.asarray(i.get_array()), i.get_clim(), i.get_cmap().name)
        for a in axes
        for i in a.get_images()
    ]


def test_signed_maps_share_one_scale_and_a_grey_one_keeps_its_own():
    picture = np.full((20, 30), 0.5)
    maps = [
        FilterMap("a", draw(18, 28)),
        FilterMap("b", 3 * draw(18, 28, seed=2)),
        FilterMap("blur", picture, signed=False),
    ]
    values = np.abs(np.concatenate([maps[0].values.ravel(), maps[1].values.ravel()]))
    reach = float(np.quantile(values, 0.995))
    found = {title: (scale, colors) for title, _, scale, colors in shown(maps_beside_input(picture, maps))}
    assert found["input"] == found["blur"] == ((0.0, 1.0), "gray")
    assert found["a"] == found["b"] == ((-reach, reach), "RdBu_r")


def test_a_ring_marks_the_peak_also_below_zero():
    values = np.zeros((9, 11))
    values[2, 7], values[5, 1] = 1.0, -2.0
    assert peak(values) == (5, 1)
    (axes, *_) = [
        a for a in maps_beside_input(np.zeros((9, 11)), [FilterMap("f", values)]).axes if a.get_title() == "f"
    ]
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[1.0, 5.0]]]


def test_the_kernel_stands_in_the_map():
    kernel = draw(3, 3)
    figure = maps_beside_input(np.zeros((40, 40, 3)), [FilterMap("f", draw(38, 38), kernel)])
    (inset,) = [a for a in figure.axes for a in a.child_axes]
    np.testing.assert_array_equal(inset.get_images()[0].get_array(), kernel)


@pytest.mark.parametrize("count", [1, 2, 6, 13])
def test_every_map_is_there_and_nothing_else(count):
    figure = maps_beside_input(np.zeros((8, 8)), [FilterMap(f"map {n}", draw(8, 8, seed=n)) for n in range(count)])
    titles = [title for title, *_ in shown(figure) if title]
    assert titles == ["input", *(f"map {n}" for n in range(count))]


def test_maps_that_are_zero_are_drawn_with_a_scale():
    assert svg(maps_beside_input(np.zeros((8, 8)), [FilterMap("none", np.zeros((8, 8)))])).startswith("<svg")


def test_rows_of_images_share_a_scale_each():
    rows = [("input", draw(1, 8, 8)), ("first", draw(4, 8, 8, seed=2)), ("second", 5 * draw(3, 4, 4, seed=3))]
    scales = [scale for _, values, scale, _ in shown(images(rows)) if values.ndim == 2]
    expected = [(float(p.min()), float(p.max())) for _, p in rows]
    assert scales == [expected[0], *[expected[1]] * 4, *[expected[2]] * 3]
    signed = [scale for _, values, scale, _ in shown(images(rows, signed=True)) if values.ndim == 2]
    reach = float(np.abs(rows[2][1]).max())
    assert signed[0] == expected[0]
    assert signed[-1] == (-reach, reach)


def test_slices_are_those_of_the_places():
    volume, maps = draw(7, 5, 6), 2 * draw(7, 5, 6, seed=2)
    found = shown(slices(volume, maps, [1, 4], names=("ball", "edge")))
    assert [title for title, *_ in found] == ["slice 1", "slice 4"] * 2
    for (_, values, _, _), expected in zip(found, [volume[1], volume[4], maps[1], maps[4]], strict=True):
        np.testing.assert_array_equal(values, expected)
    reach = float(np.abs(maps).max())
    assert [scale for *_, scale, _ in found[2:]] == [(-reach, reach)] * 2


def test_the_same_numbers_give_the_same_bytes():
    maps = [FilterMap("costs $1", draw(30, 40), draw(3, 3))]
    texts = {svg(maps_beside_input(np.zeros((32, 42)), maps)) for _ in range(2)}
    assert len(texts) == 1
    assert "costs $1" in texts.pop()
