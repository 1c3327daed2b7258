"""A network drawn from its layers' shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from glassrun.look.figures.style import INK, LIGHT, plain, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["input", "convolution", "pooling", "linear", "block", "other"]
_COLORS: dict[Kind, str] = {
    "input": "#d9d9d9",
    "convolution": "#56b4e9",
    "pooling": "#b8c4cf",
    "linear": "#e69f00",
    "block": "#009e73",
    "other": "#e8dccb",
}
_IN_A_ROW = 7
_TALLEST = 1.0  # of a block, in cells
_SLANT = 0.32  # how far the depth goes up and to the right, of its length


@dataclass(frozen=True)
class Block:
    """One layer, or one block of layers.

    Arguments:
        kind: decides its colour.
        title: what it is, for example `conv 3 × 3`.
        shape: of its output, without the batch: (maps, height, width), or (features,).
        parameters: of all that is in it, once.
        notes: lines below the title.
        count: how many of the same follow each other.
        branches: whether it has ways that meet again, which is drawn as an arc over it.
    """

    kind: Kind
    title: str
    shape: tuple[int, ...]
    parameters: int = 0
    notes: tuple[str, ...] = ()
    count: int = 1
    branches: bool = False


def network(blocks: Sequence[Block]) -> Figure:
    """The blocks in the order in which the image goes through, line by line as text is read.

    A block's height and depth grow with the square roots of its maps' height and width, its length with the logarithm
    of how many maps there are. Features without places are a bar whose height grows with the logarithm of their number.

    Arguments:
        blocks: at least one; the first is the input.
    """
    lines = -(-len(blocks) // _IN_A_ROW)
    under = max(len(block.notes) for block in blocks) + 3  # lines of text below a block
    cell = 7.6 / _IN_A_ROW
    below = 0.15 * under / cell  # in cells
    size = (7.6, lines * (cell * (_TALLEST + 0.62) + 0.15 * under))
    figure, grid = subplots(lines, 1, size=size, squeeze=False)
    scale = _Scale(blocks)
    for number, axes in enumerate(grid[:, 0]):
        axes.set(xlim=(0, _IN_A_ROW), ylim=(-below, _TALLEST + 0.6), aspect="equal")
        axes.axis("off")
        for place, block in enumerate(blocks[number * _IN_A_ROW : (number + 1) * _IN_A_ROW]):
            _draw(axes, place + 0.5, block, scale)
            _label(axes, place + 0.5, block, 0.15 / cell)
            if number or place:
                middle = _TALLEST / 2
                axes.annotate(
                    "", (place + 0.13, middle), (place - 0.08, middle), arrowprops={"arrowstyle": "->", "color": LIGHT}
                )
    return figure


class _Scale:
    """How large a block is drawn, in cells."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        maps = [block.shape for block in blocks if len(block.shape) == 3]
        self._side = max((max(shape[1:]) for shape in maps), default=1)
        self._maps = max((shape[0] for shape in maps), default=1)
        self._features = max((math.prod(block.shape) for block in blocks if len(block.shape) != 3), default=1)

    def box(self, shape: Sequence[int]) -> tuple[float, float, float]:
        """Length, height and depth."""
        if len(shape) == 3:
            channels, height, width = shape
            length = 0.06 + 0.24 * math.log1p(channels) / math.log1p(self._maps)
            return length, math.sqrt(height / self._side) * 0.78, math.sqrt(width / self._side) * 0.78
        return 0.09, 0.15 + 0.85 * math.log1p(math.prod(shape)) / math.log1p(self._features), 0.0


def _draw(axes: Axes, x: float, block: Block, scale: _Scale) -> None:
    """The block around x: its front, and where it has depth its top and its side."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import FancyArrowPatch, Polygon

    length, height, depth = scale.box(block.shape)
    up, right = depth * _SLANT * 0.7, depth * _SLANT
    color: Any = to_rgb(_COLORS[block.kind])
    copies = min(block.count, 3)
    for copy in reversed(range(copies)):  # the hindmost first
        left = x - (length + right) / 2 + (copy - (copies - 1) / 2) * 0.07
        bottom = (_TALLEST - height - up) / 2
        front = [(left, bottom), (left + length, bottom), (left + length, bottom + height), (left, bottom + height)]
        top = [front[3], front[2], (left + length + right, bottom + height + up), (left + right, bottom + height + up)]
        side = [front[1], (left + length + right, bottom + up), top[2], front[2]]
        for corners, light in ((front, 1.0), (top, 1.0), (side, 0.78)):
            shade = tuple(light * part for part in color)
            axes.add_patch(Polygon(corners, facecolor=shade, edgecolor=INK, linewidth=0.6, joinstyle="round"))
    if block.branches:
        ends = ((x - 0.36, _TALLEST / 2), (x + 0.36, _TALLEST / 2))
        axes.add_patch(
            FancyArrowPatch(
                *ends, connectionstyle="arc3,rad=-0.9", arrowstyle="->", mutation_scale=7, color=INK, lw=0.9
            )
        )


def _label(axes: Axes, x: float, block: Block, line: float) -> None:
    title = block.title if block.count == 1 else f"{block.title}, {block.count} times"
    shape = " × ".join(map(str, block.shape)) if len(block.shape) != 1 else f"{block.shape[0]} features"
    texts = [title, *block.notes, shape, f"{block.parameters:,} param." if block.parameters else ""]
    for number, text in enumerate(texts):
        weight = "bold" if number == 0 else "normal"
        axes.text(x, -0.06 - line * number, plain(text), ha="center", va="top", fontsize=7, color=INK, weight=weight)
