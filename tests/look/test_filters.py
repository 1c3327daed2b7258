"""Known filters on pictures whose answer is known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassrun.functional.convolution import convolution
from glassrun.look import filters

SIDE = 17
LOOKING = {
    "vertical edge": filters.vertical_edge,
    "horizontal edge": filters.horizontal_edge,
    "corner": filters.corner,
    "texture": filters.texture,
}


def answer(picture, kernel):
    return convolution(picture[None, None], kernel[None, None])[0, 0]


def upright_edge(column, bright=1.0):
    picture = torch.zeros(SIDE, SIDE)
    picture[:, column:] = bright
    return picture


@pytest.mark.parametrize("name", LOOKING)
def test_an_even_picture_gives_nothing_and_no_picture_more_than_one(name):
    kernel = LOOKING[name]()
    assert answer(torch.full((SIDE, SIDE), 0.7), kernel).abs().max() < 1e-6
    assert float(kernel.clamp(min=0).sum()) == pytest.approx(1.0)
    assert float(kernel.clamp(max=0).sum()) == pytest.approx(-1.0, abs=1e-5)


def test_the_edge_filters_know_their_direction_and_its_sign():
    picture = upright_edge(8)
    found = answer(picture, filters.vertical_edge())
    assert found.max() == 1.0
    assert set((found != 0).nonzero()[:, 1].tolist()) == {6, 7}  # both windows with the edge inside
    assert answer(1 - picture, filters.vertical_edge()).min() == -1.0
    assert not answer(picture, filters.horizontal_edge()).any()
    assert torch.equal(answer(picture.T, filters.horizontal_edge()), found.T)


@given(column=st.integers(1, SIDE - 1), row=st.integers(2, SIDE - 3))
def test_the_corner_filter_answers_at_corners_alone(column, row):
    edge = upright_edge(column)
    assert not answer(edge, filters.corner()).any()
    assert not answer(edge.T, filters.corner()).any()
    quarter = upright_edge(8)
    quarter[:row] = 0.0
    found = answer(quarter, filters.corner())
    assert (found != 0).nonzero().tolist() == [[r, c] for r in (row - 2, row - 1) for c in (6, 7)]


def test_the_texture_filter_answers_to_stripes_of_its_own():
    def stripes(wavelength, angle):
        places = torch.arange(48.0)
        along = places * math.cos(angle) + places[:, None] * math.sin(angle)
        return 0.5 + 0.5 * torch.cos(2 * math.pi * along / wavelength)

    own = answer(stripes(4.0, 0.0), filters.texture(wavelength=4.0)).abs().max()
    for wavelength, angle in ((4.0, math.pi / 2), (12.0, 0.0), (2.0, 0.0), (4.0, math.pi / 4)):
        assert answer(stripes(wavelength, angle), filters.texture(wavelength=4.0)).abs().max() < own / 3
    turned = answer(stripes(4.0, math.pi / 2), filters.texture(wavelength=4.0, angle=math.pi / 2)).abs().max()
    assert float(turned) == pytest.approx(float(own), abs=1e-5)


def test_the_blur_keeps_the_mean_and_takes_the_contrast():
    assert torch.allclose(filters.blur(3), torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16)
    board = (torch.arange(24)[:, None] + torch.arange(24)).remainder(2).float()
    assert torch.allclose(answer(board, filters.blur()), torch.tensor(0.5), atol=1e-2)


def test_the_edge_in_depth_answers_where_slices_change():
    volume = torch.zeros(7, 9, 9)
    volume[3:] = 1.0
    found = convolution(volume[None, None], filters.edge_in_depth()[None, None])[0, 0]
    assert found[1:3].eq(1.0).all()
    assert not found[3:].any()
    assert not convolution(volume.movedim(0, 1)[None, None], filters.edge_in_depth()[None, None]).any()
