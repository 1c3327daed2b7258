"""A network drawn from its layers' shapes."""

import math

import pytest
from matplotlib.patches import FancyArrowPatch, Polygon

from glassrun.look.figures.network import Block, network
from glassrun.look.figures.style import svg

BLOCKS = [
    Block("input", "input", (3, 64, 64)),
    Block("convolution", "conv 7 × 7", (16, 32, 32), 2352, ("stride 2, pad 3",)),
    Block("block", "ResidualBlock", (16, 16, 16), 4672, ("2 weighted layers",), count=3, branches=True),
    Block("pooling", "global average", (16,)),
    Block("linear", "linear", (10,), 170, ("from 16",)),
]


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


def fronts(figure):
    """Width and height of each block's front, which is the first of three sides."""
    sides = [patch.get_xy()[:4] for axes in figure.axes for patch in axes.patches if isinstance(patch, Polygon)]
    return [(side[1][0] - side[0][0], side[3][1] - side[0][1]) for side in sides[::3]]


def test_every_block_is_told():
    assert texts(network(BLOCKS)) == [
        *("input", "3 × 64 × 64"),
        *("conv 7 × 7", "stride 2, pad 3", "16 × 32 × 32", "2,352 parameters"),
        *("ResidualBlock × 3", "2 weighted layers", "16 × 16 × 16", "4,672 parameters"),
        *("global average", "16 features"),
        *("linear", "from 16", "10 features", "170 parameters"),
    ]


def test_sizes_follow_the_shapes():
    (_, tall), (thin, half), *same, (_, features), (_, fewer) = fronts(network(BLOCKS))
    assert half / tall == pytest.approx(math.sqrt(0.5))
    assert len(same) == 3  # one for each of the repeated blocks
    assert all(abs(width - thin) < 1e-9 and abs(height / tall - 0.5) < 1e-9 for width, height in same)
    assert fewer < features


def test_an_arc_stands_where_branches_are():
    arcs = [p for axes in network(BLOCKS).axes for p in axes.patches if isinstance(p, FancyArrowPatch)]
    assert len(arcs) == 1


def test_a_long_network_goes_on_in_the_next_line():
    long = [BLOCKS[0], *(Block("convolution", f"conv {n}", (4, 8, 8), n + 1) for n in range(20))]
    figure = network(long)
    assert len(figure.axes) == 4
    assert [text for text in texts(figure) if text.startswith("conv")] == [f"conv {n}" for n in range(20)]
    assert svg(figure) == svg(network(long))


def test_one_block_alone_and_shapes_of_any_length():
    assert texts(network([Block("input", "tokens", (7, 12)), Block("other", "x", (5,))])) == [
        *("tokens", "7 × 12"),
        *("x", "5 features"),
    ]
    assert svg(network([Block("input", "input", (1, 1, 1))])).startswith("<svg")
