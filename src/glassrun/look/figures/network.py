"""A network drawn from its layers' shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from glassrun.look.figures.style import INK, LIGHT, WIDTH, plain, styled, subplots

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
_IN_A_LINE = 6  # at most
# In inches:
_TALLEST, _SIDE, _LENGTH = 1.0, 0.8, 0.3  # of a bar, of a block's height and depth, of its length
_SLANT = 0.32  # how far depth goes to the right, of its length
_TEXT_LINE, _TEXT_GAP = 0.135, 0.07
_OVER, _OVER_BRANCHES, _ARC_GAP = 0.05, 0.2, 0.1  # what is free above, and between a block and its arc


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


@styled
def network(blocks: Sequence[Block]) -> Figure:
    """The blocks in the order in which the image goes through, line by line as text is read.

    A block's height and depth grow with the square roots of its maps' height and width, its length with the logarithm
    of how many maps there are. Features without places are a bar whose height grows with the logarithm of their number.

    Arguments:
        blocks: at least one; the first is the input.
    """
    lines = -(-len(blocks) // _IN_A_LINE)
    columns = -(-len(blocks) // lines)
    below = _TEXT_GAP + _TEXT_LINE * max(len(_texts(block)) for block in blocks)
    above = _TALLEST + (_OVER_BRANCHES if any(block.branches for block in blocks) else _OVER)
    figure, grid = subplots(lines, 1, size=(WIDTH, lines * (below + above)), squeeze=False)
    scale = _Scale(blocks)
    cell = WIDTH / columns
    for number, axes in enumerate(grid[:, 0]):
        axes.set(xlim=(0, WIDTH), ylim=(-below, above), aspect="equal")
        axes.axis("off")
        for place, block in enumerate(blocks[number * columns : (number + 1) * columns]):
            middle = (place + 0.5) * cell
            _draw(axes, middle, block, scale)
            _label(axes, middle, block)
            if number or place:
                _arrow(axes, place * cell)
    return figure


class _Scale:
    """How large a block is drawn, in inches."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        maps = [block.shape for block in blocks if len(block.shape) == 3]
        self._side = max((max(shape[1:]) for shape in maps), default=1)
        self._maps = max((shape[0] for shape in maps), default=1)
        self._features = max((math.prod(block.shape) for block in blocks if len(block.shape) != 3), default=1)

    def box(self, shape: Sequence[int]) -> tuple[float, float, float]:
        """Length, height and depth."""
        if len(shape) == 3:
            channels, height, width = shape
            length = _LENGTH * (0.2 + 0.8 * math.log1p(channels) / math.log1p(self._maps))
            return length, _SIDE * math.sqrt(height / self._side), _SIDE * math.sqrt(width / self._side)
        return 0.1, _TALLEST * (0.15 + 0.85 * math.log1p(math.prod(shape)) / math.log1p(self._features)), 0.0


def _draw(axes: Axes, x: float, block: Block, scale: _Scale) -> None:
    """The block around x: its front, and where it has depth its top and its side."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Polygon

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
        _arc(axes, x, (_TALLEST + height + up) / 2 + _ARC_GAP)


def _arc(axes: Axes, x: float, top: float) -> None:
    """From before the block over its top to behind it."""
    from matplotlib.patches import FancyArrowPatch

    ends = ((x - 0.38, _TALLEST / 2), (x + 0.38, _TALLEST / 2))
    path = f"arc3,rad={-2 * (top - _TALLEST / 2) / 0.76}"  # it rises by half of that, in units of its width
    axes.add_patch(
        FancyArrowPatch(*ends, connectionstyle=path, arrowstyle="->", mutation_scale=8, color=INK, linewidth=0.9)
    )


def _arrow(axes: Axes, x: float) -> None:
    """To the next block."""
    ends = ((x + 0.1, _TALLEST / 2), (x - 0.1, _TALLEST / 2))
    axes.annotate("", *ends, arrowprops={"arrowstyle": "->", "color": LIGHT})


def _label(axes: Axes, x: float, block: Block) -> None:
    for number, text in enumerate(_texts(block)):
        weight, y = ("bold" if number == 0 else "normal"), -_TEXT_GAP - _TEXT_LINE * number
        axes.text(x, y, plain(text), ha="center", va="top", fontsize=7, color=INK, weight=weight)


def _texts(block: Block) -> list[str]:
    """The lines below a block."""
    title = block.title if block.count == 1 else f"{block.title} × {block.count}"
    shape = " × ".join(map(str, block.shape)) if len(block.shape) != 1 else f"{block.shape[0]} features"
    return [title, *block.notes, shape, *([f"{block.parameters:,} parameters"] if block.parameters else [])]
