"""Where tensors lie: each that enters arithmetic owns contiguous storage at a multiple of 64 bytes.

Products of MKL change bits with the alignment of their inputs (measured), so nothing is adopted from elsewhere (a view
of a batch, a file's mapping, NumPy's memory): it is copied into place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ALIGNMENT = 64  # bytes: a cache line, and what torch's CPU allocator gives


def owned(tensor: Tensor) -> Tensor:
    """A contiguous, aligned copy with storage of its own, outside any graph."""
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    copy.copy_(tensor.detach())
    assert copy.data_ptr() % ALIGNMENT == 0, "torch's allocator aligns to 64 bytes"
    return copy


def own_parameters_and_buffers(module: nn.Module) -> None:
    """Move every parameter and buffer of a module into storage of its own; shared ones stay shared."""
    # The tensors stay the objects they are: whatever else refers to one goes on meaning the same.
    for tensor in [*module.parameters(), *module.buffers()]:
        tensor.data = owned(tensor.data)


@dataclass(frozen=True)
class Segment:
    """Where one tensor lies in the flat memory of its dtype."""

    dtype: torch.dtype
    start: int
    shape: torch.Size

    @property
    def stop(self) -> int:
        return self.start + self.shape.numel()


class Layout:
    """Many tensors in one flat piece of memory per dtype, each starting at a multiple of 64 bytes.

    A flat piece is one operation where many tensors would be many. Its length is a multiple of `chunks` aligned chunks,
    so that workers can exchange equal parts of it.
    """

    def __init__(self, tensors: Sequence[Tensor], chunks: int) -> None:
        self.segments: list[Segment] = []
        self.sizes: dict[torch.dtype, int] = {}
        for tensor in tensors:
            start = self.sizes.get(tensor.dtype, 0)
            step = ALIGNMENT // tensor.itemsize
            self.segments.append(Segment(tensor.dtype, start, tensor.shape))
            self.sizes[tensor.dtype] = start + -(-tensor.numel() // step) * step
        for dtype, size in self.sizes.items():
            whole = chunks * ALIGNMENT // dtype.itemsize
            self.sizes[dtype] = -(-size // whole) * whole

    def new(self, device: torch.device) -> dict[torch.dtype, Tensor]:
        """Memory for the layout; the gaps between tensors are zero, so that sums over them stay finite."""
        return {dtype: torch.zeros(size, dtype=dtype, device=device) for dtype, size in self.sizes.items()}

    def views(self, flat: dict[torch.dtype, Tensor]) -> list[Tensor]:
        """Each tensor's place in `flat`, in its shape."""
        return [flat[s.dtype][s.start : s.stop].view(s.shape) for s in self.segments]
