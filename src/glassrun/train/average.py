"""The exponential moving average of the weights (Polyak & Juditsky 1992), which is evaluated in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from glassrun.train.memory import owned
from glassrun.train.shards import summed_in

KEY = "average"  # in a checkpoint, beside the optimizer's state: `parameter/average`


def weight(step: int, decay: float) -> float:
    """How much of the average after a step the newest weights are: (1 − d) / (1 − d^t).

    So the average after step t is Σᵢ d^(t − i) θᵢ / Σᵢ d^(t − i) over the steps i = 1 … t: shares that sum to one, and
    no weights from before the first step in it. torch's `get_ema_multi_avg_fn` takes 1 − d at once, in which the first
    weights keep the share d^(t − 1); it comes to the same after many steps.

    >>> [weight(step, 0.5) for step in (1, 2, 3)]
    [1.0, 0.6666666666666666, 0.5714285714285714]
    """
    return (1 - decay) / (1 - decay**step)


class WeightAverage:
    """The average of the trained parameters; what is half precision is averaged in float32.

    Buffers are not averaged: with the averaged weights those of the step are used, as batch norm's running statistics.
    """

    def __init__(self, named_parameters: Sequence[tuple[str, nn.Parameter]], decay: float) -> None:
        self.decay = decay
        self._parameters = dict(named_parameters)
        self._averages = {name: owned(p.to(summed_in(p).dtype)) for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step."""
        share = weight(step, self.decay)
        for name, average in self._averages.items():
            if share == 1.0:  # the bits of the weights themselves: between −0 and anything there is no −0
                average.copy_(self._parameters[name])
            else:
                average.lerp_(self._parameters[name].to(average.dtype), share)

    def tensors(self) -> dict[str, Tensor]:
        """The averages as `parameter/average`."""
        return {f"{name}/{KEY}": average for name, average in self._averages.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy saved averages into place.

        Raises:
            KeyError: one is missing, or has another form.
        """
        for name, own in self.tensors().items():
            if tensors[name].shape != own.shape:
                raise KeyError(f"{name} has the shape {list(tensors[name].shape)}")
            own.copy_(tensors[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the parameters hold the averages; afterwards what they held before, to the bit."""
        before = {name: owned(parameter) for name, parameter in self._parameters.items()}
        self.write()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(before[name])

    @torch.no_grad()
    def write(self) -> None:
        """Copy the averages into the parameters."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self._averages[name])
