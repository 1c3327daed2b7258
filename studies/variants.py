"""Models that differ from glassrun's own in the one thing that a study asks about."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from glassrun.models.encoder_decoder import EncoderDecoder
from glassrun.nn.initialisation import initialise


class OneVector(EncoderDecoder):
    """An encoder-decoder whose decoder sees one vector in place of the encoder's memory: the mean over the source.

    So the whole source must fit into `d_model` numbers, whatever its length, as before attention (Cho et al. 2014).
    """

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of the encoder's output, as a memory of one position: Float[batch, 1, d_model]."""
        memory, mask = super().encode(source)
        real = mask[:, 0, 0, :, None].to(memory.dtype)
        mean = (memory * real).sum(1, keepdim=True) / real.sum(1, keepdim=True)
        return mean, torch.ones_like(mask[..., :1])


def encoder_decoder(
    source_vocabulary_size: int,
    target_vocabulary_size: int,
    max_length: int,
    padding_token: int,
    *,
    memory: str,
    **model: Any,
) -> EncoderDecoder:
    """With the whole memory ("every position") or one vector ("their mean")."""
    kind = {"every position": EncoderDecoder, "their mean": OneVector}[memory]
    made = kind(source_vocabulary_size, target_vocabulary_size, max_length, padding_token, **model)
    return started(made)


Started = TypeVar("Started", bound=nn.Module)


def started(model: Started) -> Started:
    """The model with the first parameters that glassrun gives its own: by (seed, name), as its `start` says.

    The seed is the one that torch's generator was given for the factory, which follows from the run's.
    """
    initialise(model, torch.initial_seed(), model.start)
    return model
