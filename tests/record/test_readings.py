"""What the recorder reads of many tensors at once, against one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glassrun.record.fingerprint import Fingerprinter, combine, stored_name
from glassrun.record.readings import Readings


def of_parts(tensor: Tensor) -> int:
    """Of a sparse tensor, from the two that it is stored as."""
    parts = {"indices": tensor._indices(), "values": tensor._values()}
    return int(combine((stored_name(name, part), Fingerprinter()(part)) for name, part in parts.items()), 16)


@pytest.mark.parametrize("threads", [1, 3])
def test_many_tensors_are_read_as_one_by_one(threads: int) -> None:
    draw = torch.Generator().manual_seed(5)
    sizes = [3, 70_000, 0, 2048, 1, 2049, 500, 9000, 4]
    dense = [torch.randn(size, generator=draw) for size in sizes]
    dense += [dense[1].view(100, 700).t(), dense[3][1:], torch.tensor(True), dense[6].bfloat16()]
    sparse = torch.zeros(6, 4).index_fill_(0, torch.tensor([1, 4]), 2.0).to_sparse()
    readings = Readings(threads)
    found = readings.fingerprints([sparse, *dense])
    readings.close()
    assert found == [of_parts(sparse), *(Fingerprinter()(tensor) for tensor in dense)]
