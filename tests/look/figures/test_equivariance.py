"""The figure of a shifted input and its maps."""

import numpy as np

from glassrun.look.figures.equivariance import equivariance, number
from glassrun.look.figures.style import svg


def parts():
    random = np.random.default_rng(1)
    inputs = (random.random((13, 17)), random.random((13, 17)))
    maps = (random.normal(size=(13, 17)), random.normal(size=(13, 17)))
    inside = np.zeros((13, 17), dtype=bool)
    inside[3:12, 4:16] = True
    return inputs, maps, maps[1] - maps[0], inside


def test_inputs_share_a_scale_and_maps_and_difference_another():
    inputs, maps, difference, inside = parts()
    figure = equivariance(inputs, maps, difference, inside, error=0.25, shift=(2, 3))
    found = [(axes.get_title(), axes.get_images()[0]) for axes in figure.axes if axes.get_images()]
    for (_, image), values in zip(found, (inputs[0], inputs[1], *maps, difference), strict=True):
        np.testing.assert_array_equal(image.get_array(), values)
    reach = max(np.abs(values).max() for values in maps)
    assert [image.get_clim() for _, image in found] == [(0.0, 1.0)] * 2 + [(-reach, reach)] * 3
    assert found[1][0] == "input, 2 down, 3 right"
    assert found[4][0] == "difference of the maps\nlargest inside: 2.5e-01"
    assert svg(figure) == svg(equivariance(inputs, maps, difference, inside, error=0.25, shift=(2, 3)))


def test_the_border_is_hatched_and_the_inside_is_not():
    inputs, maps, difference, inside = parts()
    figure = equivariance(inputs, maps, difference, inside, error=0.0, shift=(2, 3))
    (axes,) = [a for a in figure.axes if a.collections and a.get_images()]
    hatched = axes.collections[0].get_paths()[0]
    assert axes.collections[0].hatches == ["////"]
    assert hatched.contains_point((0.5, 0.5))
    assert hatched.contains_point((15.9, 6.0))
    assert not hatched.contains_point((8.0, 6.0))


def test_without_a_border_nothing_is_hatched():
    inputs, maps, difference, inside = parts()
    everywhere = np.ones_like(inside)
    assert svg(equivariance(inputs, maps, difference, everywhere, error=0.0, shift=(0, 0))).startswith("<svg")


def test_an_error_of_nothing_is_said_to_be_exact():
    assert (number(0.0), number(2.384e-7), number(0.53)) == ("0, exactly", "2.4e-07", "5.3e-01")
