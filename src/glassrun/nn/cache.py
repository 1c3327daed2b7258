"""What a decoder keeps between calls, so that each token's keys and values are computed once.

Plain data for writing with a trained model, without gradients: the buffers are filled in place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class KeysAndValues(NamedTuple):
    """Of a memory, split into heads: what cross-attention looks at."""

    keys: Float[Tensor, "batch heads key d_k"]
    values: Float[Tensor, "batch heads key d_k"]


class KeyValueCache:
    """The keys and values of one self-attention, in buffers that double when they are full.

    `length` tokens count. `write` puts further ones behind them and does not count them yet: calling an attention a
    second time with the same tokens, as a capture of its weights does, gives the same.
    """

    def __init__(self) -> None:
        self.length = 0
        self.kept: KeysAndValues | None = None

    def write(
        self, keys: Float[Tensor, "batch heads new d_k"], values: Float[Tensor, "batch heads new d_k"]
    ) -> KeysAndValues:
        """These behind the ones that count; returns all of them."""
        end = self.length + keys.shape[-2]
        self.kept = KeysAndValues(*(self._room(i, new, end) for i, new in enumerate((keys, values))))
        for buffer, new in zip(self.kept, (keys, values), strict=True):
            buffer[..., self.length : end, :] = new
        return KeysAndValues(*(buffer[..., :end, :] for buffer in self.kept))

    def select(self, rows: Int[Tensor, " new_batch"]) -> None:
        """Keep these rows of the batch, in this order; a row may come several times."""
        if self.kept is not None:
            self.kept = KeysAndValues(*(buffer[rows] for buffer in self.kept))

    def _room(self, place: int, new: Tensor, end: int) -> Tensor:
        """The buffer, or a larger one with what counts of it."""
        buffer = None if self.kept is None else self.kept[place]
        if buffer is not None and buffer.shape[-2] >= end:
            return buffer
        capacity = end if buffer is None else max(end, 2 * buffer.shape[-2])
        larger = new.new_zeros(*new.shape[:-2], capacity, new.shape[-1])
        if buffer is not None:
            larger[..., : self.length, :] = buffer[..., : self.length, :]
        return larger


@dataclass
class LayerCache:
    """Of one layer: of its tokens, and of the memory that its cross-attention looks at, computed at the first call."""

    tokens: KeyValueCache = field(default_factory=KeyValueCache)
    memory: KeysAndValues | None = None


class Cache:
    """Of all layers of a model.

    >>> import torch
    >>> from glassrun.models.language_model import LanguageModel
    >>> model = LanguageModel(7, 5, num_layers=1, d_model=4, num_heads=2, d_ff=8).eval()
    >>> cache = Cache(num_layers=1)
    >>> with torch.no_grad():
    ...     first = model(torch.tensor([[3, 1]]), cache=cache)
    ...     second = model(torch.tensor([[4]]), cache=cache)
    ...     at_once = model(torch.tensor([[3, 1, 4]]))
    >>> torch.allclose(torch.cat([first, second], 1), at_once, atol=1e-6), cache.length
    (True, 3)
    """

    def __init__(self, num_layers: int) -> None:
        self.layers = [LayerCache() for _ in range(num_layers)]
        self.length = 0

    def advance(self, count: int) -> None:
        """So many further tokens count: every layer has written them."""
        self.length += count
        for layer in self.layers:
            layer.tokens.length = self.length

    def select(self, rows: Int[Tensor, " new_batch"]) -> None:
        """Keep these rows of the batch, in this order, as beam search does; a row may come several times."""
        for layer in self.layers:
            layer.tokens.select(rows)
            if layer.memory is not None:
                layer.memory = KeysAndValues(*(kept[rows] for kept in layer.memory))
