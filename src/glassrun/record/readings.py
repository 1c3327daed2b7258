"""Numbers read off tensors where they lie: on the CPU by several threads, from another device with one copy for all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from glassrun.exact import bits
from glassrun.record.fingerprint import Fingerprinter, combine, stored_name
from glassrun.record.words import SMALL

Reading = int | Tensor
"""64 bits: known, or Int64[] on another device, where it may still be computed."""

_CHUNK = 4096  # elements whose squares are summed together, so that the sum does not depend on the number of threads


class Readings:
    """Reads fingerprints and numbers. It changes nothing, draws nothing, and keeps no graph.

    Arguments:
        threads: how many may read at once: as many as the loop itself uses.
    """

    def __init__(self, threads: int) -> None:
        self._fingerprinter = Fingerprinter()
        self._pool = ThreadPoolExecutor(threads, "glassrun") if threads > 1 else None

    def fingerprints(self, tensors: Sequence[Tensor]) -> list[Reading]:
        """The fingerprint of each tensor; of a sparse one, over its indices and values as they are stored."""
        if self._pool is not None:
            self._fingerprinter.reserve(tensors)
        small = [place for place, tensor in enumerate(tensors) if _small(tensor)]
        found: dict[int, Reading] = dict(
            zip(small, self._fingerprinter.of_each([tensors[place] for place in small]), strict=True)
        )
        # The large ones first, so that no thread is left alone with one at the end.
        order = sorted(set(range(len(tensors))) - set(small), key=lambda place: -tensors[place].numel())
        apply = map if self._pool is None else self._pool.map
        found |= zip(order, apply(self._fingerprint, [tensors[place] for place in order]), strict=True)
        return [found[place] for place in range(len(tensors))]

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def _fingerprint(self, tensor: Tensor) -> Reading:
        if tensor.layout == torch.strided:
            return self._fingerprinter.begin(tensor)
        parts = sparse_parts(tensor.detach())
        entries = [(stored_name(name, part), self._fingerprinter(part)) for name, part in parts.items()]
        return int(combine(entries), 16)


def _small(tensor: Tensor) -> bool:
    """Whether it is sooner read together with others than alone."""
    return tensor.layout == torch.strided and tensor.is_cpu and tensor.nbytes <= 8 * SMALL


def sparse_parts(tensor: Tensor) -> dict[str, Tensor]:
    """The dense tensors that a sparse one is stored as."""
    return {"indices": tensor._indices(), "values": tensor._values()}


def readable(tensor: Tensor) -> bool:
    """Whether a tensor has bytes of its own, in a layout that is known here."""
    return (
        tensor.layout in (torch.strided, torch.sparse_coo)
        and tensor.device.type != "meta"
        and not tensor.is_quantized
        and not hasattr(tensor, "device_mesh")  # a DTensor is a part of a tensor
    )


def number(value: Tensor | float) -> Reading:
    """The bits of a number as a double."""
    if not isinstance(value, Tensor):
        return bits(float(value))
    if value.device.type == "cpu":
        return bits(float(value.detach().double()))
    return value.detach().double().reshape(()).view(torch.int64)


def square_sum(tensor: Tensor) -> Tensor:
    """Σ x² over a tensor: Float64[] on its device, the same on any number of CPU threads."""
    if tensor.layout != torch.strided:
        tensor = sparse_parts(tensor)["values"]
    flat = tensor.detach().reshape(-1)
    if flat.itemsize < 4:
        flat = flat.float()
    whole = flat.numel() // _CHUNK * _CHUNK
    norms = [torch.linalg.vector_norm(flat[whole:]).double().reshape(1)]
    if whole:
        norms.append(torch.linalg.vector_norm(flat[:whole].view(-1, _CHUNK), dim=1).double())
    return torch.cat(norms).square().sum()


def resolve(*groups: Sequence[Reading | None]) -> list[list[int | None]]:
    """The values in [0, 2⁶⁴) of several groups, with one copy from each device for all of them."""
    flat = [value for group in groups for value in group]
    found = [value if isinstance(value, int) else None for value in flat]
    there: dict[torch.device, dict[int, Tensor]] = defaultdict(dict)
    for place, value in enumerate(flat):
        if isinstance(value, Tensor):
            there[value.device][place] = value
    for waiting in there.values():
        for place, number in zip(waiting, torch.stack(list(waiting.values())).tolist(), strict=True):
            found[place] = number % 2**64
    values = iter(found)
    return [[next(values) for _ in group] for group in groups]
