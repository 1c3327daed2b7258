"""The figure of a shifted input and its maps."""

import numpy as np
from matplotlib.path import Path

from glassrun.look.figures.equivariance import equivariance, number
from glassrun.look.figures.style import svg


def parts():
    random = np.random.default_rng(1)
    inputs = (random.random((13, 17)), random.random((13, 17)))
    maps = tuple(random.normal(size=(13, 17)) for _ in range(3))
    inside = np.zeros((13, 17), dtype=bool)
    inside[3:12, 4:16] = True
    return inputs, maps, inside


def test_inputs_share_a_scale_and_maps_and_difference_another():
    inputs, maps, inside = parts()
    figure = equivariance(inputs, maps, inside, error=0.25, shift=(2, 3))
    found = [(axes.get_title(), axes.get_images()[0]) for axes in figure.axes if axes.get_images()]
    expected = (inputs[0], maps[0], maps[1], inputs[1], maps[2], maps[2] - maps[1])
    for (_, image), values in zip(found, expected, strict=True):
        np.testing.assert_array_equal(image.get_array(), values)
    scales = [image.get_clim() for _, image in found]
    assert scales[0] == scales[3] == (0.0, 1.0)
    (low, high), *others = [scales[place] for place in (1, 2, 4, 5)]
    assert others == [(low, high)] * 3
    assert low == -high
    assert found[3][0] == "input moved 2 down, 3 right"
    assert found[5][0] == "difference: at most 0.25 inside"
    assert svg(figure) == svg(equivariance(inputs, maps, inside, error=0.25, shift=(2, 3)))


def test_the_border_is_hatched_and_the_inside_is_not():
    figure = equivariance(*parts(), error=0.0, shift=(2, 3))
    (axes,) = [a for a in figure.axes if a.collections and a.get_images()]
    assert axes.get_title().startswith("difference")
    assert axes.collections[0].hatches == ("////",)
    # What is around a place by an odd number of its outlines.
    outlines = [Path(polygon) for polygon in axes.collections[0].get_paths()[0].to_polygons()]
    hatched = [
        sum(line.contains_point(place) for line in outlines) % 2 == 1 for place in ((0.5, 0.5), (15.9, 6), (8, 6))
    ]
    assert hatched == [True, True, False]


def test_without_a_border_nothing_is_hatched():
    inputs, maps, inside = parts()
    figure = equivariance(inputs, maps, np.ones_like(inside), error=0.0, shift=(0, 0))
    assert not any(axes.collections for axes in figure.axes if axes.get_images())
    assert svg(figure).startswith("<svg")


def test_an_error_is_told_in_two_digits():
    assert (number(0.0), number(2.384e-7), number(0.534)) == ("0", "2.4e-07", "0.53")
