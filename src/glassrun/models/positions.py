"""From a name to what tells a Transformer where its tokens stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from torch import Tensor

from glassrun.errors import ModelError, nearest
from glassrun.functional.rotary import (
    linear_scaling,
    llama3_scaling,
    ntk_scaling,
    rotary_frequencies,
    yarn_amplitude,
    yarn_scaling,
)
from glassrun.nn.positions import (
    ALiBi,
    LearnedPositions,
    NoPositions,
    RelativePositions,
    RotaryPositions,
    SinusoidalPositions,
    T5Bias,
)

if TYPE_CHECKING:
    from glassrun.nn.transformer import ScoreBias

Positions = Literal["sinusoidal", "learned", "rotary", "alibi", "relative", "t5", "none"]

_BASE = 10000.0  # Su et al. 2021, section 3.2.2
_SCALINGS: dict[str, Callable[..., Tensor]] = {
    "linear": linear_scaling,
    "ntk": ntk_scaling,
    "llama3": llama3_scaling,
    "yarn": yarn_scaling,
}


def added_positions(
    kind: Positions, max_length: int, d_model: int
) -> SinusoidalPositions | LearnedPositions | NoPositions:
    """What is added to the embeddings: nothing, where attention itself knows the positions."""
    if kind not in get_args(Positions):
        raise ModelError(f"positions is {kind!r}; {nearest(str(kind), get_args(Positions))}")
    if kind == "sinusoidal":
        return SinusoidalPositions(max_length, d_model)
    return LearnedPositions(max_length, d_model) if kind == "learned" else NoPositions()


def rotary_positions(
    kind: Positions,
    max_length: int,
    d_k: int,
    *,
    base: float | None = None,
    scaling: Mapping[str, Any] | None = None,
) -> RotaryPositions | None:
    """What turns queries and keys, the same for all layers; None where `kind` is not rotary.

    Arguments:
        kind: of the positions.
        max_length: the longest text.
        d_k: features of a head.
        base: of the frequencies; None for the paper's 10,000.
        scaling: for longer texts: `kind` linear, ntk, llama3 or yarn, and the arguments of that function.

    Raises:
        ModelError: d_k is odd, or base or scaling would be ignored.
    """
    if kind != "rotary":
        if base is not None or scaling is not None:
            raise ModelError(
                f"rotary_base and rotary_scaling are of rotary positions, but positions is {kind}: leave them out, or "
                "make it rotary"
            )
        return None
    if d_k % 2:
        raise ModelError(f"rotary positions turn pairs of features, but a head has {d_k}: make it an even number")
    base = _BASE if base is None else base
    frequencies, amplitude = rotary_frequencies(d_k, base), 1.0
    if scaling is not None:
        arguments = dict(scaling)
        name = arguments.pop("kind", None)
        if name not in _SCALINGS:
            raise ModelError(f"rotary_scaling: kind is {name!r}; {nearest(str(name), _SCALINGS)}")
        if name == "yarn":
            arguments["base"], amplitude = base, yarn_amplitude(arguments["factor"])
        frequencies = _SCALINGS[name](frequencies, **arguments)
    return RotaryPositions(frequencies, max_length, amplitude=amplitude)


def score_biases(
    kind: Positions, num_layers: int, num_heads: int, d_k: int, *, bidirectional: bool
) -> Sequence[ScoreBias | None]:
    """What is added to the scores in each layer: the same module in all, but for relative positions one each."""
    match kind:
        case "alibi":
            return [ALiBi(num_heads)] * num_layers
        case "t5":
            return [T5Bias(num_heads, bidirectional=bidirectional)] * num_layers
        case "relative":
            return [RelativePositions(d_k) for _ in range(num_layers)]
    return [None] * num_layers
